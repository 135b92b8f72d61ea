"""Queries, their order and their pages. Runs on every store."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goagents.errors import Invalid
from goagents.store.base import MAX_PAGE, Delete, Document, Filter, Put, Query, Store

START = datetime(2026, 1, 1, tzinfo=UTC)


async def ids(store: Store, query: Query) -> list[str]:
    return [one.id for one in (await store.query(query)).documents]


async def every(store: Store, query: Query) -> list[Document]:
    """All pages of a query, one after the other."""
    found: list[Document] = []
    for _ in range(1000):
        page = await store.query(query)
        found += page.documents
        if page.next_cursor is None:
            return found
        query = Query(query.collection, query.where, query.order_by, query.descending, query.limit, page.next_cursor)
    pytest.fail("the pages do not end")


async def fill(store: Store, documents: dict[str, Any], collection: str = "items") -> None:
    await store.commit([Put(f"{collection}/{name}", data) for name, data in documents.items()])


async def test_without_an_order_it_is_that_of_the_ids(store: Store):
    names = ["b", "a", "B", "10", "9", "é", "a-", "a.b", "😀", "Z"]
    await fill(store, {name: {"n": 1} for name in names})
    assert await ids(store, Query("items")) == sorted(names, key=str.encode)
    assert await ids(store, Query("items", descending=True)) == sorted(names, key=str.encode, reverse=True)


async def test_a_collection_is_that_alone(store: Store):
    await fill(store, {"a": {}, "b": {}})
    await fill(store, {"below": {}}, "items/a/items")
    await fill(store, {"beside": {}}, "items2")
    await fill(store, {"other": {}}, "owners/a/items")
    assert await ids(store, Query("items")) == ["a", "b"]
    assert await ids(store, Query("items/a/items")) == ["below"]
    assert await ids(store, Query("owners/a/items")) == ["other"]
    assert await ids(store, Query("items/none/items")) == []


async def test_an_empty_collection_has_an_empty_page(store: Store):
    page = await store.query(Query("items", order_by="rank"))
    assert (page.documents, page.next_cursor) == ((), None)
    assert abs(datetime.now(UTC) - page.read_at) < timedelta(minutes=1)


async def test_documents_come_whole_and_with_their_version(store: Store):
    data = {"rank": 1, "payload": {"deep": [1, {"x": None}]}, "made_at": START, "text": "é"}
    committed = await store.commit([Put("items/a", data)])
    (found,) = (await store.query(Query("items", order_by="rank"))).documents
    assert (found.path, found.data, found.version) == ("items/a", data, committed.versions["items/a"])


async def test_filters_by_equality(store: Store):
    await fill(
        store,
        {
            "a": {"group": "g", "rank": 1},
            "b": {"group": "h", "rank": 2},
            "c": {"group": "g", "rank": 3},
            "d": {"rank": 4},
            "e": {"group": None, "rank": 5},
            "f": {"group": ["g"], "rank": 6},
        },
    )
    assert await ids(store, Query("items", (Filter("group", "==", "g"),))) == ["a", "c"]
    assert await ids(store, Query("items", (Filter("group", "==", "g"),), "rank", descending=True)) == ["c", "a"]
    assert await ids(store, Query("items", (Filter("group", "==", "g"),), descending=True)) == ["c", "a"]
    assert await ids(store, Query("items", (Filter("group", "==", "x"),))) == []


async def test_types_are_told_apart(store: Store):
    values = {"true": True, "one": 1, "float": 1.0, "text": "1", "false": False, "zero": 0, "null": None}
    await fill(store, {name: {"group": value} for name, value in values.items()})
    assert await ids(store, Query("items", (Filter("group", "==", True),))) == ["true"]
    assert await ids(store, Query("items", (Filter("group", "==", 1),))) == ["float", "one"]
    assert await ids(store, Query("items", (Filter("group", "==", "1"),))) == ["text"]
    assert await ids(store, Query("items", (Filter("group", "==", 0),))) == ["zero"]


async def test_several_equalities_and_an_order(store: Store):
    await fill(
        store,
        {
            f"{n:02d}": {"group": "gh"[n % 2], "colour": "rgb"[n % 3], "made_at": START - timedelta(hours=n)}
            for n in range(24)
        },
    )
    where = (Filter("colour", "==", "g"), Filter("group", "==", "g"))
    assert await ids(store, Query("items", where, "made_at")) == ["22", "16", "10", "04"]


@pytest.mark.parametrize(("op", "expected"), [("<", "01"), ("<=", "012"), (">", "345"), (">=", "2345"), ("==", "2")])
async def test_ranges_on_the_order(store: Store, op: Any, expected: str):
    moments = [START + timedelta(microseconds=n) for n in range(6)]
    await fill(store, {str(n): {"made_at": moment, "rank": n / 2} for n, moment in enumerate(moments)})
    order = None if op == "==" else "made_at"
    assert await ids(store, Query("items", (Filter("made_at", op, moments[2]),), order)) == list(expected)
    order = None if op == "==" else "rank"
    assert await ids(store, Query("items", (Filter("rank", op, 1),), order)) == list(expected)


async def test_documents_without_the_order_field_are_left_out_and_null_comes_first(store: Store):
    await fill(store, {"a": {"rank": 2}, "b": {}, "c": {"rank": None}, "d": {"rank": 1}, "e": {"rank": None}})
    assert await ids(store, Query("items", order_by="rank")) == ["c", "e", "d", "a"]
    assert [one.id for one in await every(store, Query("items", order_by="rank", limit=1))] == ["c", "e", "d", "a"]
    backwards = Query("items", order_by="rank", descending=True, limit=1)
    assert [one.id for one in await every(store, backwards)] == ["a", "d", "e", "c"]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 10, 11, MAX_PAGE])
async def test_pages_hold_everything_once_and_in_order(store: Store, limit: int, descending: bool):
    await fill(store, {f"{n:02d}": {"group": "g", "rank": n // 4} for n in range(10)})
    await fill(store, {"other": {"group": "h", "rank": 1}})
    expected = [f"{n:02d}" for n in range(10)]
    if descending:
        expected.reverse()
    where = (Filter("group", "==", "g"),)
    query = Query("items", where, "rank", descending, limit)
    assert [one.id for one in await every(store, query)] == expected
    assert len((await store.query(query)).documents) == min(limit, 10)
    by_id = Query("items", descending=descending, limit=limit)
    assert [one.id for one in await every(store, by_id) if one.id != "other"] == expected


async def test_the_last_page_has_no_cursor(store: Store):
    await fill(store, {"a": {}, "b": {}})
    assert (await store.query(Query("items", limit=2))).next_cursor is None
    assert (await store.query(Query("items", limit=1))).next_cursor is not None


async def test_pages_by_time_go_on_to_the_microsecond(store: Store):
    await fill(store, {str(n): {"made_at": START + timedelta(microseconds=n // 2)} for n in range(8)})
    assert [one.id for one in await every(store, Query("items", order_by="made_at", limit=1))] == list("01234567")


async def test_paging_while_others_write(store: Store):
    """What is there the whole time is seen exactly once; what is behind the cursor may be seen or not, never twice."""
    await fill(store, {f"{n:03d}": {"group": "g", "rank": n} for n in range(0, 100, 2)})
    query = Query("items", (Filter("group", "==", "g"),), "rank", limit=7)
    seen: list[str] = []
    for turn in range(100):
        page = await store.query(query)
        seen += [one.id for one in page.documents]
        await store.commit(
            [Put(f"items/{2 * turn + 1:03d}", {"group": "g", "rank": 2 * turn + 1}), Delete(f"items/x{turn}")]
        )
        if page.next_cursor is None:
            break
        query = Query("items", query.where, "rank", limit=7, after=page.next_cursor)
    assert len(seen) == len(set(seen))
    assert {f"{n:03d}" for n in range(0, 100, 2)} <= set(seen)
    assert seen == sorted(seen)


async def test_a_cursor_survives_its_document(store: Store):
    await fill(store, {str(n): {"rank": n} for n in range(4)})
    page = await store.query(Query("items", order_by="rank", limit=2))
    await store.commit([Delete("items/1")])
    assert await ids(store, Query("items", order_by="rank", after=page.next_cursor)) == ["2", "3"]


@pytest.mark.parametrize(
    "cursor", ["", "x", "!!!", "bm9uc2Vuc2U", "W10", "WzEsMiwzLDRd", "é", "a" * 100_000, "W1tbW1tbW1tb", "bnVsbA"]
)
async def test_a_cursor_that_is_none_of_ours_is_invalid(store: Store, cursor: str):
    with pytest.raises(Invalid, match="page token"):
        await store.query(Query("items", after=cursor))


async def test_a_cursor_of_another_query_is_invalid(store: Store):
    await fill(store, {str(n): {"rank": n, "group": "g"} for n in range(4)})
    cursor = (await store.query(Query("items", order_by="rank", limit=1))).next_cursor
    for query in (
        Query("items", after=cursor),
        Query("items2", after=cursor),
        Query("items", order_by="made_at", after=cursor),
        Query("items", (Filter("group", "==", "g"),), "rank", after=cursor),
        Query("items", order_by="rank", descending=True, after=cursor),
    ):
        with pytest.raises((Invalid, ValueError)):
            await store.query(query)
    assert await ids(store, Query("items", order_by="rank", limit=9, after=cursor)) == ["1", "2", "3"]


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1])
async def test_a_page_is_bounded(store: Store, limit: int):
    with pytest.raises(Invalid, match="page"):
        await store.query(Query("items", limit=limit))


@pytest.mark.parametrize("collection", ["", "items/a", "items//a", "/items"])
async def test_what_is_no_collection_is_invalid(store: Store, collection: str):
    with pytest.raises(Invalid, match="collection"):
        await store.query(Query(collection))


@pytest.mark.parametrize(
    "query",
    [
        Query("items", order_by="size"),
        Query("items", (Filter("colour", "==", "r"),)),
        Query("items", (Filter("group", "==", "g"),), "made_at"),
        Query("items", (Filter("group", "==", "g"), Filter("colour", "==", "r")), "made_at", descending=True),
        Query("items", (Filter("rank", ">", 1),), "made_at"),
        Query("items", (Filter("group", "==", ["g"]),)),
        Query("others", descending=True),
    ],
)
async def test_a_query_without_its_index_is_a_mistake_found_at_once(store: Store, query: Query):
    with pytest.raises(ValueError, match=r"index|range|filters"):
        await store.query(query)


async def test_reads_and_writes_at_the_same_time(store: Store):
    async def write(n: int) -> None:
        await store.commit([Put(f"items/{n:03d}", {"group": "g", "rank": n}), Put(f"pairs/{n:03d}", {"n": n})])

    async def read(n: int) -> int:
        found = await store.get_many([f"items/{n:03d}", f"pairs/{n:03d}"])
        return len(found.documents)

    results = await asyncio.gather(*(work(n) for n in range(100) for work in (write, read)))
    assert set(results[1::2]) <= {0, 2}  # never one half of a commit
    assert len(await every(store, Query("items", limit=30))) == 100
