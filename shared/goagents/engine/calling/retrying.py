"""Repeats of a call that failed for a passing reason, by tenacity: with backoff, jitter and the engine's own clock."""

import random
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_exponential

from goagents.clock import Clock
from goagents.spec.calling import RetrySpec


class Attempted(Protocol):
    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait."""
        ...


A = TypeVar("A", bound=Attempted)


async def persist(
    attempt: Callable[[], Awaitable[A]],
    may_repeat: Callable[[A], bool],
    spec: RetrySpec,
    clock: Clock,
    deadline: float,
) -> A:
    """Return what the last attempt came to. A repeat that would begin at `deadline` (monotonic) or later is not made.

    `attempt` tells failures by what it returns; what it raises ends the attempts.
    """

    def stop(state: RetryCallState) -> bool:
        asked = _asked(state)
        return (
            state.attempt_number > spec.max
            or (asked is not None and asked > spec.max_backoff)
            or clock.monotonic() + state.upcoming_sleep >= deadline
        )

    def wait(state: RetryCallState) -> float:
        jittered: float = pause(state) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        return max(jittered, _asked(state) or 0.0)

    pause = wait_exponential(multiplier=spec.backoff, max=spec.max_backoff)
    retrying = AsyncRetrying(
        sleep=clock.sleep, stop=stop, wait=wait, retry=retry_if_result(may_repeat), retry_error_callback=_last
    )
    result: A = await retrying(attempt)
    return result


def _asked(state: RetryCallState) -> float | None:
    return _last(state).retry_after


def _last(state: RetryCallState) -> Attempted:
    if state.outcome is None:
        raise AssertionError("an attempt was made")
    last: Attempted = state.outcome.result()
    return last
