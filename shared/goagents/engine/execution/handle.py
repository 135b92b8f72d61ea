"""A run as the process that executes it holds it: its events from the first on, for any number of readers, its end."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any, Literal

from goagents.errors import GoAgentsError, RunInterrupted
from goagents.events import Cursor, EventType, RunEvent
from goagents.ids import sequence
from goagents.records import EventsRecord, Paths
from goagents.resources import ChatResponse
from goagents.store.base import ABSENT, Put, Write

DELTAS = frozenset({"message.delta", "reasoning.delta"})
BACKLOG = 64  # events nobody has read, beyond which deltas are joined
MAX_JOINED = 4096  # characters

Wish = Literal["hand_off", "cancel", "lost"]


class RunHandle:
    """Readers come and go; cancelling one never touches the run.

    `starts_after` is the place before the first event: who has seen all up to there can be handed the events directly.
    `wish` is what others want of the run: to be handed on at the next step, to be cancelled, or to be left at once to
    the process that took it over (`stop` sees to that). `detached`: this process has no request open for the run.
    """

    def __init__(self, run_id: str, session_id: str, agent: str, attempt: int = 1) -> None:
        self.run_id = run_id
        self.session_id = session_id
        self.agent = agent
        self.attempt = attempt
        self.starts_after = Cursor(attempt, 0)
        self.wish: Wish | None = None
        self.reason: str | None = None
        self.lost = self.detached = False
        self.readers = 0
        self._events: list[RunEvent] = []
        self._last: RunEvent | None = None
        self._kept = self._asked = 0  # events that the store has, and that it was asked to take
        self._read = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._result: ChatResponse | None = None
        self._error: GoAgentsError | None = None
        self._finished = asyncio.Event()
        self._place: tuple[Paths, datetime | None] | None = None
        self.task: asyncio.Task[None] | None = None

    def publish(self, kind: EventType, data: dict[str, Any]) -> None:
        """Add an event. Where nobody reads, or too slowly, deltas are joined: a backlog stays in bounds."""
        if not (kind in DELTAS and self._join(kind, data["text"])):
            self._events.append(self._next(kind, data))
        self._wake()

    def seal(self, kind: EventType, data: dict[str, Any]) -> None:
        """Add the last event, which readers see once it is true (`finish`, `leave`): the store has it first."""
        self._last = self._next(kind, data)

    def unseal(self) -> None:
        """It did not come true."""
        self._last = None

    def _next(self, kind: EventType, data: dict[str, Any]) -> RunEvent:
        return RunEvent(kind, data, self.attempt, len(self._events) + 1)

    def _join(self, kind: EventType, text: str) -> bool:
        count = len(self._events)
        if count <= max(self._kept, self._asked) or count - self._read <= BACKLOG:
            return False
        last = self._events[-1]
        if last.type != kind or len(last.data["text"]) >= MAX_JOINED:
            return False
        self._events[-1] = RunEvent(kind, {"text": last.data["text"] + text}, last.attempt, last.seq)
        return True

    @property
    def pending(self) -> bool:
        """Whether there are events that the store does not have."""
        return len(self._events) > self._kept or self._last is not None

    @property
    def cursor(self) -> Cursor:
        """The place behind the newest event, the sealed one included."""
        return Cursor(self.attempt, len(self._events) + (self._last is not None))

    def keep_in(self, paths: Paths, expire_at: datetime | None) -> None:
        self._place = (paths, expire_at)

    def batch(self) -> tuple[list[Write], int]:
        """Return the write that keeps all events that are not in the store, and how many there are then."""
        self._asked = len(self._events)
        fresh = [*self._events[self._kept :], *([self._last] if self._last else ())]
        if not fresh or self._place is None:
            return [], self._kept
        paths, expire_at = self._place
        return [batch_write(paths, self.run_id, fresh, expire_at)], self._asked

    def kept(self, mark: int) -> None:
        self._kept = max(self._kept, mark)

    def drop_pending(self) -> None:
        """What is pending is more than any store takes: go on without it."""
        self._kept = len(self._events)

    def finish(self, outcome: ChatResponse | GoAgentsError) -> None:
        """The run is over: show the sealed event, and let everybody go."""
        if isinstance(outcome, GoAgentsError):
            self._error = outcome
        else:
            self._result = outcome
        self._end()

    def leave(self, *, lost: bool = False) -> None:
        """This process is done with the run, which goes on elsewhere or waits: readers find the rest in the store.

        `lost`: it was not this process that decided so.
        """
        self.lost = lost
        self._end()

    def _end(self) -> None:
        if self._last is not None:
            self._events.append(self._last)
            self._last = None
        self._finished.set()
        self._wake()

    @property
    def over(self) -> bool:
        """Whether the run has ended here, with a result or an error."""
        return self._result is not None or self._error is not None

    async def events(self, after: Cursor | None = None, seconds: float | None = None) -> AsyncGenerator[RunEvent, None]:
        """Yield the events behind `after` (every one, without it), then those to come; end when there are no more.

        `seconds` is how long to wait for those to come; without it, to the end.
        """
        position = after.seq if after is not None and after.attempt == self.attempt else 0
        loop, late = asyncio.get_running_loop(), False

        def ring() -> None:
            nonlocal late
            late = True
            self._wake()

        alarm = None if seconds is None else loop.call_later(seconds, ring)
        self.readers += 1
        try:
            while True:
                while position < len(self._events):
                    event = self._events[position]
                    position += 1
                    self._read = max(self._read, position)
                    yield event
                if late or self._finished.is_set():
                    return
                waiting = loop.create_future()
                self._waiting.append(waiting)
                await waiting
        finally:
            self.readers -= 1
            if alarm is not None:
                alarm.cancel()

    async def result(self) -> ChatResponse:
        """Wait for the answer. Raises the error that ended the run, RunInterrupted where it goes on elsewhere."""
        await self._finished.wait()
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise RunInterrupted(f"The run {self.run_id} goes on elsewhere.")
        return self._result

    async def finished(self) -> None:
        """Wait until this process is done with the run; never raises."""
        await self._finished.wait()

    def stop(self, wish: Wish, reason: str | None = None) -> None:
        """Have the run cancelled or left at once, or handed on at its next step. The first wish but that one stands."""
        if self.wish in ("cancel", "lost"):
            return
        self.wish, self.reason = wish, reason
        if wish != "hand_off" and self.task is not None:
            self.task.cancel()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


def batch_write(paths: Paths, run: str, events: list[RunEvent], expire_at: datetime | None) -> Put:
    """Return the write that keeps `events`, all of one attempt."""
    last = events[-1]
    position = position_of(last.cursor)
    record = EventsRecord(
        attempt=last.attempt,
        position=position,
        events=[[event.seq, event.type, event.data] for event in events],
        expire_at=expire_at,
    )
    return Put(paths.event_batch(run, position), record.data(), ABSENT)


def position_of(cursor: Cursor) -> str:
    """Return a text that sorts as cursors do."""
    return f"{cursor.attempt:06d}-{sequence(cursor.seq)}"
