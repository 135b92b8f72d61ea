"""The telemetry port: the engine and the API emit typed events; hooks observe them. Durations are in seconds."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from goagents.messages import Usage


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The request being served: logs name it. `trace` and `span` are the caller's, in hexadecimal."""

    request_id: str
    trace: str | None = None
    span: str | None = None


# A run's task is made while its request is served, so it inherits the request's context.
REQUEST: ContextVar[RequestContext | None] = ContextVar("goagents_request", default=None)


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
    """`executed`: this process said RunStarted of it. One that was cancelled while it waited ends without."""

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
    executed: bool = True


@dataclass(frozen=True, slots=True)
class RunLeft:
    """This process is done with a run that is not over: it was handed on, waits for a person, or was taken over."""

    run_id: str
    session_id: str
    cluster: str
    agent: str
    reason: Literal["handed_off", "waiting", "lost"]


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
    """`outcome` is "ok", "error", "timeout", "unknown_tool", "invalid_arguments", "refused" (a host that the agent may
    not call), "rate_limited" or "circuit_open". `attempts` counts the calls made of the tool itself; `cache` is "hit",
    "miss" or "shared" (with a call under way) where its answers are kept."""

    run_id: str
    cluster: str
    agent: str
    tool: str
    duration: float
    outcome: str
    error: str | None = None
    attempts: int = 1
    cache: Literal["hit", "miss", "shared"] | None = None


@dataclass(frozen=True, slots=True)
class ToolCircuitChanged:
    """This process leaves a tool's server alone ("open", for `left` seconds), lets one call try ("half_open"), or calls
    it again ("closed"). That `left` is over only the next call tells. `host` has a port; it is empty for what goes
    to no host."""

    cluster: str
    agent: str
    tool: str
    host: str
    state: Literal["closed", "half_open", "open"]
    failures: int
    left: float


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


Event = (
    RequestFinished
    | RunStarted
    | RunFinished
    | RunLeft
    | ModelCallFinished
    | ToolCallFinished
    | ToolCircuitChanged
    | ToolsetFailed
    | Unexpected
)
Hook = Callable[[Event], None]


@runtime_checkable
class Exposition(Protocol):
    """What a hook has that keeps metrics of this process in Prometheus' text format."""

    content_type: str

    def render(self) -> bytes: ...

    def serve(self, port: int) -> None:
        """Serve the metrics on this port of 127.0.0.1 too, once and for the rest of the process. Never raises."""
        ...


class Telemetry:
    """Hands every event to every hook. Hooks are quick and never raise."""

    def __init__(self, hooks: Sequence[Hook] = ()) -> None:
        self._hooks = tuple(hooks)

    @property
    def exposition(self) -> Exposition | None:
        """The hook that keeps metrics for Prometheus, if there is one."""
        hooks: Sequence[object] = self._hooks
        return next((hook for hook in hooks if isinstance(hook, Exposition)), None)

    def emit(self, event: Event) -> None:
        for hook in self._hooks:
            hook(event)
