"""What is the SQLite store's own: its file, its thread, other processes, and being killed."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from goagents.errors import StoreConflict, StoreUnavailable
from goagents.store.base import ABSENT, AtVersion, Filter, Merge, Put, Query
from goagents.store.indexes import INDEXES, Index
from goagents.store.paging import ID, Position
from goagents.store.sqlite import SQLiteStore
from goagents.store.sqlite_rows import query_sql

NOW = datetime(2026, 1, 1, tzinfo=UTC)

# Commits pairs of documents, one pair after the other, and says so each time it got an answer.
WRITER = """
import asyncio, sys
from goagents.store.base import Put
from goagents.store.sqlite import SQLiteStore

async def main():
    store = SQLiteStore(sys.argv[1])
    async def write(n):
        await store.commit([Put(f"items/{n}", {"text": "x" * 3000}), Put(f"pairs/{n}", {"n": n})])
        print(n, flush=True)
    n = 0
    while True:
        await asyncio.gather(*(write(n + k) for k in range(5)))
        n += 5

asyncio.run(main())
"""

# Increments one number by compare-and-set, as often as it is told.
COUNTER = """
import asyncio, sys
from goagents.errors import StoreConflict
from goagents.store.base import AtVersion, Put
from goagents.store.sqlite import SQLiteStore

async def main():
    store = SQLiteStore(sys.argv[1])
    done = 0
    while done < int(sys.argv[2]):
        found = (await store.get_many(["items/a"])).documents["items/a"]
        try:
            await store.commit([Put("items/a", {"n": found.data["n"] + 1}, AtVersion(found.version))])
            done += 1
        except StoreConflict:
            await asyncio.sleep(0)
    await store.aclose()

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "folder" / "store.db")


@pytest.fixture
async def store(path: str) -> AsyncIterator[SQLiteStore]:
    made = SQLiteStore(path)
    yield made
    await made.aclose()


def files(path: str) -> list[str]:
    return sorted(file.name for file in Path(path).parent.iterdir())


def damage(path: str) -> None:
    with Path(path).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 40)


def start(script: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)


async def test_nothing_is_opened_before_the_first_use(path: str):
    store = SQLiteStore(path)
    await store.aclose()
    assert not Path(path).parent.exists()


async def test_the_file_is_its_owners_alone(store: SQLiteStore, path: str):
    await store.commit([Put("items/a", {})])
    for file in Path(path).parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_closing_finishes_what_is_under_way_and_then_nothing_goes(store: SQLiteStore, path: str):
    waiting = [asyncio.create_task(store.commit([Put(f"items/{n}", {})])) for n in range(100)]
    await asyncio.sleep(0)
    await store.aclose()
    assert len([await one for one in waiting]) == 100
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.commit([Put("items/a", {})])
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.get_many(["items/a"])
    assert files(path) == ["store.db"]  # the log is in it


def test_a_store_goes_on_in_the_next_event_loop(path: str):
    store = SQLiteStore(path)

    async def write() -> None:
        await store.commit([Merge("items/a", increments={"n": 1})])

    async def read_and_close() -> int:
        found = (await store.get_many(["items/a"])).documents["items/a"]
        await store.aclose()
        return int(found.data["n"])

    asyncio.run(write())
    asyncio.run(write())
    assert asyncio.run(read_and_close()) == 2


@pytest.mark.parametrize("round_", range(3))
def test_a_process_killed_while_writing_loses_nothing_that_was_answered(path: str, round_: int):
    process = start(WRITER, path)
    assert process.stdout is not None
    answered = []
    try:
        for line in process.stdout:
            answered.append(int(line))
            if len(answered) == 40 + 17 * round_:
                break
    finally:
        os.kill(process.pid, signal.SIGKILL)
    answered += [int(line) for line in process.stdout.read().splitlines() if line.strip()]
    assert process.wait(timeout=60) == -signal.SIGKILL
    process.stdout.close()
    asyncio.run(_check_pairs(path, answered))


