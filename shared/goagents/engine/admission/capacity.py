"""Which slots and instances to try first: hints of this process, so that runs seldom meet at the same one.

The truth is in the store. A hint only saves a probe: a process knows what it holds itself, and what it freed last.
"""

import asyncio
import contextlib
import random
from collections import deque

FIRST_PROBE = 3
WIDE_PROBE = 64


class Pool:
    """The numbers `0 … size-1` of one cluster's slots or one agent's instances, as this process knows them."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._freed: deque[int] = deque(maxlen=64)
        self._released = asyncio.Event()

    def reserve(self, size: int) -> int | None:
        """Take the most promising number: one freed here lately, else the lowest. None: this process holds them all.

        Taken before the store is asked, so that a thousand admissions at once do not all probe the same number.
        """
        while self._freed:
            number = self._freed.pop()
            if number < size and number not in self._held:
                break
        else:
            number = next((n for n in range(size) if n not in self._held), -1)
        if number < 0:
            return None
        self._held.add(number)
        return number

    def alternatives(self, size: int, *, wide: bool) -> list[int]:
        """Return others to probe in the same read, should another process hold the reserved one."""
        count = min(size, WIDE_PROBE if wide else FIRST_PROBE)
        drawn = random.sample(range(size), count)  # nosec B311 - spreads load, guards nothing
        return [number for number in drawn if number not in self._held]

    def take(self, number: int) -> bool:
        """Take `number` if nobody here has it."""
        if number in self._held:
            return False
        self._held.add(number)
        return True

    def free(self, number: int, *, idle: bool = True) -> None:
        """Give it back. `idle`: it is free in the store too, so the next run should try it first."""
        self._held.discard(number)
        if idle:
            self._freed.append(number)
        self._released.set()

    async def wait_released(self, seconds: float) -> None:
        """Wait until a number is given back here, at most `seconds`: another process may free one unseen."""
        self._released.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._released.wait(), seconds)


class Capacity:
    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}

    def pool(self, path: str) -> Pool:
        """Return the pool of a collection of slots or of one agent's instances."""
        pool = self._pools.get(path)
        if pool is None:
            pool = self._pools[path] = Pool()
        return pool
