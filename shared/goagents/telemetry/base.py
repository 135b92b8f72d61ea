"""The telemetry port: the engine and the API emit typed events; hooks observe them. Durations are in seconds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from goagents.messages import Usage


@dataclass(frozen=True, slots=True)
class RequestFinished:
    """`route` is the template (`/api/v1/agents/{id}/chat`), never the path itself: it becomes a metric's label."""

    method: str
    route: str
    path: str
    status: int
    duration: float
    request_id: str
    principal: str | None = None
    run_id: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class RunStarted:
    run_id: str
    session_id: str
    tenant: str
    cluster: str
    agent: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    run_id: str
    session_id: str
    tenant: str
    cluster: str
    agent: str
    status: str
    duration: float
    usage: Usage
    error_code: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ModelCallFinished:
    """`first_token` is the time to the first delta; None where none came."""

    run_id: str
    cluster: str
    agent: str
    provider: str
    model: str
    duration: float
    first_token: float | None
    usage: Usage
    stop_reason: str | None = None
    error_code: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCallFinished:
    """`outcome` is "ok", "error", "invalid_arguments", "timeout" or "unknown_tool"."""

    run_id: str
    cluster: str
    agent: str
    tool: str
    duration: float
    outcome: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ToolsetFailed:
    """A tool of the YAML could not be opened; its agent goes on without it."""

    cluster: str
    agent: str
    tool: str
    error: str


@dataclass(frozen=True, slots=True)
class Unexpected:
    """A defect: an exception nobody expected, with its traceback (which never leaves the logs)."""

    where: str
    error: str
    traceback: str


Event = RequestFinished | RunStarted | RunFinished | ModelCallFinished | ToolCallFinished | ToolsetFailed | Unexpected
Hook = Callable[[Event], None]


class Telemetry:
    """Hands every event to every hook. Hooks are quick and never raise."""

    def __init__(self, hooks: Sequence[Hook] = ()) -> None:
        self._hooks = tuple(hooks)

    def emit(self, event: Event) -> None:
        for hook in self._hooks:
            hook(event)
