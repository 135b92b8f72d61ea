"""Time of the simulation: an event loop that never waits, and the clocks of the machines in it."""

import asyncio
import selectors
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from selectors import SelectorKey
from typing import Any

START = datetime(2026, 1, 1, tzinfo=UTC)


class Deadlock(RuntimeError):
    """Every task waits, and nothing is due: what they wait for never comes."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to what is due next, instead of waiting for it.

    All of asyncio is in its time, also `asyncio.timeout`, which a clock handed to the code under test cannot reach.
    Nothing may wait for another thread: such a wait is a Deadlock.
    """

    def __init__(self) -> None:
        self.elapsed = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.elapsed


class _Jumping(selectors.BaseSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready and timeout is None:
            raise Deadlock("Every task waits, and nothing is due.")
        if not ready and timeout is not None and timeout > 0:
            self._loop.elapsed += timeout
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class MachineClock:
    """The clock of one machine: its wall clock may be wrong, by `offset` seconds, and jump."""

    def __init__(self, loop: VirtualTimeLoop, offset: float = 0.0) -> None:
        self._loop = loop
        self.offset = offset

    def now(self) -> datetime:
        return START + timedelta(seconds=self._loop.elapsed + self.offset)

    def monotonic(self) -> float:
        return self._loop.elapsed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
