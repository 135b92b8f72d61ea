"""How long a client goes on trying, free of any transport: growing pauses, and an end after a time without progress."""

import random
import time
from collections.abc import Callable

from goagents.errors import GoAgentsError

from .faults import ConnectionBroke, GatewayFailed, ServerTimedOut, ServerUnreachable, StreamEnded, UnexpectedAnswer

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
_MOST_DOUBLINGS = 10
# The request may have arrived, and its answer was lost.
_UNDERWAY = (ConnectionBroke, GatewayFailed, ServerTimedOut, StreamEnded)


def _jitter() -> float:
    return random.uniform(0.5, 1.0)  # noqa: S311 - no secret


class Patience:
    """`limit` is the time in seconds after a fault within which there must be progress; 0 never tries again."""

    def __init__(
        self, limit: float, *, now: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = _jitter
    ) -> None:
        self.limit = limit
        self._now = now
        self._jitter = jitter
        self._lost_at: float | None = None
        self._tries = 0

    def progress(self) -> None:
        """Something came of it: the time starts anew at the next fault."""
        self._lost_at, self._tries = None, 0

    def pause(self, asked: float | None = None) -> float | None:
        """Return the seconds until the next try, at least those the server `asked` for; None when it is time to give
        up."""
        now = self._now()
        if self._lost_at is None:
            self._lost_at = now
        left = self._lost_at + self.limit - now
        if left <= 0 or (asked or 0.0) > left:
            return None
        grown = min(LONGEST_PAUSE, FIRST_PAUSE * float(2 ** min(self._tries, _MOST_DOUBLINGS))) * self._jitter()
        self._tries += 1
        return min(left, max(grown, asked or 0.0))


def is_transient(fault: GoAgentsError, *, begun: bool) -> bool:
    """Return whether asking again may help.

    An answer that was lost may come the next time. A server that cannot be reached, or that fails, is asked again only
    if it was there before (`begun`): otherwise the caller learns at once that something is wrong.
    """
    if isinstance(fault, _UNDERWAY):
        return True
    if not begun or isinstance(fault, UnexpectedAnswer):
        return False
    return isinstance(fault, ServerUnreachable) or fault.status in {408, 429} or fault.status >= 500
