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


class CircuitStatus(Resource):
    """A tool's server that is left alone, or tried again ("half_open"). `host` has its port; it is empty for what goes
    to no host. `failures` is unknown where another process counts them."""

    host: str
    state: Literal["open", "half_open"]
    failures: int | None = None
    until: datetime | None = None


class ToolStatus(Resource):
    """`status` is "unknown" until this process has tried to open the tool. `circuits` are of this process, or what
    another one last told of its own."""

    name: str
    type: str
    status: Literal["available", "unavailable", "unknown"]
    detail: str | None = None
    circuits: list[CircuitStatus] = Field(default_factory=list)


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


SessionPolicy = Literal["enqueue", "reject", "interrupt"]


class ChatRequest(Body):
    """`message` is text, or content parts: `{"type": "text", "text": …}` and `{"type": "image", …}`.

    `session_policy` is what to do where the session has a run in progress: wait for its end (`enqueue`), answer 409
    (`reject`), or cancel it (`interrupt`). By default as the agent's specification says.
    """

    message: (
        Annotated[str, StringConstraints(min_length=1)]
        | Annotated[list[Annotated[Content, Field(discriminator="type")]], Field(min_length=1, max_length=64)]
    )
    session_id: Identifier | None = None
    session_policy: SessionPolicy | None = None


class Webhook(Body):
    """Where to send the run when it has ended, or waits for a person: signed as Standard Webhooks says."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s\x00-\x1f]+$", max_length=2048)]


class RunRequest(ChatRequest):
    webhook: Webhook | None = None


class Decision(Body):
    """What a person decides on one call, or without `call_id` on all that wait.

    `allow` carries it out, with `arguments` in place of the model's if they are given; `deny` tells the model no, and
    `reason`.
    """

    call_id: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    decision: Literal["allow", "deny"]
    arguments: dict[str, Any] | None = None
    reason: Annotated[str, StringConstraints(max_length=2000)] | None = None


class ApproveRequest(Body):
    decisions: Annotated[list[Decision], Field(min_length=1, max_length=128)]


class CancelRequest(Body):
    reason: Annotated[str, StringConstraints(max_length=2000)] | None = None


class ChatResponse(Resource):
    run_id: str
    session_id: str
    agent: str
    message: Message
    stop_reason: str
    usage: Usage


class WaitingCall(Resource):
    """A call that waits for a person. `reason`: the tool's `approval` asks for it, or nobody knows whether it (or one
    just like it) was carried out before its process died."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    effect: Literal["read", "idempotent", "unsafe"]
    reason: Literal["approval", "outcome_unknown"]


class Waiting(Resource):
    calls: list[WaitingCall]
    since: datetime
    until: datetime


class RunStep(Resource):
    """One step of a run: what the model said, or what the tools answered."""

    number: int
    kind: Literal["model", "tools", "result", "summary"]
    message: Message | None = None
    text: str | None = None
    usage: Usage | None = None
    created_at: datetime


class Run(Resource):
    """One turn of an agent. `agent` is the agent's id. `steps` only where one run is asked for: a page of them,
    oldest first, and `next_page_token` where there are more.
    """

    id: str
    kind: Literal["chat", "stream", "background"]
    status: Literal["queued", "running", "waiting", "handed_off", "succeeded", "failed", "cancelled"]
    session_id: str
    agent: str
    generation: int
    attempt: int
    input: Message
    output: Message | None = None
    stop_reason: str | None = None
    usage: Usage | None = None
    tool_calls: int = 0
    error: dict[str, Any] | None = None
    waiting: Waiting | None = None
    webhook: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    steps: list[RunStep] | None = None
    next_page_token: str | None = None


class Session(Resource):
    """A conversation. `queued_runs` wait for `active_run` to end, the next one first."""

    id: str
    namespace: str
    cluster: str
    messages: int
    active_run: str | None = None
    queued_runs: list[str] = Field(default_factory=list)
    created_at: datetime
    updated_at: datetime


class SessionMessage(Resource):
    seq: int
    run_id: str
    agent: str
    message: Message
    created_at: datetime


class SweepReport(Resource):
    """What a sweep found and did. `redispatched` runs were left behind, and are gone on with."""

    checked: int = 0
    redispatched: int = 0
    expired: int = 0
    deliveries: int = 0
    purged: int = 0


class LogEntry(Resource):
    """One thing an agent did. `kind` is "run" (it started), "finished", "model", "tools" or "waiting"."""

    at: datetime
    severity: Literal["INFO", "ERROR"]
    kind: Literal["run", "model", "tools", "waiting", "finished"]
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