async def _check_pairs(path: str, answered: list[int]) -> None:
    store = SQLiteStore(path)
    for n in answered:
        found = await store.get_many([f"items/{n}", f"pairs/{n}"])
        assert len(found.documents) == 2, f"pair {n} was answered and is lost"
    for n in range(max(answered), max(answered) + 50):
        assert len((await store.get_many([f"items/{n}", f"pairs/{n}"])).documents) in (0, 2), f"half of pair {n}"
    await store.commit([Put("items/after", {"n": 1}, ABSENT)])
    await store.aclose()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_two_processes_count_in_one_file(store: SQLiteStore, path: str):
    await store.commit([Put("items/a", {"n": 0})])
    processes = [start(COUNTER, path, "150") for _ in range(2)]
    for _ in range(100):
        for attempt in range(10_000):
            found = (await store.get_many(["items/a"])).documents["items/a"]
            try:
                await store.commit([Put("items/a", {"n": found.data["n"] + 1}, AtVersion(found.version))])
                break
            except StoreConflict:
                assert attempt < 9_999
    for process in processes:
        assert await asyncio.to_thread(process.wait, 60) == 0
        assert process.stdout is not None
        process.stdout.close()
    assert (await store.get_many(["items/a"])).documents["items/a"].data == {"n": 400}


async def test_many_open_a_new_file_at_once(path: str):
    stores = [SQLiteStore(path) for _ in range(8)]
    await asyncio.gather(*(one.commit([Merge("items/a", increments={"n": 1})]) for one in stores))
    assert (await stores[0].get_many(["items/a"])).documents["items/a"].data == {"n": 8}
    for one in stores:
        await one.aclose()


async def test_versions_only_grow(store: SQLiteStore, path: str):
    versions = []
    for n in range(5):
        versions.append(int((await store.commit([Put(f"items/{n % 2}", {})])).versions[f"items/{n % 2}"]))
        await store.aclose()
        store = SQLiteStore(path)
    assert versions == sorted(set(versions))
    await store.aclose()


async def test_waiting_commits_share_one_transaction(store: SQLiteStore):
    await store.check()
    statements: list[str] = []
    assert store._writer._connection is not None
    store._writer._connection.set_trace_callback(statements.append)
    await asyncio.gather(*(store.commit([Put(f"items/{n}", {})]) for n in range(1000)))
    assert statements.count("COMMIT") < 20


async def test_a_failed_neighbour_in_the_transaction_changes_nothing(store: SQLiteStore):
    await store.commit([Put("items/there", {"n": 1})])
    commits = [
        store.commit([Put(f"items/{n}", {"n": n}), Put("items/there", {"n": 2}, ABSENT if n % 2 else None)])
        for n in range(100)
    ]
    outcomes = await asyncio.gather(*commits, return_exceptions=True)
    assert [isinstance(outcome, StoreConflict) for outcome in outcomes] == [bool(n % 2) for n in range(100)]
    found = await store.get_many([f"items/{n}" for n in range(100)])
    assert set(found.documents) == {f"items/{n}" for n in range(0, 100, 2)}


async def test_a_cancelled_commit_harms_no_other(store: SQLiteStore):
    await store.check()
    tasks = [asyncio.create_task(store.commit([Merge("items/a", increments={"n": 1})])) for _ in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[::2])
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes[1::2])
    count = (await store.get_many(["items/a"])).documents["items/a"].data["n"]
    assert 25 <= count <= 50
    assert (await store.commit([Merge("items/a", increments={"n": 1})])).versions


async def test_another_processs_lock_is_waited_for_within_a_bound_and_the_loop_goes_on(path: str):
    store = SQLiteStore(path, busy_timeout=0.4)
    await store.commit([Put("items/a", {"n": 1})])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started, longest = time.monotonic(), 0.0
    waiting = asyncio.create_task(store.commit([Put("items/a", {"n": 2})]))
    while not waiting.done():
        before = time.monotonic()
        assert (await store.get_many(["items/a"])).documents["items/a"].data == {"n": 1}
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - before)
    with pytest.raises(StoreUnavailable, match="locked by another process"):
        await waiting
    assert 0.3 < time.monotonic() - started < 3
    assert longest < 0.35  # not the whole wait
    with pytest.raises(StoreUnavailable):
        await store.check()
    other.execute("ROLLBACK")
    other.close()
    await store.commit([Put("items/a", {"n": 3})])
    await store.check()
    await store.aclose()


async def test_a_newer_schema_is_refused(store: SQLiteStore, path: str):
    await store.check()
    await store.aclose()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    newer = SQLiteStore(path)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"newer GoAgents .* upgrade GoAgents"):
            await newer.check()
    await newer.aclose()


