"""The records in the store and the paths they live at. Frozen: a change is a new record or a write of some fields.

    tenants/{t}/clusters/{ns}.{c}                  ClusterRecord
      .../generations/{uid}-{g}                    GenerationRecord   immutable
      .../slots/{k}                                SlotRecord         k < max_concurrent_agents
      .../instances/{a}.{k}                        InstanceRecord     k < max_instances
      .../toolsets/{a}.{tool}                      ToolsetRecord      tools that could not be opened
    tenants/{t}/sessions/{s}                       SessionRecord
      .../messages/{seq}                           MessageRecord      append-only
    tenants/{t}/runs/{r}                           RunRecord
      .../lease/current                            LeaseRecord        written by its owner alone
      .../signals/{id}                             SignalRecord       written by others, read by the owner
      .../steps/{n}                                StepRecord         the journal
      .../steps/{n}.{i}                            StepRecord         the result of one call, recorded at once
      .../events/{attempt}-{seq}                   EventsRecord       a batch of events, named by its last one
    tenants/{t}/idempotency/{hash}                 IdempotencyRecord
    tenants/{t}/tool_answers/{hash}                ToolAnswerRecord   the cache of tools' answers
    tenants/{t}/deliveries/{run}.{event}           DeliveryRecord     a webhook on its way
    tenants/{t}/usage/{yyyymmdd}-{shard}           counters, see UsageRecord
    tenants/{t}/deletions/{uid}                    DeletionRecord     of a cluster; and `tenants/{t}` itself

Only runs are leased. A slot, an instance and a session point at the run that holds them. Unknown fields are ignored,
so that records of a newer version can be read while both versions serve.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_serializer

from goagents.ids import sequence

RunStatus = Literal["queued", "running", "waiting", "handed_off", "succeeded", "failed", "cancelled"]
TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Read a document's data. Raises pydantic.ValidationError for data that is no such record."""
        return cls.model_validate(data)

    def data(self) -> dict[str, Any]:
        """Return the document's data; None fields are left out, so that absent and None are the same."""
        return self.model_dump(exclude_none=True)


class Scaling(Record):
    """What `scale` set for one agent: `kept` instances stay when idle, others idle since before `at` are gone."""

    kept: int
    at: datetime

    @field_serializer("at")
    def _payload(self, at: datetime) -> str:
        return at.isoformat()  # lies inside a payload field, where the store takes JSON only


class ClusterRecord(Record):
    """`digest` is of the spec's canonical JSON: a PUT of the same content changes nothing."""

    uid: str
    name: str
    namespace: str
    generation: int
    digest: str
    status: Literal["active", "deleting"] = "active"
    scaling: dict[str, Scaling] = Field(default_factory=dict)
    created_at: datetime
    updated_at: datetime


class GenerationRecord(Record):
    """`trusted` is true for a file given to `goagents run`; a cluster received over HTTP is not."""

    manifest: dict[str, Any]
    trusted: bool
    created_at: datetime


class SlotRecord(Record):
    run: str | None = None


class InstanceRecord(Record):
    agent: str
    number: int
    run: str | None = None
    last_active_at: datetime | None = None


class ToolsetRecord(Record):
    """A tool that could not be opened, or whose server some process leaves alone: `circuit_host`, for that process's
    calls, until `circuit_until_at`."""

    agent: str
    tool: str
    status: Literal["available", "unavailable"]
    detail: str | None = None
    checked_at: datetime
    circuit_host: str | None = None
    circuit_until_at: datetime | None = None


class SessionRecord(Record):
    """`head` is the number of the last message; 0 before the first.

    `queue` names the runs that wait for `active_run` to end, the next one first. `compacted` is the number up to which
    messages no longer go to the model; `summary`, if there is one, stands for them. `doubts` are the fingerprints of
    calls whose outcome nobody knows.
    """

    id: str
    namespace: str
    cluster: str
    cluster_uid: str
    principal: str
    head: int
    active_run: str | None = None
    queue: list[str] = Field(default_factory=list)
    compacted: int = 0
    summary: str | None = None
    doubts: list[str] = Field(default_factory=list)
    created_at: datetime
    updated_at: datetime


