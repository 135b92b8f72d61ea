"""A clock for tests: time passes when the test says so, and hours take no time."""

import asyncio
import heapq
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from goagents.store.base import Store
from goagents.testing.stores import Method, PassingStore, Subject

T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)
_TURNS = 200  # of the event loop: how long a chain of tasks that wake one another may be


@dataclass(order=True, slots=True)
class _Sleeper:
    due: float
    number: int  # of two that are due at the same time, the one that went to sleep first wakes first
    woken: "asyncio.Future[None]" = field(compare=False)


class VirtualClock:
    """A `Clock` whose time only moves when told. `SQLiteStore(path, clock=clock)` takes its server time from it.

    `advance` is for tests that go step by step, `run_until` for whole runs: there, when every task waits, time moves
    to the next one that sleeps. Before time moves, the event loop gets its turn until all that can run has run. What
    waits for something outside the event loop (a thread, a socket) cannot be told from what waits for good: tell the
    clock about it with `watch(store)` or `with clock.outside():`, and time stands still meanwhile.

    What a program waits for with `asyncio.timeout` or `asyncio.sleep` takes real time all the same.
    """

    def __init__(self, start: datetime = START) -> None:
        self._wall = start
        self._elapsed = 0.0
        self._lock = threading.Lock()  # a store's writing thread asks for the time too
        self._sleepers: list[_Sleeper] = []
        self._numbers = itertools.count()
        self._outside = 0
        self._returned = asyncio.Event()

    def now(self) -> datetime:
        with self._lock:
            return self._wall + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        with self._lock:
            return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, _Sleeper(self.monotonic() + seconds, next(self._numbers), woken))
        await woken

    @property
    def sleeping(self) -> int:
        """How many tasks sleep."""
        return sum(not sleeper.woken.done() for sleeper in self._sleepers)

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, forward or back, as a correction or a wrong clock does. Nobody wakes."""
        with self._lock:
            self._wall += timedelta(seconds=seconds)

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass. Who is due meanwhile wakes at that time, one after the other, and gets its turn."""
        if seconds < 0:
            raise ValueError("time does not go back; `jump` moves the wall clock")
        until = self.monotonic() + seconds
        await self.settle()
        while (due := self._next()) is not None and due <= until:
            await self._wake(due)
        self._move(until)
        await self.settle()

    async def run_until(self, done: Callable[[], object], *, limit: float = 86_400.0, patience: float = 10.0) -> None:
        """Return as soon as `done()` is true; whenever every task waits, let the next sleeper wake.

        Raises TimeoutError when `limit` seconds of virtual time have passed, or when for `patience` real seconds
        nobody slept and nothing happened: then nothing would ever happen.
        """
        until, idle_since = self.monotonic() + limit, time.monotonic()
        await self.settle()
        while not done():
            due = self._next()
            if due is None:
                if time.monotonic() - idle_since > patience:
                    raise TimeoutError(f"For {patience:g} s nobody slept, and what was waited for did not come.")
                await asyncio.sleep(0.001)  # something that the clock was not told about may come back yet
                await self.settle()
                continue
            if due > until:
                raise TimeoutError(f"What was waited for did not come within {limit:g} s of virtual time.")
            await self._wake(due)
            idle_since = time.monotonic()

    async def settle(self) -> None:
        """Let everything run that can, without time passing: until every task waits and nothing is outside."""
        while True:
            self._returned.clear()
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            if self._outside > 0:
                await self._returned.wait()
            elif not self._returned.is_set():  # what came back in the last of these turns had too few of them
                return

    @contextmanager
    def outside(self) -> Iterator[None]:
        """While the body waits for something outside the event loop, time stands still. It must not sleep here."""
        self._outside += 1
        try:
            yield
        finally:
            self._outside -= 1
            self._returned.set()

    def watch(self, store: Store) -> Store:
        """Return `store` so that time stands still while it works. What makes it sleep goes around this, not inside."""
        return _WatchedStore(store, self)

    def _next(self) -> float | None:
        """Return when the next sleeper is due, forgetting those whose task was cancelled."""
        while self._sleepers and self._sleepers[0].woken.done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0].due if self._sleepers else None

    async def _wake(self, due: float) -> None:
        self._move(due)
        heapq.heappop(self._sleepers).woken.set_result(None)
        await self.settle()

    def _move(self, to: float) -> None:
        with self._lock:
            self._elapsed = max(self._elapsed, to)


class _WatchedStore(PassingStore):
    def __init__(self, store: Store, clock: VirtualClock) -> None:
        super().__init__(store)
        self._clock = clock

    async def around(self, method: Method, subject: Subject, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 - all alike
        with self._clock.outside():
            return await call()
