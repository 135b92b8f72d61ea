"""The stores the engine is tested on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from goagents.store.base import Store
from goagents.store.sqlite import SQLiteStore


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("firestore", marks=[pytest.mark.emulator, pytest.mark.xdist_group("firestore")]),
    ]
)
async def store(request: pytest.FixtureRequest, tmp_path: Path, project: str) -> AsyncIterator[Store]:
    made: Store
    if request.param == "sqlite":
        made = SQLiteStore(str(tmp_path / "engine.db"))
    else:
        request.getfixturevalue("firestore_address")
        from goagents.store.firestore import FirestoreStore  # noqa: PLC0415 - a second of import, where it is needed

        made = FirestoreStore(project)
    yield made
    await made.aclose()
