"""Documents beyond what the database takes in one piece. Runs on every store."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goagents.errors import DocumentTooLarge, StoreConflict
from goagents.store.base import ABSENT, PRESENT, AtVersion, Delete, Merge, Put, Query, Store

MIB = 1024 * 1024
FUTURE = datetime(2999, 1, 1, tzinfo=UTC)


def payload(size: int, letter: str = "x") -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": letter * size}]}


async def data_of(store: Store, path: str) -> dict[str, Any] | None:
    document = (await store.get_many([path])).get(path)
    return document.data if document else None


@pytest.mark.parametrize("letter", ["x", "é", "😀", '"'])
async def test_three_mebibytes_come_back(store: Store, letter: str):
    data = {"message": payload(3 * MIB // len(letter.encode()), letter), "n": 1, "made_at": FUTURE}
    await store.commit([Put("items/a", data, ABSENT)])
    assert await data_of(store, "items/a") == data
    (found,) = (await store.query(Query("items"))).documents
    assert found.data == data


async def test_a_long_string_comes_back_as_one(store: Store):
    data = {"text": "long é " * 200_000, "short": "s"}
    await store.commit([Put("items/a", data)])
    assert await data_of(store, "items/a") == data


async def test_merges_into_a_large_document(store: Store):
    big, other = payload(2 * MIB), payload(2 * MIB, "y")
    version = (await store.commit([Put("items/a", {"one": big, "two": big, "n": 1})])).versions["items/a"]
    version = (await store.commit([Merge("items/a", {"n": 2}, AtVersion(version))])).versions["items/a"]
    assert await data_of(store, "items/a") == {"one": big, "two": big, "n": 2}
    version = (await store.commit([Merge("items/a", {"one": other}, AtVersion(version))])).versions["items/a"]
    assert await data_of(store, "items/a") == {"one": other, "two": big, "n": 2}
    await store.commit([Merge("items/a", {"two": None, "three": other}, increments={"n": 1})])
    assert await data_of(store, "items/a") == {"one": other, "two": None, "three": other, "n": 3}
    await store.commit([Merge("items/a", {"one": "small", "three": []}, PRESENT)])
    assert await data_of(store, "items/a") == {"one": "small", "two": None, "three": [], "n": 3}


async def test_a_document_may_grow_beyond_one_piece_by_merges(store: Store):
    fields = {f"field{n}": payload(150_000, "abcdefghijkl"[n]) for n in range(12)}
    await store.commit([Put("items/a", {"n": 0})])
    for name, value in fields.items():
        await store.commit([Merge("items/a", {name: value}, PRESENT)])
    assert await data_of(store, "items/a") == {"n": 0, **fields}


async def test_a_large_document_is_replaced_and_deleted(store: Store):
    await store.commit([Put("items/a", {"one": payload(2 * MIB)})])
    await store.commit([Put("items/a", {"one": payload(2 * MIB, "y")})])
    assert await data_of(store, "items/a") == {"one": payload(2 * MIB, "y")}
    await store.commit([Put("items/a", {"one": 1})])
    assert await data_of(store, "items/a") == {"one": 1}
    await store.commit([Delete("items/a", PRESENT)])
    assert await data_of(store, "items/a") is None


async def test_a_commit_of_many_middling_documents(store: Store):
    """Each fits by itself, all together are more than one message takes."""
    documents = {f"items/{n:02d}": {"n": n, "message": payload(400_000, "abcdefghij"[n % 10])} for n in range(20)}
    committed = await store.commit([Put(path, data, ABSENT) for path, data in documents.items()])
    found = await store.get_many(list(documents))
    assert {path: one.data for path, one in found.documents.items()} == documents
    assert {path: one.version for path, one in found.documents.items()} == committed.versions


async def test_a_page_of_large_documents_goes_on(store: Store):
    for n in range(12):
        await store.commit([Put(f"items/{n:02d}", {"rank": n, "message": payload(4 * MIB)})])
    seen: list[str] = []
    after, pages = None, 0
    while pages == 0 or after is not None:
        page = await store.query(Query("items", order_by="rank", limit=100, after=after))
        assert page.documents
        seen += [one.id for one in page.documents]
        after, pages = page.next_cursor, pages + 1
    assert seen == [f"{n:02d}" for n in range(12)]


async def test_a_conflict_leaves_the_old_content(store: Store):
    old, new = payload(2 * MIB), payload(2 * MIB, "y")
    first = (await store.commit([Put("items/a", {"one": old})])).versions["items/a"]
    await store.commit([Merge("items/a", {"n": 1})])
    with pytest.raises(StoreConflict):
        await store.commit([Put("items/a", {"one": new}, AtVersion(first))])
    with pytest.raises(StoreConflict):
        await store.commit([Put("items/a", {"one": new}, ABSENT)])
    assert await data_of(store, "items/a") == {"one": old, "n": 1}


async def test_reads_see_the_old_or_the_new_content_while_it_is_replaced(store: Store):
    letters = "abcdef"
    await store.commit([Put("items/a", {"one": payload(MIB + 1, "a"), "letter": "a"})])

    async def write() -> None:
        for letter in letters[1:]:
            await store.commit([Put("items/a", {"one": payload(MIB + 1, letter), "letter": letter})])

    async def read() -> None:
        for _ in range(10):
            found = await data_of(store, "items/a")
            assert found is not None
            assert found["one"]["content"][0]["text"][-1] == found["letter"]
            await asyncio.sleep(0)

    await asyncio.gather(write(), read())
    assert (await data_of(store, "items/a") or {})["letter"] == "f"


async def test_a_large_document_expires(store: Store):
    soon = (await store.get_many([])).read_at + timedelta(seconds=1.5)
    version = (await store.commit([Put("items/a", {"one": payload(2 * MIB), "expire_at": FUTURE})])).versions["items/a"]
    await store.commit([Merge("items/a", {"expire_at": soon}, AtVersion(version))])
    assert (await data_of(store, "items/a") or {}).get("expire_at") == soon
    await asyncio.sleep(1.7)
    assert await data_of(store, "items/a") is None
    await store.commit([Put("items/a", {"one": payload(2 * MIB, "y")}, ABSENT)])
    assert await data_of(store, "items/a") == {"one": payload(2 * MIB, "y")}


async def test_beyond_the_bound_it_is_too_large(store: Store):
    with pytest.raises(DocumentTooLarge, match=r"items/a .*16 MiB"):
        await store.commit([Put("items/b", {}), Put("items/a", {"one": payload(9 * MIB), "two": payload(9 * MIB)})])
    assert (await store.get_many(["items/a", "items/b"])).documents == {}
    await store.commit([Put("items/a", {"one": payload(15 * MIB)})])
    assert await data_of(store, "items/a") == {"one": payload(15 * MIB)}
