"""What happens in a run, as the client sees it: server-sent events, each with the id `{attempt}-{seq}`.

| type | data |
|---|---|
| run.started | run_id, session_id, agent, attempt |
| message.delta | text |
| reasoning.delta | text |
| tool.started | call_id, name, arguments |
| tool.finished | call_id, name, is_error, duration (seconds), output (its first 2,000 characters) |
| message.completed | message (a `messages.Message`), stop_reason, usage |
| run.completed | run_id, session_id, agent, message, stop_reason, usage (as the answer of `chat`) |
| run.failed | run_id, session_id, error (a problem, RFC 9457) |
"""

from dataclasses import dataclass
from typing import Any, Literal

EventType = Literal[
    "run.started",
    "message.delta",
    "reasoning.delta",
    "tool.started",
    "tool.finished",
    "message.completed",
    "run.completed",
    "run.failed",
]
TERMINAL_EVENTS: frozenset[str] = frozenset({"run.completed", "run.failed"})


@dataclass(frozen=True, slots=True)
class RunEvent:
    type: EventType
    data: dict[str, Any]
    attempt: int
    seq: int

    @property
    def id(self) -> str:
        return f"{self.attempt}-{self.seq}"