class MessageRecord(Record):
    """`message` is a `messages.Message` as JSON."""

    seq: int
    run: str
    agent: str
    message: dict[str, Any]
    created_at: datetime


class RunRecord(Record):
    """One turn. `input` and `output` are messages as JSON, `error` a problem as JSON, `usage` a `messages.Usage`.

    `log` is what `goagents logs` shows of it: `resources.LogEntry` without what the record itself says.

    `head` is the number of its user message, None while the run waits for another one of its session. `attempt` counts
    executions; `crashes` those that ended in a crash since the step `crashed_step`. `unfinished` are the ids of calls
    that were in progress when the run was handed on: what they came to is not known. `waiting` is a `resources.Waiting`
    as JSON, `decisions` what people decided, by the call's id, `doubts` the fingerprints of calls whose outcome nobody
    knows. `event` is the id of the last event that holds, `key` the hash of its Idempotency-Key, `webhook` the URL to
    tell of the end. `interrupts`: it was to take the place of the run before it. `give_up_at` is when a waiting run
    fails, `waited` the seconds it waited.
    """

    id: str
    kind: Literal["chat", "stream", "background"]
    status: RunStatus
    session: str
    namespace: str
    cluster: str
    cluster_uid: str
    generation: int
    agent: str
    principal: str
    slot: int | None = None
    instance: int | None = None
    attempt: int = 1
    head: int | None = None
    waited: float = 0.0
    crashes: int = 0
    crashed_step: int = 0
    unfinished: list[str] = Field(default_factory=list)
    waiting: dict[str, Any] | None = None
    decisions: dict[str, dict[str, Any]] | None = None
    doubts: list[str] = Field(default_factory=list)
    event: str | None = None
    webhook: str | None = None
    key: str | None = None
    interrupts: bool | None = None
    input: dict[str, Any]
    output: dict[str, Any] | None = None
    stop_reason: str | None = None
    usage: dict[str, int] | None = None
    tool_calls: int = 0
    error: dict[str, Any] | None = None
    log: list[dict[str, Any]] = Field(default_factory=list)
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    give_up_at: datetime | None = None
    expire_at: datetime | None = None


class LeaseRecord(Record):
    """Who may write the run. It lives while `renewed_at` (server time) plus `ttl` seconds is not past.

    Of a run that nobody executes (queued, handed off) the owner is empty, and `ttl` is how long to wait for a worker.
    """

    token: str
    owner: str
    attempt: int
    renewed_at: datetime
    ttl: float
    commit_id: str
    expire_at: datetime | None = None


class SignalRecord(Record):
    kind: Literal["cancel"]
    principal: str
    reason: str | None = None
    created_at: datetime
    expire_at: datetime | None = None


class EventsRecord(Record):
    """A batch of events: `[seq, type, data]` each, of one attempt. `position` sorts as its last event does."""

    attempt: int
    position: str
    events: list[Any]
    expire_at: datetime | None = None


class StepRecord(Record):
    """One step of the journal. A model step keeps the answer; a tools step its results, as messages in JSON.

    `intents` are the calls that a model step asks for: call_id, name, effect. A "result" is that of one call of the
    step, recorded before the others' (`message` holds its ToolResultPart alone). A "summary" keeps what was made of
    the session's older messages: `text`, for those up to `through`.
    """

    number: int
    kind: Literal["model", "tools", "result", "summary"]
    state: Literal["done"] = "done"
    message: dict[str, Any] | None = None
    text: str | None = None
    through: int | None = None
    intents: list[dict[str, Any]] | None = None
    usage: dict[str, int] | None = None
    duration: float | None = None
    created_at: datetime
    expire_at: datetime | None = None


class IdempotencyRecord(Record):
    run: str
    payload_hash: str
    expire_at: datetime


class DeletionRecord(Record):
    namespace: str
    name: str
    deleted_at: datetime


class ToolAnswerRecord(Record):
    """What a tool answered, as content parts in JSON; before that, its asker's claim; neither where none is kept."""

    claim: str | None = None
    content: list[dict[str, Any]] | None = None
    created_at: datetime
    expire_at: datetime


