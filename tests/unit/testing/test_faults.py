"""Each fault is what it says: what the caller gets, and what the store holds afterwards."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from goagents.errors import OutcomeUnknown, StoreConflict, StoreError, StoreUnavailable
from goagents.store.base import ABSENT, AtVersion, Put, Query, Write
from goagents.store.sqlite import SQLiteStore
from goagents.testing.clocks import VirtualClock
from goagents.testing.faults import Fault, FaultyStore, Injected, Kind, writes_to

KINDS: dict[Kind, type[StoreError]] = {
    "conflict": StoreConflict,
    "unavailable": StoreUnavailable,
    "timeout": OutcomeUnknown,
    "request_lost": OutcomeUnknown,
    "answer_lost": OutcomeUnknown,
    "late": OutcomeUnknown,
}


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    made = SQLiteStore(str(tmp_path / "store.db"))
    yield made
    await made.aclose()


async def held(store: SQLiteStore, path: str = "items/a") -> int | None:
    document = (await store.get_many([path])).get(path)
    return document.data["n"] if document else None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_of_a_commit(real: SQLiteStore, kind: Kind):
    store = FaultyStore(real, [Fault(kind, seconds=0.0)])
    with pytest.raises(KINDS[kind], match="made by the test"):
        await store.commit([Put("items/a", {"n": 1})])
    assert await held(real) == (1 if kind == "answer_lost" else None)
    assert store.injected == [Injected(kind, ("items/a",), {"answer_lost": True, "late": None}.get(kind, False))]
    await store.commit([Put("items/b", {"n": 2})])
    assert await held(real, "items/b") == 2
    assert len(store.injected) == 1


async def test_reads_fail_too(real: SQLiteStore):
    store = FaultyStore(real, [Fault("unreadable", nth=2, times=2)])
    await store.commit([Put("items/a", {"n": 1})])
    assert (await store.get_many(["items/a"])).documents
    with pytest.raises(StoreUnavailable):
        await store.query(Query("items"))
    with pytest.raises(StoreUnavailable):
        await store.get_many(["items/a"])
    assert (await store.query(Query("items"))).documents
    assert [one.paths for one in store.injected] == [("items",), ("items/a",)]


async def test_a_fault_picks_its_commits(real: SQLiteStore):
    store = FaultyStore(real, [Fault("unavailable", when=writes_to("/lease/"), nth=2, times=2)])
    failed = []
    for number in range(6):
        for path in ("runs/a/lease/current", "runs/a/steps/1"):
            try:
                await store.commit([Put(path, {"n": number})])
            except StoreUnavailable:
                failed.append((number, path))
    assert failed == [(1, "runs/a/lease/current"), (2, "runs/a/lease/current")]


async def test_a_predicate_sees_the_writes(real: SQLiteStore):
    def settles(writes: Sequence[Write]) -> bool:
        return any(isinstance(write, Put) and write.data.get("status") == "succeeded" for write in writes)

    store = FaultyStore(real, [Fault("conflict", when=settles, times=None)])
    await store.commit([Put("runs/a", {"status": "running"})])
    for _ in range(3):
        with pytest.raises(StoreConflict):
            await store.commit([Put("runs/a", {"status": "succeeded"})])
    assert len(store.injected) == 3


async def test_of_two_faults_that_fit_one_waits(real: SQLiteStore):
    store = FaultyStore(real, [Fault("conflict"), Fault("answer_lost")])
    with pytest.raises(StoreConflict):
        await store.commit([Put("items/a", {"n": 1})])
    with pytest.raises(OutcomeUnknown):
        await store.commit([Put("items/a", {"n": 2})])
    await store.commit([Put("items/a", {"n": 3})])
    assert await held(real) == 3


async def test_a_timeout_hangs_on_the_clock(real: SQLiteStore):
    clock = VirtualClock()
    store = FaultyStore(real, [Fault("timeout", seconds=20)], clock=clock)
    asking = asyncio.create_task(store.commit([Put("items/a", {"n": 1})]))
    await clock.advance(19.9)
    assert not asking.done()
    await clock.advance(0.1)
    assert isinstance(asking.exception(), OutcomeUnknown)
    assert await held(real) is None


async def test_the_answer_of_a_commit_that_failed_may_be_lost_too(real: SQLiteStore):
    await real.commit([Put("items/a", {"n": 1})])
    store = FaultyStore(real, [Fault("answer_lost")])
    with pytest.raises(OutcomeUnknown):
        await store.commit([Put("items/a", {"n": 2}, ABSENT)])
    assert store.injected == [Injected("answer_lost", ("items/a",), applied=False)]
    assert await held(real) == 1


class TestLate:
    async def test_a_retry_overtakes_it(self, real: SQLiteStore):
        """The caller reads, sees nothing, tries again and succeeds; then the first try arrives."""
        store = FaultyStore(real, [Fault("late", calls=2)])
        with pytest.raises(OutcomeUnknown):
            await store.commit([Put("items/a", {"n": 1})])
        assert (await store.get_many(["items/a"])).documents == {}
        await store.commit([Put("items/a", {"n": 2})])
        assert await held(real) == 1
        assert (store.injected[0].applied, store.on_the_way) == (True, 0)

    async def test_a_fenced_one_does_no_harm(self, real: SQLiteStore):
        version = (await real.commit([Put("items/a", {"n": 0})])).versions["items/a"]
        store = FaultyStore(real, [Fault("late", calls=2)])
        with pytest.raises(OutcomeUnknown):
            await store.commit([Put("items/a", {"n": 1}, AtVersion(version))])
        await store.get_many(["items/a"])
        await store.commit([Put("items/a", {"n": 2}, AtVersion(version))])
        assert await held(real) == 2
        assert store.injected[0].applied is False

    async def test_it_overtakes_the_retry(self, real: SQLiteStore):
        store = FaultyStore(real, [Fault("late", calls=1)])
        with pytest.raises(OutcomeUnknown):
            await store.commit([Put("items/a", {"n": 1}, ABSENT)])
        assert (await store.get_many(["items/a"])).documents == {}
        with pytest.raises(StoreConflict):
            await store.commit([Put("items/a", {"n": 2}, ABSENT)])

    @pytest.mark.parametrize("closing", [False, True])
    async def test_it_arrives_when_told(self, tmp_path: Path, closing: bool):
        path = str(tmp_path / "store.db")
        store = FaultyStore(SQLiteStore(path), [Fault("late", times=2, calls=9)])
        for number in (1, 2):
            with pytest.raises(OutcomeUnknown):
                await store.commit([Put("items/a", {"n": number})])
        assert store.on_the_way == 2
        if not closing:
            await store.flush()
        await store.aclose()
        again = SQLiteStore(path)
        assert await held(again) == 2
        await again.aclose()


async def test_an_unplugged_store_lets_nothing_through(real: SQLiteStore):
    store = FaultyStore(real)
    store.unplugged = True
    for call in (store.get_many(["a/b"]), store.query(Query("a")), store.commit([Put("a/b", {})]), store.check()):
        with pytest.raises(StoreUnavailable, match="unplugged"):
            await call
    with pytest.raises(StoreUnavailable):
        await store.purge()
    store.unplugged = False
    await store.check()
    assert store.injected == []


RATES: dict[Kind, float] = {"answer_lost": 0.2, "late": 0.1, "conflict": 0.1, "unreadable": 0.1}


def dice(seed: int = 1) -> random.Random:
    return random.Random(seed)  # noqa: S311 - has to be the same each time


class TestAtRandom:
    async def faults(self, real: SQLiteStore, seed: int, folder: str) -> list[Kind]:
        store = FaultyStore.random(real, dice(seed), RATES)
        for number in range(150):
            for call in (store.get_many([f"{folder}/a"]), store.commit([Put(f"{folder}/a", {"n": number})])):
                with contextlib.suppress(StoreError):
                    await call
        return [one.kind for one in store.injected]

    async def test_the_same_seed_is_the_same_faults(self, real: SQLiteStore):
        first, again = await self.faults(real, 7, "one"), await self.faults(real, 7, "two")
        assert first == again != await self.faults(real, 8, "three")
        assert set(first) == set(RATES)
        assert 45 < len(first) < 105  # half of it 75

    async def test_it_can_be_calmed(self, real: SQLiteStore):
        store = FaultyStore.random(real, dice(), {"unavailable": 1.0})
        with pytest.raises(StoreUnavailable):
            await store.commit([Put("items/a", {})])
        store.calm = True
        await store.commit([Put("items/a", {})])
        assert len(store.injected) == 1

    async def test_housekeeping_is_spared(self, real: SQLiteStore):
        store = FaultyStore.random(real, dice(), {"unavailable": 1.0, "unreadable": 1.0})
        await store.check()
        assert await store.purge() == 0


def test_what_is_no_fault_is_refused(tmp_path: Path):
    real = SQLiteStore(str(tmp_path / "store.db"))
    with pytest.raises(ValueError, match="'explosion' is no fault; the faults are conflict"):
        Fault("explosion")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="count from 1"):
        Fault("late", calls=0)
    with pytest.raises(ValueError, match="0 to 1"):
        FaultyStore.random(real, dice(), {"late": 1.5})
    with pytest.raises(ValueError, match="more than 1"):
        FaultyStore.random(real, dice(), {"late": 0.7, "conflict": 0.7})
