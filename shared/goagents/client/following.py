"""A run's events over as many connections as it takes: what to ask for next, which events are new, when it is over.

Free of any transport. A driver sends each `request()`, hands each event to `takes`, and each fault to `after`.
"""

import time
from collections.abc import Callable
from typing import Any

from goagents.errors import GoAgentsError
from goagents.events import TERMINAL_EVENTS, Cursor, RunEvent

from .calls import Call, StreamCall, path, raw
from .faults import ServerTimedOut, StreamEnded, from_problem
from .patience import Patience, is_transient
from .readers import RunReader

# A stream that stays open for so long is progress, though nothing happens in it: the server ends it at its timeout.
LASTED = 1.0  # seconds
_FAILED = frozenset({"run.failed", "run.cancelled"})


class Following:
    """Begins with `start`, a request whose answer streams the run, and may be sent again; or, where `run_id` is known,
    with the run's events `after` a place.

    No event is taken twice. It is over with the run's last event and, unless `through_waiting`, with `run.waiting`.
    `until` is a time of `now` (seconds) after which it is given up. `last` is the last event taken.
    """

    def __init__(
        self,
        patience: Patience,
        *,
        start: Call[bytes] | None = None,
        run_id: str | None = None,
        after: Cursor | None = None,
        through_waiting: bool = False,
        begun: bool = False,
        until: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.over = False
        self.last: RunEvent | None = None
        self._patience = patience
        self._start = start
        self._run_id = run_id
        self._session_id: str | None = None
        self._cursor = after
        self._through_waiting = through_waiting
        self._begun = begun
        self._until = until
        self._now = now
        self._asked_at = now()
        self._answered = False
        self._error: GoAgentsError | None = None

    def request(self) -> StreamCall[RunEvent] | None:
        """Return the request to make now; None when it is over."""
        if self.over:
            return None
        self._asked_at, self._answered = self._now(), False
        if self._run_id is None and self._start is not None:
            return StreamCall(self._start, self._opened)
        headers = {"Last-Event-ID": str(self._cursor)} if self._cursor else {}
        where = path("runs", self._run_id or "", "events")
        return StreamCall(Call("GET", where, raw, headers=headers), self._opened)

    def takes(self, event: RunEvent) -> bool:
        """Return whether the event is for the caller: it is new, and no failure, which `conclude` raises."""
        if self._cursor is not None and event.cursor <= self._cursor:
            return False
        self._cursor, self.last = event.cursor, event
        self._patience.progress()
        self._run_id = event.data.get("run_id", self._run_id)
        self._session_id = event.data.get("session_id", self._session_id)
        stops = event.type in TERMINAL_EVENTS or (event.type == "run.waiting" and not self._through_waiting)
        self.over = self.over or stops
        if event.type in _FAILED:
            problem = event.data.get("error")
            self._error = self._named(from_problem(_fallback(event) | (problem if isinstance(problem, dict) else {})))
            return False
        return True

    def after(self, fault: GoAgentsError) -> float:
        """Return the seconds to wait before the next `request`.

        Raises the fault where asking again does not help, StreamEnded where it did not help for too long, and
        ServerTimedOut after `until`.
        """
        if self._answered and isinstance(fault, StreamEnded):
            self._lives()
        self._in_time()
        # Until the run is known, an answer that names it tells how it ended; later the events do.
        is_outcome = self._run_id is None and fault.run_id is not None
        transient = is_transient(fault, begun=self._begun and not is_outcome)
        pause = self._patience.pause(fault.retry_after) if transient else None
        if pause is None:
            lost = transient and self._run_id is not None and self._patience.limit > 0
            raise self._named(self._given_up(fault) if lost else fault)
        self._begun = True
        return pause if self._until is None else max(0.0, min(pause, self._until - self._now()))

    def resume(self) -> None:
        """Go on behind `run.waiting`."""
        self.over = False

    def conclude(self) -> None:
        """Raises the run's error, if it failed or was cancelled."""
        if self._error is not None:
            raise self._error

    def _opened(self) -> RunReader:
        self._answered = self._begun = True
        return RunReader(self._alive)

    def _alive(self) -> None:
        """Bytes came: an event, or the comment that keeps a stream alive."""
        self._lives()
        self._in_time()

    def _lives(self) -> None:
        if self._now() - self._asked_at >= LASTED:
            self._patience.progress()

    def _in_time(self) -> None:
        if self._until is not None and self._now() >= self._until:
            raise self._named(
                ServerTimedOut("the run did not end in time; it goes on, and `wait_for_run` waits for it")
            )

    def _given_up(self, fault: GoAgentsError) -> StreamEnded:
        limit = self._patience.limit
        return StreamEnded(
            f"the run's events could not be followed again within {limit:g} s: {fault.detail}. The run may go on"
        )

    def _named(self, error: GoAgentsError) -> GoAgentsError:
        error.run_id, error.session_id = error.run_id or self._run_id, error.session_id or self._session_id
        return error


def _fallback(event: RunEvent) -> dict[str, Any]:
    return {"code": event.type.replace(".", "_"), "status": 409 if event.type == "run.cancelled" else 500}
