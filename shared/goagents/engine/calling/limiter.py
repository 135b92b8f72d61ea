"""A rate limit: calls take turns, evenly after a burst, within this process.

Our own token bucket, because aiolimiter and pyrate-limiter sleep on the event loop's clock and not on the engine's,
and neither says beforehand how long a turn takes.
"""

from bisect import insort

from goagents.clock import Clock
from goagents.spec.calling import RateLimitSpec


class RateLimiter:
    """At most `spec.calls` at once, and over time as many as `spec.per` allows."""

    def __init__(self, spec: RateLimitSpec, clock: Clock) -> None:
        self.spec = spec
        self._clock = clock
        self._pause = spec.per / spec.calls
        self._free_at = 0.0  # when the bucket was, or will be, empty of claims: the theoretical time of arrival
        self._returned: list[float] = []  # claims on turns to come whose owners left; others lie behind each of them

    async def turn(self, patience: float) -> float:
        """Wait for a turn and return 0; where it is more than `patience` seconds away, return those and take none."""
        now = self._clock.monotonic()
        claim = self._next(now)
        wait = max(0.0, self._begins(claim) - now)
        if wait > patience:
            return wait
        if self._returned and self._returned[0] == claim:
            self._returned.pop(0)
        else:
            self._free_at = claim + self._pause
        try:
            if wait > 0:
                await self._clock.sleep(wait)
        except BaseException:
            self._give_back(claim)
            raise
        return 0.0

    def _next(self, now: float) -> float:
        """Return the earliest claim that can be made."""
        while self._returned and self._begins(self._returned[0]) < now:
            self._returned.pop(0)
        return self._returned[0] if self._returned else max(self._free_at, now)

    def _begins(self, claim: float) -> float:
        return claim + self._pause - self.spec.per

    def _give_back(self, claim: float) -> None:
        """Let others have a turn. The last one is as if never taken: those before it may be the last ones then."""
        insort(self._returned, claim)
        while self._returned and self._returned[-1] + self._pause == self._free_at:
            self._free_at = self._returned.pop()
