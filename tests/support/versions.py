"""Versions of GoAgents that share a store: what an older one left there, and one that is newer than any there is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from goagents.store.base import Commit, Delete, Put, Store, Write
from goagents.testing.stores import PassingStore

RECORDED = Path(__file__).parents[1] / "contract" / "engine" / "data"
NEWER: Mapping[str, Any] = {
    "newer_text": "of a later version",
    "newer_number": 7,
    "newer_things": [{"of": "a later version"}],
    "newer_at": datetime(2031, 1, 1, tzinfo=UTC),
}


def recorded_versions() -> list[str]:
    """Return the versions whose records `tests/support/versions_made.py` has written down."""
    return sorted(path.stem for path in RECORDED.glob("*.json"))


async def left_by(version: str, store: Store) -> dict[str, str]:
    """Put into `store` what a process of `version` left as it died; return its last run in each session.

    Times are moved so that it was done just now: nothing of it has expired, and leases last as they did.
    """
    made = json.loads((RECORDED / f"{version}.json").read_text(encoding="utf-8"))
    later = datetime.now(UTC) - datetime.fromisoformat(made["written_at"])
    documents = {
        path: {
            name: datetime.fromisoformat(value) + later if name.endswith("_at") and value is not None else value
            for name, value in data.items()
        }
        for path, data in made["documents"].items()
    }
    await store.commit([Put(path, data) for path, data in documents.items()])
    runs = [data for path, data in documents.items() if path.startswith("tenants/default/runs/") and "session" in data]
    return {run["session"]: run["id"] for run in sorted(runs, key=lambda run: run["created_at"])}


class NewerStore(PassingStore):
    """The store as a newer version uses it: each document it writes has fields that no version knows yet.

    `written` are the paths of those it made or put whole.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.written: set[str] = set()

    async def commit(self, writes: Sequence[Write]) -> Commit:
        self.written |= {write.path for write in writes if not isinstance(write, Delete)}
        return await super().commit(
            [write if isinstance(write, Delete) else replace(write, data={**write.data, **NEWER}) for write in writes]
        )


async def without_newer(store: Store, paths: set[str]) -> set[str]:
    """Return those of the documents at `paths` that are there and have lost what the newer version knows of them."""
    ordered = sorted(paths)
    found = [
        document
        for start in range(0, len(ordered), 100)
        for document in (await store.get_many(ordered[start : start + 100])).documents.values()
    ]
    return {document.path for document in found if any(document.data.get(n) != v for n, v in NEWER.items())}
