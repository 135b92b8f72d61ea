"""What the events of a stream mean."""

import json
from collections.abc import Iterator
from typing import Any, cast

from goagents.errors import GoAgentsError
from goagents.events import TERMINAL_EVENTS, EventType, RunEvent
from goagents.resources import LogEntry

from .faults import StreamEnded, UnexpectedAnswer, from_problem
from .sse import Decoder, ServerSentEvent


class RunReader:
    """The events of a run. Raises the run's error where it failed, StreamEnded where its end never came."""

    def __init__(self) -> None:
        self.finished = False
        self._decoder = Decoder()
        self._run_id: str | None = None
        self._session_id: str | None = None

    def feed(self, chunk: bytes) -> Iterator[RunEvent]:
        for sent in self._decoder.feed(chunk):
            if sent.event == "error":
                raise self._error(_problem(sent))
            event = _run_event(sent)
            self._run_id = event.data.get("run_id", self._run_id)
            self._session_id = event.data.get("session_id", self._session_id)
            if event.type == "run.failed":
                raise self._error(event.data.get("error"))
            yield event
            if event.type in TERMINAL_EVENTS:
                self.finished = True
                return

    def end(self) -> None:
        raise self._named(StreamEnded())

    def _error(self, problem: Any) -> GoAgentsError:
        return self._named(from_problem(problem if isinstance(problem, dict) else {}))

    def _named(self, error: GoAgentsError) -> GoAgentsError:
        error.run_id, error.session_id = error.run_id or self._run_id, error.session_id or self._session_id
        return error


def _problem(sent: ServerSentEvent) -> dict[str, Any]:
    try:
        return _object(sent.data)
    except ValueError as fault:
        raise UnexpectedAnswer("the server sent an error that is malformed") from fault


def _run_event(sent: ServerSentEvent) -> RunEvent:
    attempt, _, seq = sent.id.partition("-")
    try:
        # A newer server may send events that this client does not know: they are handed on as they are.
        return RunEvent(cast("EventType", sent.event), _object(sent.data), int(attempt), int(seq))
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
