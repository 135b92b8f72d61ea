"""Turns: evenly after a burst, and those that nobody waits for any more are given to others."""

import asyncio

import pytest

from goagents.engine.calling.limiter import RateLimiter
from goagents.spec.calling import RateLimitSpec
from goagents.testing.clocks import VirtualClock


class Queue:
    """Callers of one limiter, and when each had its turn."""

    def __init__(self, calls: int, per: float) -> None:
        self.clock = VirtualClock()
        self.limiter = RateLimiter(RateLimitSpec.model_validate({"calls": calls, "per": f"{per}s"}), self.clock)
        self.had: list[tuple[str, float]] = []

    async def _wait(self, name: str) -> None:
        assert await self.limiter.turn(1000) == 0
        self.had.append((name, self.clock.monotonic()))

    async def join(self, *names: str) -> list["asyncio.Task[None]"]:
        tasks = [asyncio.create_task(self._wait(name)) for name in names]
        await self.clock.settle()
        return tasks

    async def leave(self, *tasks: "asyncio.Task[None]") -> None:
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True)
        )


async def test_who_would_wait_too_long_takes_no_turn():
    queue = Queue(1, 10)
    assert await queue.limiter.turn(0) == 0
    assert await queue.limiter.turn(9) == 10
    assert await queue.limiter.turn(9) == 10
    await queue.clock.advance(4)
    assert await queue.limiter.turn(5) == 6


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
async def test_turns_of_those_who_left_are_free_again(order: tuple[int, ...]):
    queue = Queue(1, 10)
    await queue.join("first")
    waiting = await queue.join("a", "b", "c")
    await queue.leave(*(waiting[place] for place in order))
    assert await queue.limiter.turn(0) == 10
    await queue.join("next")
    await queue.clock.advance(10)
    assert queue.had == [("first", 0), ("next", 10)]


async def test_a_turn_between_others_goes_to_the_next_who_comes_and_no_two_meet():
    queue = Queue(1, 10)
    _, _, b, _ = await queue.join("first", "a", "b", "c")
    await queue.leave(b)
    await queue.join("d", "e")
    await queue.clock.advance(100)
    assert queue.had == [("first", 0), ("a", 10), ("d", 20), ("c", 30), ("e", 40)]


async def test_a_turn_that_passed_unused_is_nobodys():
    queue = Queue(1, 10)
    _, a, b, _ = await queue.join("first", "a", "b", "c")
    await queue.leave(a, b)
    await queue.clock.advance(25)
    assert await queue.limiter.turn(0) == 15
    await queue.clock.advance(75)
    await queue.join("late", "later")
    await queue.clock.advance(10)
    assert queue.had == [("first", 0), ("c", 30), ("late", 100), ("later", 110)]


@pytest.mark.parametrize("calls", [1, 3])
async def test_however_many_come_and_leave_the_limit_holds_and_nothing_is_kept_of_them(calls: int):
    queue = Queue(calls, 2 * calls)
    for round_ in range(100):
        waiting = await queue.join(*(f"{round_}.{place}" for place in range(5)))
        await queue.leave(*(task for task in waiting[round_ % 3 :: 2] if not task.done()))
        await queue.clock.advance(round_ % 4)
    await queue.clock.advance(2000)
    times = [time for _, time in queue.had]
    assert len(times) > 200
    for first, begin in enumerate(times):
        for more, end in enumerate(times[first : first + 20]):
            assert more + 1 <= calls + (end - begin) / 2 + 1e-9
    assert await queue.limiter.turn(0) == 0
    assert not queue.limiter._returned