async def test_what_is_no_database_is_left_alone(tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.write_text("not a database\n" * 1000)
    store = SQLiteStore(str(file))
    with pytest.raises(StoreUnavailable, match="is no database: move the file away"):
        await store.get_many(["items/a"])
    with pytest.raises(StoreUnavailable, match="is no database"):
        await store.commit([Put("items/a", {})])
    await store.aclose()
    assert file.read_text() == "not a database\n" * 1000


async def test_a_damaged_file_says_so(path: str):
    store = SQLiteStore(path)
    await store.commit([Put(f"items/{n}", {"text": "x" * 2000}) for n in range(200)])
    await store.aclose()
    damage(path)
    store = SQLiteStore(path)
    with pytest.raises(StoreUnavailable, match=r"damaged: restore it from a backup"):
        await store.query(Query("items"))
    await store.aclose()


async def test_a_place_that_cannot_be_written_says_so_and_is_tried_again(tmp_path: Path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    store = SQLiteStore(str(in_the_way / "store.db"))
    with pytest.raises(StoreUnavailable, match=r"cannot be written .*GOAGENTS_STORE"):
        await store.check()
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await SQLiteStore(str(tmp_path)).get_many(["items/a"])
    in_the_way.unlink()
    await store.check()
    await store.aclose()


@pytest.mark.parametrize("path", ["", ":memory:", "a\0b"])
def test_a_path_that_is_none_is_refused(path: str):
    with pytest.raises(ValueError, match="path of a file"):
        SQLiteStore(path)


@pytest.mark.parametrize("index", INDEXES, ids=str)
@pytest.mark.parametrize("paged", [False, True])
async def test_every_declared_query_is_served_by_its_index(store: SQLiteStore, path: str, index: Index, paged: bool):
    """Neither a scan nor a sort: what a query costs does not grow with what it does not return."""
    await store.check()
    ordered = index.fields[-1].endswith("_at") or index.fields == (ID,)
    equal = index.fields[:-1] if ordered else index.fields
    order = None if index.fields == (ID,) or not ordered else index.fields[-1]
    query = Query(f"tenants/t/{index.collection}", tuple(Filter(f, "==", "x") for f in equal), order, index.descending)
    start = Position(NOW if order else None, "some-id") if paged else None
    sql, values = query_sql(query, start, NOW)
    connection = sqlite3.connect(path)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    connection.close()
    assert len(plan) == 1, plan
    name = (
        "sqlite_autoindex_documents_1" if index.fields == (ID,) else f"{index.collection}_by_{'_'.join(index.fields)}"
    )
    assert f"USING INDEX {name} (collection=?" in plan[0]
    assert plan[0].count("=?") == 1 + len(equal)


async def test_reads_by_path_and_purge_use_an_index(store: SQLiteStore, path: str):
    await store.check()
    connection = sqlite3.connect(path)
    for sql, values in [
        ("SELECT * FROM documents WHERE collection = ? AND id = ?", ("a", "b")),
        ("SELECT rowid FROM documents WHERE expire_at <= ? ORDER BY expire_at LIMIT ?", ("x", 10)),
    ]:
        (step,) = connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
        assert step[3].startswith("SEARCH")
    connection.close()


async def test_reading_by_path_does_not_slow_down_with_what_is_stored(store: SQLiteStore):
    async def best() -> float:
        paths = [f"items/{n}" for n in range(20)]
        times = []
        for _ in range(50):
            started = time.perf_counter()
            await store.get_many(paths)
            await store.query(Query("tenants/t/runs", (Filter("status", "==", "running"),), "created_at", limit=10))
            times.append(time.perf_counter() - started)
        return min(times)

    async def fill(first: int, last: int) -> None:
        for begin in range(first, last, 250):
            await store.commit(
                [
                    Put(f"{name}/{n}", {"status": "done" if n > 20 else "running", "created_at": NOW})
                    for n in range(begin, begin + 250)
                    for name in ("items", "tenants/t/runs")
                ]
            )

    await fill(0, 500)
    few = await best()
    await fill(500, 10_000)
    assert await best() < 3 * few


class StoppedClock:
    """Time that a test owns."""

    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def test_a_tests_clock_is_the_server_time(path: str):
    clock = StoppedClock()
    store = SQLiteStore(path, clock=clock)
    committed = await store.commit([Put("items/a", {"expire_at": NOW.replace(hour=1)}, server_time=("made_at",))])
    assert committed.committed_at == NOW
    snapshot = await store.get_many(["items/a"])
    assert snapshot.read_at == NOW
    assert snapshot.documents["items/a"].data["made_at"] == NOW
    clock.moment = NOW.replace(hour=1)
    assert (await store.get_many(["items/a"])).documents == {}
    assert await store.purge() == 1
    await store.aclose()
