"""What the HTTP API answers: the API sends these, the client returns them, the OpenAPI document is made of them."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from goagents.messages import Content, Message, Usage

T = TypeVar("T")
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class Resource(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Body(BaseModel):
    """A request's body: unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ListOf(Resource, Generic[T]):
    items: list[T]
    next_page_token: str | None = None


class Health(Resource):
    status: Literal["ok"] = "ok"
    version: str


class DependencyCheck(Resource):
    name: str
    status: Literal["ok", "failed"]
    detail: str | None = None


class Readiness(Resource):
    status: Literal["ok", "failed"]
    checks: list[DependencyCheck]


class Instance(Resource):
    number: int
    status: Literal["active", "idle"]
    run: str | None = None
    last_active_at: datetime | None = None


class ToolStatus(Resource):
    """`status` is "unknown" until this process has tried to open the tool."""

    name: str
    type: str
    status: Literal["available", "unavailable", "unknown"]
    detail: str | None = None


class Agent(Resource):
    """An agent: `id` is `cluster.agent`, or `namespace.cluster.agent` outside the namespace `default`."""

    id: str
    name: str
    namespace: str
    cluster: str
    description: str | None = None
    provider: str
    model: str
    kept_instances: int
    max_instances: int
    active_instances: int
    idle_instances: int
    instances: list[Instance] = Field(default_factory=list)
    tools: list[ToolStatus] = Field(default_factory=list)


class Cluster(Resource):
    """A cluster and its state.

    `manifest` is the AgentCluster as it was given, references unresolved; a list leaves it and the instances out.
    """

    name: str
    namespace: str
    uid: str
    generation: int
    created_at: datetime
    updated_at: datetime
    max_concurrent_agents: int
    active_runs: int
    agents: list[Agent]
    manifest: dict[str, Any] | None = None


class ClusterApplied(Resource):
    """`changes` names the dotted paths that differ from the generation before."""

    outcome: Literal["created", "updated", "unchanged"]
    changes: list[str] = Field(default_factory=list)
    cluster: Cluster


class ScaleRequest(Body):
    agent: str = Field(max_length=63)
    instances: int = Field(ge=0, le=1000, strict=True)


class ChatRequest(Body):
    """`message` is text, or content parts: `{"type": "text", "text": …}` and `{"type": "image", …}`."""

    message: (
        Annotated[str, StringConstraints(min_length=1)]
        | Annotated[list[Annotated[Content, Field(discriminator="type")]], Field(min_length=1, max_length=64)]
    )
    session_id: Identifier | None = None


class ChatResponse(Resource):
    run_id: str
    session_id: str
    agent: str
    message: Message
    stop_reason: str
    usage: Usage


class Session(Resource):
    id: str
    namespace: str
    cluster: str
    messages: int
    active_run: str | None = None
    created_at: datetime
    updated_at: datetime


class SessionMessage(Resource):
    seq: int
    run_id: str
    agent: str
    message: Message
    created_at: datetime


class LogEntry(Resource):
    """One thing an agent did. `kind` is "run" (it started), "finished", "model" or "tools"."""

    at: datetime
    severity: Literal["INFO", "ERROR"]
    kind: Literal["run", "model", "tools", "finished"]
    run_id: str
    session_id: str
    agent: str
    text: str


class Totals(Resource):
    runs: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    tool_calls: int = 0
    mean_run_seconds: float = 0.0


class DayTotals(Totals):
    day: str


class MetricsSummary(Resource):
    """The whole deployment, from the store: running now, and totals by UTC day, newest first."""

    active_runs: int
    clusters: int
    agents: int
    total: Totals
    days: list[DayTotals]


class Problem(Resource):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[dict[str, str]] | None = None
    run_id: str | None = None
    session_id: str | None = None
