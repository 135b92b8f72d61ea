"""What a store promises of single documents and of commits. Runs on every store."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from goagents.errors import DocumentTooLarge, Invalid, StoreConflict, StoreUnavailable
from goagents.store.base import ABSENT, MAX_WRITES, PRESENT, AtVersion, Commit, Delete, Merge, Put, Store, Write

MOMENT = datetime(2026, 3, 1, 12, 30, 45, 123456, tzinfo=UTC)


async def data_of(store: Store, path: str) -> dict[str, Any] | None:
    document = (await store.get_many([path])).get(path)
    return document.data if document else None


async def version_of(store: Store, path: str) -> str:
    document = (await store.get_many([path])).get(path)
    assert document is not None
    return document.version


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        1.5,
        1.0,
        1e300,
        "",
        "text",
        "zażółć 😀 \u0000 \r\n \u2028 “quoted” \\ ' \"",
        '{"json": "but a string"}',
        "half a pair \ud83d",
        [],
        {},
        [[]],
        [[1, [2, [3]]], {"a": [None, {"b": {}}]}],
        {"json": "text"},
        {"parts": "x", "count": 3},
        {"": 1, "a.b": 2, "`": 3, "__x__": 4, "😀": 5},
        ["half \udc00"],
        nested(100),
    ],
    ids=lambda value: repr(value).encode("ascii", "backslashreplace").decode()[:30],
)
async def test_a_value_comes_back_as_it_went(store: Store, value: Any):
    await store.commit([Put("items/a", {"value": value})])
    found = await data_of(store, "items/a")
    assert found == {"value": value}
    assert type(found["value"]) is type(value)
    await store.commit([Merge("items/b", {"value": value, "other": 1})])
    await store.commit([Merge("items/b", {"value": value})])
    assert await data_of(store, "items/b") == {"value": value, "other": 1}


async def test_times_come_back_to_the_microsecond_and_in_utc(store: Store):
    moments = [
        MOMENT,
        MOMENT.replace(microsecond=0),
        MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30))),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
    ]
    await store.commit([Put(f"items/{n}", {"made_at": moment, "done_at": None}) for n, moment in enumerate(moments)])
    for n, moment in enumerate(moments):
        found = await data_of(store, f"items/{n}")
        assert found == {"made_at": moment, "done_at": None}
        assert found["made_at"].utcoffset() == timedelta(0)


async def test_an_empty_document_is_there(store: Store):
    await store.commit([Put("items/a", {})])
    assert await data_of(store, "items/a") == {}


async def test_get_many_returns_what_is_there_and_the_time(store: Store):
    committed = await store.commit([Put("items/a", {"n": 1}), Put("items/a/below/b", {"n": 2}), Put("items/c", {})])
    snapshot = await store.get_many(["items/a", "items/none", "items/a/below/b", "items/a"])
    assert {path: one.data for path, one in snapshot.documents.items()} == {
        "items/a": {"n": 1},
        "items/a/below/b": {"n": 2},
    }
    assert snapshot.get("items/none") is None
    found = snapshot.get("items/a/below/b")
    assert found is not None
    assert (found.id, found.version) == ("b", committed.versions["items/a/below/b"])
    assert timedelta(0) <= snapshot.read_at - committed.committed_at < timedelta(minutes=1)
    assert abs(datetime.now(UTC) - snapshot.read_at) < timedelta(minutes=1)


async def test_reading_nothing_tells_the_time(store: Store):
    first = await store.get_many([])
    assert first.documents == {}
    assert (await store.get_many([])).read_at >= first.read_at


async def test_a_put_replaces_the_whole_document(store: Store):
    await store.commit([Put("items/a", {"n": 1, "list": [1], "gone": {"x": 1}})])
    await store.commit([Put("items/a", {"n": 2})])
    assert await data_of(store, "items/a") == {"n": 2}


async def test_a_merge_sets_some_fields_and_leaves_the_others(store: Store):
    await store.commit([Put("items/a", {"n": 1, "kept": {"deep": [1]}, "changed": {"x": 1, "y": 2}, "text": "t"})])
    await store.commit([Merge("items/a", {"n": 2, "changed": {"z": 3}, "text": ["now", "a", "list"]})])
    await store.commit([Merge("items/a", {"odd name.of `it`": True})])
    expected = {"n": 2, "kept": {"deep": [1]}, "changed": {"z": 3}, "text": ["now", "a", "list"]}
    assert await data_of(store, "items/a") == {**expected, "odd name.of `it`": True}
    await store.commit([Merge("items/a", {"text": "again", "kept": None})])
    assert await data_of(store, "items/a") == {
        "n": 2,
        "kept": None,
        "changed": {"z": 3},
        "text": "again",
        "odd name.of `it`": True,
    }


async def test_a_merge_makes_an_absent_document(store: Store):
    await store.commit([Merge("items/a", {"n": 1}), Merge("items/b", increments={"n": 2}), Merge("items/c")])
    assert await data_of(store, "items/a") == {"n": 1}
    assert await data_of(store, "items/b") == {"n": 2}
    assert await data_of(store, "items/c") == {}


async def test_increments_add_to_what_is_there(store: Store):
    await store.commit([Put("items/a", {"n": 1, "f": 0.5, "text": "x", "nothing": None})])
    await store.commit(
        [Merge("items/a", {"set": 1}, increments={"n": 4, "f": 1, "text": 3, "nothing": 7, "new": 2.5, "down": -1})]
    )
    found = await data_of(store, "items/a")
    assert found == {"n": 5, "f": 1.5, "text": 3, "nothing": 7, "new": 2.5, "down": -1, "set": 1}
    assert isinstance(found["n"], int)


async def test_server_time_is_that_of_the_commit(store: Store):
    await store.commit([Put("items/a", {"n": 1}, server_time=("made_at",)), Merge("items/b", server_time=("seen_at",))])
    committed = await store.commit([Merge("items/a", {"n": 2}, server_time=("changed_at",))])
    found = await data_of(store, "items/a")
    assert found is not None
    assert set(found) == {"n", "made_at", "changed_at"}
    assert found["made_at"] <= found["changed_at"]
    assert abs(found["changed_at"] - committed.committed_at) < timedelta(seconds=1)
    assert set(await data_of(store, "items/b") or {}) == {"seen_at"}


async def test_a_delete_takes_one_document_and_not_what_lies_below(store: Store):
    await store.commit([Put("items/a", {"n": 1}), Put("items/a/below/b", {"n": 2})])
    committed = await store.commit([Delete("items/a"), Delete("items/never")])
    assert committed.versions == {}
    assert await data_of(store, "items/a") is None
    assert await data_of(store, "items/a/below/b") == {"n": 2}


async def test_every_write_changes_the_version(store: Store):
    seen = []
    for write in (
        Put("items/a", {"n": 1}),
        Put("items/a", {"n": 1}),
        Merge("items/a", {"n": 1}),
        Merge("items/a"),
        Put("items/a", {"n": 1}, PRESENT),
    ):
        committed = await store.commit([write])
        assert committed.versions["items/a"] == await version_of(store, "items/a")
        seen.append(committed.versions["items/a"])
    assert len(set(seen)) == len(seen)
    await store.commit([Delete("items/a")])
    again = await store.commit([Put("items/a", {"n": 1})])
    assert again.versions["items/a"] not in seen


@pytest.mark.parametrize("kind", [Put, Merge, Delete])
async def test_preconditions(store: Store, kind: Any):
    def write(path: str, precondition: Any) -> Write:
        return Delete(path, precondition) if kind is Delete else kind(path, {"n": 2}, precondition)

    first = (await store.commit([Put("items/a", {"n": 1})])).versions["items/a"]
    second = (await store.commit([Put("items/a", {"n": 1})])).versions["items/a"]
    for path, precondition in [
        ("items/a", ABSENT),
        ("items/a", AtVersion(first)),
        ("items/a", AtVersion("nonsense")),
        ("items/none", PRESENT),
        ("items/none", AtVersion(second)),
    ]:
        with pytest.raises(StoreConflict):
            await store.commit([Put("items/other", {"n": 1}), write(path, precondition)])
        assert await version_of(store, "items/a") == second
        assert await data_of(store, "items/none") is None
        assert await data_of(store, "items/other") is None

    await store.commit([write("items/new", ABSENT)])
    assert await data_of(store, "items/new") == (None if kind is Delete else {"n": 2})
    await store.commit([write("items/a", AtVersion(second))])
    assert await data_of(store, "items/a") == (None if kind is Delete else {"n": 2})
    await store.commit([Put("items/b", {"n": 1})])
    await store.commit([write("items/b", PRESENT)])
    assert await data_of(store, "items/b") == (None if kind is Delete else {"n": 2})


async def test_a_commit_applies_all_or_nothing(store: Store):
    await store.commit([Put("items/a", {"n": 1}), Put("items/b", {"n": 1})])
    with pytest.raises(StoreConflict):
        await store.commit(
            [Put("items/a", {"n": 2}), Delete("items/b"), Merge("items/c", {"n": 2}), Put("items/a/x/y", {}, PRESENT)]
        )
    assert [await data_of(store, f"items/{name}") for name in "abc"] == [{"n": 1}, {"n": 1}, None]


async def test_the_largest_commit(store: Store):
    committed = await store.commit([Put(f"items/{n:03d}", {"n": n}, ABSENT) for n in range(MAX_WRITES)])
    assert len(committed.versions) == MAX_WRITES
    found = await store.get_many([f"items/{n:03d}" for n in range(MAX_WRITES)])
    assert [found.documents[f"items/{n:03d}"].data["n"] for n in range(MAX_WRITES)] == list(range(MAX_WRITES))
    await store.commit([Delete(f"items/{n:03d}") for n in range(MAX_WRITES)])
    assert (await store.get_many(["items/000", "items/499"])).documents == {}


async def test_an_empty_commit_is_none(store: Store):
    assert (await store.commit([])).versions == {}


@pytest.mark.parametrize(
    "writes",
    [
        [Put("items/a", {}), Delete("items/a")],
        [Put(f"items/{n}", {}) for n in range(MAX_WRITES + 1)],
        [Put("items/a", {"at": MOMENT})],
        [Put("items/a", {"made_at": "yesterday"})],
        [Put("items/a", {"made_at": MOMENT.replace(tzinfo=None)})],
        [Put("items/a", {"n": float("nan")})],
        [Put("items/a", {"list": [float("inf")]})],
        [Put("items/a", {"n": 2**63})],
        [Put("items/a", {"_write": 1})],
        [Put("items/a", {"": 1})],
        [Put("items/a", {}, server_time=("made",))],
        [Put("items/a", {"made_at": MOMENT}, server_time=("made_at",))],
        [Merge("items/a", {"n": 1}, increments={"n": 1})],
    ],
)
async def test_a_mistake_of_the_program_is_a_value_error(store: Store, writes: list[Write]):
    with pytest.raises(ValueError, match=r"items/a|one commit"):
        await store.commit([Put("items/good", {}), *writes])
    assert await data_of(store, "items/good") is None


@pytest.mark.parametrize("value", [{"x": MOMENT}, [b"bytes"], {1, 2}, b"bytes", object()])
async def test_what_is_no_json_is_a_type_error(store: Store, value: Any):
    with pytest.raises(TypeError, match="value"):
        await store.commit([Put("items/a", {"value": value})])


@pytest.mark.parametrize(
    "path",
    ["", "items", "items/", "/items/a", "items//a", "items/a/b", "items/..", "items/__a__", "items/" + "x" * 1501],
)
async def test_what_is_no_path_is_invalid(store: Store, path: str):
    with pytest.raises(Invalid, match="path"):
        await store.get_many([path])
    with pytest.raises(Invalid, match="path"):
        await store.commit([Put(path, {})])


@pytest.mark.parametrize("name", ["ünï/cödé", "a b", "a.b", "'; DROP TABLE documents; --", "%", "x" * 1400, "😀"])
async def test_ids_may_be_any_text(store: Store, name: str):
    path = f"items/{name.replace('/', '-')}"
    await store.commit([Put(path, {"n": 1}), Put(f"{path}/below/{name.replace('/', '-')}", {"n": 2})])
    assert await data_of(store, path) == {"n": 1}
    await store.commit([Merge(path, {"n": 3}, AtVersion(await version_of(store, path)))])
    assert await data_of(store, path) == {"n": 3}


async def test_what_is_nested_beyond_reason_is_too_large(store: Store):
    with pytest.raises(DocumentTooLarge):
        await store.commit([Put("items/a", {"value": nested(100_000)})])


async def test_check_passes(store: Store):
    await store.check()


async def test_of_many_writers_at_one_version_exactly_one_wins(store: Store):
    version = (await store.commit([Put("items/a", {"n": 0})])).versions["items/a"]
    outcomes = await asyncio.gather(
        *(store.commit([Put("items/a", {"n": n}, AtVersion(version))]) for n in range(50)), return_exceptions=True
    )
    won = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
    assert len(won) == 1
    assert sum(isinstance(outcome, StoreConflict) for outcome in outcomes) == 49
    assert await data_of(store, "items/a") == {"n": won[0]}


async def test_of_many_creators_exactly_one_wins(store: Store):
    outcomes = await asyncio.gather(
        *(store.commit([Put("items/a", {"n": n}, ABSENT)]) for n in range(50)), return_exceptions=True
    )
    assert sum(isinstance(outcome, StoreConflict) for outcome in outcomes) == 49


async def test_a_hundred_increments_by_compare_and_set_all_count(store: Store):
    await store.commit([Put("items/a", {"n": 0})])

    async def increment() -> None:
        for attempt in range(1000):
            document = (await store.get_many(["items/a"])).documents["items/a"]
            try:
                await store.commit([Put("items/a", {"n": document.data["n"] + 1}, AtVersion(document.version))])
            except StoreConflict:
                await asyncio.sleep(0.001 * min(attempt, 20))
            else:
                return
        pytest.fail("no attempt of a thousand came through")

    await asyncio.gather(*(increment() for _ in range(100)))
    assert await data_of(store, "items/a") == {"n": 100}


async def test_increments_without_precondition_all_count(store: Store):
    await asyncio.gather(*(store.commit([Merge("items/a", increments={"n": 1, "f": 0.5})]) for _ in range(100)))
    assert await data_of(store, "items/a") == {"n": 100, "f": 50.0}


async def test_a_closed_store_says_so(store: Store):
    await store.commit([Put("items/a", {})])
    await store.aclose()
    for call in (store.get_many(["items/a"]), store.commit([Put("items/a", {})]), store.check()):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call
    await store.aclose()


async def test_closing_lets_commits_finish(store: Store):
    await store.check()
    commits = [asyncio.create_task(store.commit([Put(f"items/{n}", {}, ABSENT)])) for n in range(10)]
    await asyncio.sleep(0.001)
    await store.aclose()
    outcomes = await asyncio.gather(*commits, return_exceptions=True)
    assert all(isinstance(one, Commit | StoreUnavailable) for one in outcomes)
    assert any(isinstance(one, Commit) for one in outcomes)
