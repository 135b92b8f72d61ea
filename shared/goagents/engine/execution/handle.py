"""A run as its callers hold it: its events from the first on, for any number of readers, and its result."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from goagents.errors import GoAgentsError
from goagents.events import EventType, RunEvent
from goagents.resources import ChatResponse

DELTAS = frozenset({"message.delta", "reasoning.delta"})
BACKLOG = 64  # events nobody has read, beyond which deltas are joined
MAX_JOINED = 4096  # characters


class RunHandle:
    """Readers come and go; cancelling one never touches the run."""

    def __init__(self, run_id: str, session_id: str, agent: str, attempt: int = 1) -> None:
        self.run_id = run_id
        self.session_id = session_id
        self.agent = agent
        self._attempt = attempt
        self._events: list[RunEvent] = []
        self._read = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._result: ChatResponse | None = None
        self._error: GoAgentsError | None = None
        self._finished = asyncio.Event()

    def publish(self, kind: EventType, data: dict[str, Any]) -> None:
        """Add an event. Where nobody reads, or too slowly, deltas are joined: a backlog stays in bounds."""
        if not (kind in DELTAS and self._join(kind, data["text"])):
            self._events.append(RunEvent(kind, data, self._attempt, len(self._events) + 1))
        self._wake()

    def _join(self, kind: EventType, text: str) -> bool:
        last = self._events[-1]
        if len(self._events) - self._read <= BACKLOG or last.type != kind or len(last.data["text"]) >= MAX_JOINED:
            return False
        self._events[-1] = RunEvent(kind, {"text": last.data["text"] + text}, last.attempt, last.seq)
        return True

    def finish(self, outcome: ChatResponse | GoAgentsError) -> None:
        """Publish the terminal event and let everybody go."""
        if isinstance(outcome, GoAgentsError):
            self._error = outcome
            about = {"run_id": self.run_id, "session_id": self.session_id}
            self.publish("run.failed", {**about, "error": {**outcome.problem(), **about}})
        else:
            self._result = outcome
            self.publish("run.completed", outcome.model_dump(mode="json"))
        self._finished.set()
        self._wake()

    async def events(self) -> AsyncIterator[RunEvent]:
        """Yield every event from the first, then those to come; end after the terminal one."""
        position = 0
        while True:
            while position < len(self._events):
                event = self._events[position]
                position += 1
                self._read = max(self._read, position)
                yield event
            if self._finished.is_set():
                return
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    async def result(self) -> ChatResponse:
        """Wait for the answer. Raises the error that ended the run."""
        await self._finished.wait()
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise AssertionError("a finished run has a result or an error")
        return self._result

    async def finished(self) -> None:
        """Wait until the run is settled; never raises."""
        await self._finished.wait()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
