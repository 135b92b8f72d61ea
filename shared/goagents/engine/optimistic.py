"""Deciding again when others were faster: read, decide, commit, with jitter between the tries and a bound on them."""

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from goagents.clock import Clock
from goagents.errors import OutcomeUnknown, StoreConflict

T = TypeVar("T")
ATTEMPTS = 20


async def until_applied(clock: Clock, attempt: Callable[[], Awaitable[T]]) -> T:
    """Await `attempt()` until the store takes what it commits. Raises StoreConflict, OutcomeUnknown at the last."""
    for number in range(ATTEMPTS - 1):
        try:
            return await attempt()
        except (StoreConflict, OutcomeUnknown):
            await clock.sleep(random.uniform(0, 0.005) * 2 ** min(number, 6))  # noqa: S311 - jitter, no secret
    return await attempt()
