"""Virtual time: who sleeps wakes in order, nothing else moves it, and a real thread in play does not upset it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from goagents.store.base import PRESENT, Put, Store
from goagents.store.sqlite import SQLiteStore
from goagents.testing.clocks import START, VirtualClock
from goagents.testing.faults import Fault, FaultyStore


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def store(clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Store]:
    made = SQLiteStore(str(tmp_path / "store.db"), clock=clock)
    yield clock.watch(made)
    await made.aclose()


async def test_time_stands_still_until_it_is_told_to_move(clock: VirtualClock):
    await asyncio.sleep(0.01)
    assert (clock.now(), clock.monotonic()) == (START, 0.0)
    await clock.advance(90)
    assert (clock.now(), clock.monotonic()) == (START + timedelta(seconds=90), 90.0)
    with pytest.raises(ValueError, match="does not go back"):
        await clock.advance(-1)


async def test_sleepers_wake_in_order_at_their_own_time(clock: VirtualClock):
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, clock.monotonic()))

    async with asyncio.TaskGroup() as tasks:
        for name, naps in (("a", (3.0, 3.0)), ("b", (1.0, 1.0, 1.0)), ("c", (3.0,)), ("d", (0.0, -1.0, 9.0))):
            tasks.create_task(sleeper(name, *naps))
        await clock.advance(5)
        assert woken[:2] == [("d", 0.0), ("d", 0.0)]
        assert woken[2:] == [("b", 1.0), ("b", 2.0), ("a", 3.0), ("c", 3.0), ("b", 3.0)]
        assert clock.sleeping == 2
        await clock.advance(1)
        assert woken[-1] == ("a", 6.0)
        await clock.advance(60)
    assert woken[-1] == ("d", 9.0)
    assert clock.sleeping == 0


async def test_a_chain_that_a_sleeper_sets_off_has_run_before_time_goes_on(clock: VirtualClock):
    seen: list[tuple[int, float]] = []

    async def chain(length: int) -> None:
        seen.append((length, clock.monotonic()))
        if length:
            await asyncio.create_task(chain(length - 1))

    async def wakes() -> None:
        await clock.sleep(1)
        await chain(50)

    running = asyncio.gather(wakes(), clock.sleep(1.001))
    await clock.advance(2)
    await running
    assert seen == [(length, 1.0) for length in range(50, -1, -1)]


async def test_a_cancelled_sleeper_is_forgotten(clock: VirtualClock):
    sleeping, other = asyncio.create_task(clock.sleep(5)), asyncio.create_task(clock.sleep(9))
    await clock.settle()
    sleeping.cancel()
    await clock.settle()
    assert clock.sleeping == 1
    await clock.advance(9)
    assert (sleeping.cancelled(), other.done()) == (True, True)


async def test_a_jump_moves_the_wall_clock_alone(clock: VirtualClock):
    sleeping = asyncio.create_task(clock.sleep(10))
    await clock.settle()
    clock.jump(3600)
    await clock.settle()
    assert (clock.now(), clock.monotonic()) == (START + timedelta(hours=1), 0.0)
    clock.jump(-7200)
    assert clock.now() == START - timedelta(hours=1)
    assert not sleeping.done()
    await clock.advance(10)
    assert sleeping.done()
    assert clock.now() == START - timedelta(hours=1) + timedelta(seconds=10)


async def test_it_is_the_server_time_of_a_store(clock: VirtualClock, store: Store):
    done = await store.commit(
        [
            Put("leases/a", {}, server_time=("renewed_at",)),
            Put("short/b", {"expire_at": clock.now() + timedelta(seconds=5)}),
        ]
    )
    assert done.committed_at == START
    await clock.advance(4.999)
    snapshot = await store.get_many(["leases/a", "short/b"])
    assert snapshot.read_at == START + timedelta(seconds=4.999)
    assert snapshot.documents["leases/a"].data["renewed_at"] == START
    assert "short/b" in snapshot.documents
    await clock.advance(0.001)
    assert (await store.get_many(["short/b"])).documents == {}


async def test_threads_may_ask_for_the_time_while_it_moves(clock: VirtualClock):
    ended, times = threading.Event(), [clock.now()]

    def ask() -> None:
        while not ended.is_set():
            times.append(clock.now())

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(20):
            await clock.advance(0.1)
    finally:
        ended.set()
        thread.join()
    assert times == sorted(times)
    assert times[-1] <= clock.now() == START + timedelta(seconds=2)


class TestRunUntil:
    async def test_hours_take_no_time(self, clock: VirtualClock):
        async def work() -> float:
            for _ in range(100):
                await clock.sleep(600)
            return clock.monotonic()

        task = asyncio.create_task(work())
        await clock.run_until(task.done)
        assert task.result() == 60_000.0

    async def test_time_waits_for_a_store_at_work(self, clock: VirtualClock, store: Store):
        """Each commit takes real time in a real thread; none of it may be seen as everybody waiting."""
        stamps = []

        async def writes() -> None:
            for number in range(20):
                done = await store.commit([Put("items/a", {"n": number})])
                stamps.append((done.committed_at - START).total_seconds())
                await clock.sleep(1)

        task, other = asyncio.create_task(writes()), asyncio.create_task(clock.sleep(19.5))
        await clock.run_until(lambda: task.done() and other.done())
        task.result()
        assert stamps == [float(number) for number in range(20)]

    async def test_time_waits_for_what_it_is_told_of(self, clock: VirtualClock):
        async def outside() -> float:
            with clock.outside():
                await asyncio.to_thread(threading.Event().wait, 0.05)
            return clock.monotonic()

        task, tick = asyncio.create_task(outside()), asyncio.create_task(clock.sleep(1))
        await clock.run_until(lambda: task.done() and tick.done())
        assert task.result() == 0.0

    async def test_what_came_back_has_its_turns_before_time_moves(self, clock: VirtualClock):
        """However late in the turns that the clock gives it came back, as it does where the machine is busy."""

        async def outside(turns: int) -> float:
            with clock.outside():
                for _ in range(turns):
                    await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            return clock.monotonic()

        tasks = [asyncio.create_task(outside(turns)) for turns in range(0, 600, 25)]
        tick = asyncio.create_task(clock.sleep(1))
        await clock.run_until(tick.done)
        assert [task.result() for task in tasks] == [0.0] * len(tasks)

    async def test_a_store_that_hangs_hangs_in_virtual_time(self, clock: VirtualClock, store: Store):
        faulty = FaultyStore(store, [Fault("timeout", seconds=30)], clock=clock)
        task = asyncio.create_task(faulty.commit([Put("items/a", {})]))
        await clock.run_until(task.done)
        assert clock.monotonic() == 30.0
        assert type(task.exception()).__name__ == "OutcomeUnknown"

    async def test_an_error_of_a_watched_store_comes_through(self, clock: VirtualClock, store: Store):
        task = asyncio.create_task(store.commit([Put("items/a", {}, PRESENT)]))
        await clock.run_until(task.done)
        assert type(task.exception()).__name__ == "StoreConflict"

    async def test_it_gives_up(self, clock: VirtualClock):
        async def ticks() -> None:
            while True:
                await clock.sleep(10)

        task = asyncio.create_task(ticks())
        with pytest.raises(TimeoutError, match="100 s of virtual time"):
            await clock.run_until(task.done, limit=100)
        assert clock.monotonic() == 100.0
        task.cancel()
        with pytest.raises(TimeoutError, match="nobody slept"):
            await clock.run_until(lambda: False, patience=0.02)
