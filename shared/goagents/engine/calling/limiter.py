"""A rate limit: calls take turns, evenly after a burst, within this process.

Our own token bucket, because aiolimiter and pyrate-limiter sleep on the event loop's clock and not on the engine's,
and neither says beforehand how long a turn takes.
"""

from goagents.clock import Clock
from goagents.spec.calling import RateLimitSpec


class RateLimiter:
    """At most `spec.calls` at once, and over time as many as `spec.per` allows."""

    def __init__(self, spec: RateLimitSpec, clock: Clock) -> None:
        self.spec = spec
        self._clock = clock
        self._pause = spec.per / spec.calls
        self._free_at = 0.0  # when the bucket was, or will be, empty of claims: the theoretical time of arrival

    def reserve(self, patience: float) -> float:
        """Take a turn and return the seconds until it; where that is more than `patience`, take none."""
        now = self._clock.monotonic()
        free_at = max(self._free_at, now)
        wait = max(0.0, free_at + self._pause - self.spec.per - now)
        if wait <= patience:
            self._free_at = free_at + self._pause
        return wait
