"""What the events of a stream mean."""

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

from goagents.events import TERMINAL_EVENTS, Cursor, EventType, RunEvent
from goagents.resources import LogEntry

from .faults import StreamEnded, UnexpectedAnswer, from_problem
from .sse import Decoder, ServerSentEvent


class RunReader:
    """The events of a run. Raises StreamEnded where the stream ends before the run's last event.

    `alive` is called whenever bytes came.
    """

    def __init__(self, alive: Callable[[], None]) -> None:
        self.finished = False
        self._alive = alive
        self._decoder = Decoder()

    def feed(self, chunk: bytes) -> Iterator[RunEvent]:
        self._alive()
        for sent in self._decoder.feed(chunk):
            if sent.event == "error":
                problem = from_problem(_problem(sent))
                raise StreamEnded(f"the server ended the stream: {problem.detail}") from problem
            event = _run_event(sent)
            self.finished = event.type in TERMINAL_EVENTS
            yield event
            if self.finished:
                return

    def end(self) -> None:
        raise StreamEnded


def _problem(sent: ServerSentEvent) -> dict[str, Any]:
    try:
        return _object(sent.data)
    except ValueError as fault:
        raise UnexpectedAnswer("the server sent an error that is malformed") from fault


def _run_event(sent: ServerSentEvent) -> RunEvent:
    try:
        cursor = Cursor.parse(sent.id)
        # A newer server may send events that this client does not know: they are handed on as they are.
        return RunEvent(cast("EventType", sent.event), _object(sent.data), cursor.attempt, cursor.seq)
    except ValueError as fault:
        raise UnexpectedAnswer(f"the server sent an event {sent.event[:64]!r} that is malformed") from fault


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - the text is wrong, not a type in this program
    return value


class LogReader:
    """Log entries, until the server or the caller ends the stream."""

    def __init__(self) -> None:
        self.finished = False
        self._decoder = Decoder()

    def feed(self, chunk: bytes) -> Iterator[LogEntry]:
        for sent in self._decoder.feed(chunk):
            if sent.event == "error":
                raise from_problem(_problem(sent))
            try:
                yield LogEntry.model_validate_json(sent.data)
            except ValueError as fault:
                raise UnexpectedAnswer("the server sent a log entry that is malformed") from fault

    def end(self) -> None:
        """The server may end a stream of logs at its timeout."""