class DeliveryRecord(Record):
    """A webhook of a run, until it is delivered or given up. `body` is sent as it is, each time the same."""

    id: str
    run: str
    event: str
    url: str
    body: str
    state: Literal["pending", "delivered", "failed"] = "pending"
    attempts: int = 0
    detail: str | None = None
    next_at: datetime
    created_at: datetime
    expire_at: datetime | None = None


class UsageRecord(Record):
    """One day's counters on one shard; a day is the sum of its shards."""

    day: str
    runs: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    tool_calls: int = 0
    duration: float = 0.0


class Paths:
    """Where a tenant's records live."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.root = f"tenants/{tenant}"

    def clusters(self) -> str:
        return f"{self.root}/clusters"

    def cluster(self, namespace: str, name: str) -> str:
        return f"{self.clusters()}/{namespace}.{name}"

    def generations(self, namespace: str, name: str) -> str:
        return f"{self.cluster(namespace, name)}/generations"

    def generation(self, namespace: str, name: str, uid: str, number: int) -> str:
        """The uid is part of the id: a cluster deleted and made anew shares no generation with the old one."""
        return f"{self.generations(namespace, name)}/{uid}-{sequence(number)}"

    def slots(self, namespace: str, name: str) -> str:
        return f"{self.cluster(namespace, name)}/slots"

    def slot(self, namespace: str, name: str, number: int) -> str:
        return f"{self.slots(namespace, name)}/{sequence(number)}"

    def instances(self, namespace: str, name: str) -> str:
        return f"{self.cluster(namespace, name)}/instances"

    def instance(self, namespace: str, name: str, agent: str, number: int) -> str:
        return f"{self.instances(namespace, name)}/{agent}.{sequence(number)}"

    def toolsets(self, namespace: str, name: str) -> str:
        return f"{self.cluster(namespace, name)}/toolsets"

    def toolset(self, namespace: str, name: str, agent: str, tool: str) -> str:
        return f"{self.toolsets(namespace, name)}/{agent}.{tool}"

    def sessions(self) -> str:
        return f"{self.root}/sessions"

    def session(self, session: str) -> str:
        return f"{self.sessions()}/{session}"

    def messages(self, session: str) -> str:
        return f"{self.session(session)}/messages"

    def message(self, session: str, seq: int) -> str:
        return f"{self.messages(session)}/{sequence(seq)}"

    def runs(self) -> str:
        return f"{self.root}/runs"

    def run(self, run: str) -> str:
        return f"{self.runs()}/{run}"

    def lease(self, run: str) -> str:
        return f"{self.run(run)}/lease/current"

    def steps(self, run: str) -> str:
        return f"{self.run(run)}/steps"

    def step(self, run: str, number: int) -> str:
        return f"{self.steps(run)}/{sequence(number)}"

    def result(self, run: str, number: int, index: int) -> str:
        """Where the result of one call of the tools step `number` is recorded at once; it sorts behind that step."""
        return f"{self.step(run, number)}.{index:04d}"

    def events(self, run: str) -> str:
        return f"{self.run(run)}/events"

    def event_batch(self, run: str, position: str) -> str:
        return f"{self.events(run)}/{position}"

    def signal(self, run: str, kind: str) -> str:
        return f"{self.run(run)}/signals/{kind}"

    def deliveries(self) -> str:
        return f"{self.root}/deliveries"

    def delivery(self, run: str, event: str) -> str:
        return f"{self.deliveries()}/{run}.{event}"

    def idempotency(self, key_hash: str) -> str:
        return f"{self.root}/idempotency/{key_hash}"

    def tool_answer(self, key: str) -> str:
        return f"{self.root}/tool_answers/{key}"

    def deletions(self) -> str:
        return f"{self.root}/deletions"

    def deletion(self, cluster_uid: str) -> str:
        return f"{self.deletions()}/{cluster_uid}"

    def usage(self) -> str:
        return f"{self.root}/usage"

    def usage_shard(self, day: str, shard: int) -> str:
        return f"{self.usage()}/{day}-{shard:02d}"
