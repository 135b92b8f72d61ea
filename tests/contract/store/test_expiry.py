"""Expired is absent, at once and for everything, whether or not anything has deleted it. Runs on every store."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goagents.errors import StoreConflict
from goagents.store.base import ABSENT, PRESENT, AtVersion, Delete, Filter, Merge, Put, Query, Store
from goagents.store.sqlite import SQLiteStore

PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime(2999, 1, 1, tzinfo=UTC)


async def data_of(store: Store, path: str) -> dict[str, Any] | None:
    document = (await store.get_many([path])).get(path)
    return document.data if document else None


async def test_an_expired_document_is_not_read(store: Store):
    await store.commit(
        [Put("items/old", {"rank": 1, "expire_at": PAST}), Put("items/new", {"rank": 2, "expire_at": FUTURE})]
    )
    assert set((await store.get_many(["items/old", "items/new"])).documents) == {"items/new"}
    for query in (Query("items"), Query("items", order_by="rank")):
        assert [one.path for one in (await store.query(query)).documents] == ["items/new"]


async def test_it_expires_by_itself(store: Store):
    soon = (await store.get_many([])).read_at + timedelta(seconds=0.5)
    await store.commit([Put("items/a", {"expire_at": soon})])
    assert await data_of(store, "items/a") == {"expire_at": soon}
    await asyncio.sleep(0.6)
    assert await data_of(store, "items/a") is None


async def test_an_expired_document_can_be_made_anew(store: Store):
    await store.commit([Put("items/a", {"n": 1, "expire_at": PAST}), Put("items/b", {"n": 1, "expire_at": PAST})])
    await store.commit(
        [Put("items/a", {"n": 2}, ABSENT), Merge("items/b", {"m": 2}, ABSENT), Put("items/c", {}, ABSENT)]
    )
    assert await data_of(store, "items/a") == {"n": 2}
    assert await data_of(store, "items/b") == {"m": 2}
    with pytest.raises(StoreConflict):
        await store.commit([Put("items/a", {"n": 3}, ABSENT)])


async def test_of_many_that_make_it_anew_exactly_one_wins(store: Store):
    await store.commit([Put("items/a", {"n": -1, "expire_at": PAST})])
    outcomes = await asyncio.gather(
        *(store.commit([Put("items/a", {"n": n}, ABSENT)]) for n in range(20)), return_exceptions=True
    )
    won = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
    assert sum(isinstance(outcome, StoreConflict) for outcome in outcomes) == 19
    assert await data_of(store, "items/a") == {"n": won[0]}


async def test_one_that_is_there_makes_the_whole_commit_fail(store: Store):
    await store.commit([Put("items/old", {"n": 1, "expire_at": PAST}), Put("items/a", {"n": 1})])
    with pytest.raises(StoreConflict):
        await store.commit([Put("items/old", {"n": 2}, ABSENT), Put("items/a", {"n": 2}, ABSENT)])
    assert await data_of(store, "items/old") is None
    assert await data_of(store, "items/a") == {"n": 1}


async def test_a_merge_into_an_expired_document_begins_anew(store: Store):
    await store.commit([Put("items/a", {"n": 5, "old": [1], "expire_at": PAST})])
    await store.commit([Merge("items/a", {"new": 1}, increments={"n": 1})])
    assert await data_of(store, "items/a") == {"new": 1, "n": 1}


async def test_a_put_over_an_expired_document_needs_nothing(store: Store):
    await store.commit([Put("items/a", {"n": 5, "expire_at": PAST})])
    await store.commit([Put("items/a", {"n": 6})])
    assert await data_of(store, "items/a") == {"n": 6}


@pytest.mark.parametrize(
    "write", [Put("items/a", {"n": 2}, PRESENT), Merge("items/a", {"n": 2}, PRESENT), Delete("items/a", PRESENT)]
)
async def test_an_expired_document_is_not_present(store: Store, write: Any):
    await store.commit([Put("items/a", {"n": 1, "expire_at": PAST})])
    with pytest.raises(StoreConflict):
        await store.commit([write])
    await store.commit([Delete("items/a")])


async def test_an_expired_document_is_at_no_version(store: Store):
    version = (await store.commit([Put("items/a", {"n": 1, "expire_at": PAST})])).versions["items/a"]
    with pytest.raises(StoreConflict):
        await store.commit([Merge("items/a", {"n": 2}, AtVersion(version))])
    soon = (await store.get_many([])).read_at + timedelta(seconds=0.4)
    await store.commit([Put("items/b", {"n": 1, "expire_at": soon})])
    read = (await store.get_many(["items/b"])).documents["items/b"]
    await asyncio.sleep(0.6)
    with pytest.raises(StoreConflict):
        await store.commit([Merge("items/b", {"expire_at": FUTURE}, AtVersion(read.version))])
    assert await data_of(store, "items/b") is None


async def test_a_life_can_be_prolonged_and_ended(store: Store):
    version = (await store.commit([Put("items/a", {"n": 1, "expire_at": FUTURE})])).versions["items/a"]
    version = (await store.commit([Merge("items/a", {"expire_at": None}, AtVersion(version))])).versions["items/a"]
    assert await data_of(store, "items/a") == {"n": 1, "expire_at": None}
    await store.commit([Merge("items/a", {"expire_at": PAST}, AtVersion(version))])
    assert await data_of(store, "items/a") is None


async def test_pages_are_filled_past_expired_documents(store: Store):
    await store.commit(
        [
            Put(f"items/{n:03d}", {"group": "g", "rank": n, **({"expire_at": PAST} if n % 10 else {})})
            for n in range(200)
        ]
    )
    query = Query("items", (Filter("group", "==", "g"),), "rank", limit=7)
    page = await store.query(query)
    assert [one.data["rank"] for one in page.documents] == [0, 10, 20, 30, 40, 50, 60]
    rest = await store.query(Query("items", query.where, "rank", limit=50, after=page.next_cursor))
    assert [one.data["rank"] for one in rest.documents] == list(range(70, 200, 10))
    assert rest.next_cursor is None


async def test_purge_takes_expired_documents_alone_and_in_bounds(store: Store):
    await store.commit([Put(f"items/{n}", {"expire_at": PAST}) for n in range(25)])
    await store.commit([Put("items/kept", {"expire_at": FUTURE}), Put("items/always", {})])
    gone = [await store.purge(10) for _ in range(4)]
    assert gone == ([10, 10, 5, 0] if isinstance(store, SQLiteStore) else [0, 0, 0, 0])
    assert {one.id for one in (await store.query(Query("items"))).documents} == {"kept", "always"}
