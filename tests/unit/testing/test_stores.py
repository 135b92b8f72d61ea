"""The recording store counts the rounds that its user waits for one after the other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from goagents.errors import StoreConflict
from goagents.store.base import PRESENT, Put, Query
from goagents.store.sqlite import SQLiteStore
from goagents.testing.stores import Call, RecordingStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[RecordingStore]:
    made = RecordingStore(SQLiteStore(str(tmp_path / "store.db")))
    yield made
    await made.aclose()


async def test_calls_one_after_the_other_are_rounds_each(store: RecordingStore):
    await store.get_many(["items/a", "items/b"])
    await store.commit([Put("items/a", {"n": 1})])
    page = await store.query(Query("items"))
    await store.check()
    assert await store.purge() == 0
    assert [one.path for one in page.documents] == ["items/a"]
    assert store.rounds == 5
    assert store.calls == [
        Call("get_many", ("items/a", "items/b"), 1),
        Call("commit", ("items/a",), 2),
        Call("query", ("items",), 3),
        Call("check", (), 4),
        Call("purge", (), 5),
    ]
    store.reset()
    assert (store.rounds, store.calls) == (0, [])


async def test_calls_issued_together_are_one_round(store: RecordingStore):
    await asyncio.gather(*(store.commit([Put(f"items/{n}", {})]) for n in range(10)))
    assert (store.rounds, len(store.calls)) == (1, 10)
    await asyncio.gather(store.check(), store.commit([Put("items/x", {})]))
    assert store.rounds == 2


async def test_a_failed_call_ends_its_round_and_its_error_comes_through(store: RecordingStore):
    with pytest.raises(StoreConflict):
        await store.commit([Put("items/a", {}, PRESENT)])
    await store.check()
    assert store.rounds == 2
