"""What happens in a run, as the client sees it: server-sent events, each with the id `{attempt}-{seq}`.

| type | data |
|---|---|
| run.queued | run_id, session_id, agent: another run of the session goes first, or the run waits for a worker |
| run.started | run_id, session_id, agent, attempt |
| message.delta | text |
| reasoning.delta | text |
| tool.started | call_id, name, arguments |
| tool.finished | call_id, name, is_error, duration (seconds), output (its first 2,000 characters) |
| message.completed | message (a `messages.Message`), stop_reason, usage |
| attempt | run_id, session_id, agent, attempt, resumed_after (the id of the last event that still holds, or null) |
| run.waiting | run_id, session_id, agent, waiting (a `resources.Waiting`): a person has to decide |
| run.handed_off | run_id, session_id, agent: another invocation goes on with it |
| run.completed | run_id, session_id, agent, message, stop_reason, usage (as the answer of `chat`) |
| run.failed | run_id, session_id, error (a problem, RFC 9457) |
| run.cancelled | run_id, session_id, error (a problem with the code run_cancelled) |

Each execution of a run is an attempt, and its events count from 1. The first event of every attempt but the first is
`attempt`: what came after `resumed_after` was lost with the process that made it, and a client forgets it.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

EventType = Literal[
    "run.queued",
    "run.started",
    "message.delta",
    "reasoning.delta",
    "tool.started",
    "tool.finished",
    "message.completed",
    "attempt",
    "run.waiting",
    "run.handed_off",
    "run.completed",
    "run.failed",
    "run.cancelled",
]
TERMINAL_EVENTS: frozenset[str] = frozenset({"run.completed", "run.failed", "run.cancelled"})


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in a run's events: behind the event with this id."""

    attempt: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an event's id. Raises ValueError for a text that is none."""
        attempt, _, seq = text.partition("-")
        if not all(part.isascii() and part.isdecimal() and len(part) <= 9 for part in (attempt, seq)):
            raise ValueError(f"{text[:64]!r} is no event's id, which is ATTEMPT-NUMBER")
        return cls(int(attempt), int(seq))

    def __str__(self) -> str:
        return f"{self.attempt}-{self.seq}"


@dataclass(frozen=True, slots=True)
class RunEvent:
    type: EventType
    data: dict[str, Any]
    attempt: int
    seq: int

    @property
    def id(self) -> str:
        return f"{self.attempt}-{self.seq}"

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.attempt, self.seq)
