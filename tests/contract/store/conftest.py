"""The stores that the contract is tested on: a SQLite file and Firestore in the emulator, fresh for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from goagents.store.base import Store
from goagents.store.indexes import Index
from goagents.store.sqlite import SQLiteStore

INDEXES = (
    Index("items", ("rank",)),
    Index("items", ("made_at",)),
    Index("items", ("group",)),
    Index("items", ("group", "rank")),
    Index("items", ("group", "rank"), descending=True),
    Index("items", ("group", "colour", "made_at")),
    Index("items", ("__name__",), descending=True),
)


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("firestore", marks=[pytest.mark.emulator, pytest.mark.xdist_group("firestore")]),
    ]
)
async def store(request: pytest.FixtureRequest, tmp_path: Path, project: str) -> AsyncIterator[Store]:
    made: Store
    if request.param == "sqlite":
        made = SQLiteStore(str(tmp_path / "store.db"), indexes=INDEXES)
    else:
        request.getfixturevalue("firestore_address")
        from goagents.store.firestore import FirestoreStore  # noqa: PLC0415 - a second of import, where it is needed

        made = FirestoreStore(project, indexes=INDEXES)
    yield made
    await made.aclose()
