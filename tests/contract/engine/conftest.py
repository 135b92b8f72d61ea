from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from goagents.store.base import Store
from goagents.store.sqlite import SQLiteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = SQLiteStore(str(tmp_path / "engine.db"))
    yield store
    await store.aclose()
