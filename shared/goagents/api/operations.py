"""Every operation of the API: what it takes and what it can answer. The OpenAPI document is made of this."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from goagents.events import EventType
from goagents.records import RunStatus

from .body import JSON
from .params import DEFAULT_PAGE_SIZE, LABEL, MAX_IDEMPOTENCY_KEY, MAX_PAGE_SIZE, MAX_PAGE_TOKEN

_NAME = {"type": "string", "pattern": f"^{LABEL}$"}
_CURSOR = {"type": "string", "pattern": r"^\d{1,9}-\d{1,9}$"}
_EVENTS: Mapping[str, Any] = {"text/event-stream": "ServerSentEvent"}
_CALL = (401, 403, 500, 503)
_READ = (*_CALL, 404, 422)
_WRITE = (*_READ, 400, 408, 409, 413, 415)
_RUN = (*_WRITE, 429, 502, 504)


SERVER_SENT_EVENT: Mapping[str, Any] = {
    "title": "ServerSentEvent",
    "description": "One event of the stream; `data` is JSON in one line.",
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": r"^\d+-\d+$", "description": "attempt-seq; events of runs only"},
        "event": {"enum": [*get_args(EventType), "log", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


@dataclass(frozen=True, slots=True)
class Answer:
    """`content` maps media types to the name of a model, or to a schema."""

    status: int
    description: str
    content: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """`body` is the name of a model, `parameters` names entries of PARAMETERS, `problems` the statuses of errors."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    answers: tuple[Answer, ...]
    problems: tuple[int, ...]
    parameters: tuple[str, ...] = ()
    body: str | None = None
    body_types: tuple[str, ...] = (JSON,)
    body_required: bool = True
    description: str = ""
    open: bool = False


def _json(model: str, description: str = "Done.", status: int = 200) -> Answer:
    return Answer(status, description, {JSON: model})


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _path(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


PARAMETERS: Mapping[str, dict[str, Any]] = {
    "cluster_name": _path("name", "The cluster's name.", _NAME),
    "agent_id": _path(
        "id",
        "`cluster.agent`, or `namespace.cluster.agent`.",
        {"type": "string", "pattern": rf"^({LABEL}\.)?{LABEL}\.{LABEL}$"},
    ),
    "run_id": _path("id", "The run.", {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"}),
    "status": _query("status", "Runs with this status only.", {"enum": list(get_args(RunStatus))}),
    "run_agent": _query(
        "agent", "Runs of this agent only: its id.", {"type": "string", "pattern": rf"^({LABEL}\.)?{LABEL}\.{LABEL}$"}
    ),
    "run_session": _query(
        "session_id", "Runs of this session only.", {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"}
    ),
    "run_cluster": _query("cluster", "Runs of this cluster only.", _NAME),
    "after": _query("after", "Events behind this one only.", _CURSOR),
    "last_event_id": {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "Events behind this one only; goes before `after`.",
        "schema": _CURSOR,
    },
    "session_id": _path("id", "The session.", {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"}),
    "namespace": _query("namespace", "The namespace.", {**_NAME, "default": "default"}),
    "cluster": _query("cluster", "Agents of this cluster only.", _NAME),
    "agent": _query("agent", "What this agent did only.", _NAME),
    "follow": _query(
        "follow",
        "Send what happens from now on as server-sent events `log`, until the client leaves or `server.timeout`.",
        {"type": "boolean", "default": False},
    ),
    "dry_run": _query("dry_run", "Answer what would happen, write nothing.", {"type": "boolean", "default": False}),
    "page_size": _query(
        "page_size",
        "How many items at most.",
        {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": DEFAULT_PAGE_SIZE},
    ),
    "page_token": _query(
        "page_token",
        "`next_page_token` of the page before.",
        {"type": "string", "minLength": 1, "maxLength": MAX_PAGE_TOKEN},
    ),
    "idempotency_key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same key and the same payload: the same run, its result or its live stream. Another "
        "payload with the key: 409.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY},
    },
}
_PAGE = ("page_size", "page_token")
_MANIFEST = (JSON, "application/yaml")

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET", "/health", "get_health", "health", "Whether the process lives.",
        (_json("Health", "It lives."),), (500,), open=True,
    ),
    Operation(
        "GET", "/ready", "get_readiness", "health", "Whether requests can be served: each dependency by its name.",
        (_json("Readiness", "All is there."), _json("Readiness", "Something is not there.", 503)), (500,), open=True,
    ),
    Operation(
        "GET", "/openapi.json", "get_openapi", "health", "This document.",
        (Answer(200, "The document.", {JSON: {"type": "object"}}),), (500,), open=True,
    ),
    Operation(
        "GET", "/api/v1/clusters", "list_clusters", "clusters", "The clusters of a namespace.",
        (_json("ClusterList", "A page."),), (*_CALL, 422), ("namespace", *_PAGE),
    ),
    Operation(
        "POST", "/api/v1/clusters", "create_cluster", "clusters", "Create a cluster.",
        (
            _json("ClusterApplied", "What would happen (`dry_run`)."),
            _json("ClusterApplied", "It is created.", 201),
        ),
        (*_CALL, 400, 408, 409, 413, 415, 422), ("dry_run",), "AgentCluster", _MANIFEST,
        description="The manifest names the namespace. One that exists: 409; PUT replaces it.",
    ),
    Operation(
        "GET", "/api/v1/clusters/{name}", "get_cluster", "clusters", "A cluster, its agents and their instances.",
        (_json("Cluster", "The cluster."),), _READ, ("cluster_name", "namespace"),
    ),
    Operation(
        "PUT", "/api/v1/clusters/{name}", "replace_cluster", "clusters", "Create a cluster, or replace it.",
        (
            _json("ClusterApplied", "It is replaced, or unchanged as its content is the same."),
            _json("ClusterApplied", "It is created.", 201),
        ),
        _WRITE, ("cluster_name", "namespace", "dry_run"), "AgentCluster", _MANIFEST,
        description="The manifest's name and namespace are those of the request.",
    ),
    Operation(
        "DELETE", "/api/v1/clusters/{name}", "delete_cluster", "clusters", "Delete a cluster with all that is its.",
        (Answer(204, "It is gone."),), (*_READ, 409), ("cluster_name", "namespace"),
    ),
    Operation(
        "POST", "/api/v1/clusters/{name}/scale", "scale_cluster", "clusters",
        "Set how many instances of an agent are kept when idle.",
        (_json("Agent", "The agent."),), _WRITE, ("cluster_name", "namespace"), "ScaleRequest",
    ),
    Operation(
        "GET", "/api/v1/clusters/{name}/logs", "get_cluster_logs", "clusters", "What the cluster's agents did.",
        (Answer(200, "A page, newest run first; or events.", {JSON: "LogList", **_EVENTS}),), _READ,
        ("cluster_name", "namespace", "agent", "follow", *_PAGE),
    ),
    Operation(
        "GET", "/api/v1/agents", "list_agents", "agents", "The agents of a namespace.",
        (_json("AgentList", "A page."),), _READ, ("namespace", "cluster", *_PAGE),
    ),
    Operation(
        "GET", "/api/v1/agents/{id}", "get_agent", "agents", "An agent, its instances and tools.",
        (_json("Agent", "The agent."),), _READ, ("agent_id",),
    ),
    Operation(
        "POST", "/api/v1/agents/{id}/chat", "chat", "runs", "Say something and wait for the answer.",
        (
            _json("ChatResponse", "The answer."),
            _json("Run", "It takes longer than a request may: the run goes on, `Location` names it.", 202),
        ),
        _RUN, ("agent_id", "idempotency_key"), "ChatRequest",
        description="Without `session_id` a new session begins; the answer names it. A run that fails is a problem "
        "with its `run_id` and `session_id`. A client that leaves stops nothing: the answer is in the session.",
    ),
    Operation(
        "POST", "/api/v1/agents/{id}/stream", "stream", "runs", "Say something and follow what happens.",
        (Answer(200, "Server-sent events, see docs/http.md.", _EVENTS),), _RUN, ("agent_id", "idempotency_key"),
        "ChatRequest",
        description="The same body. What fails before the run began is answered with its status; later it is the event "
        "`run.failed`. A client that leaves stops nothing: the answer is in the session.",
    ),
    Operation(
        "POST", "/api/v1/agents/{id}/runs", "start_run", "runs", "Say something and come back later.",
        (_json("Run", "The run goes on, `Location` names it.", 202),), (*_WRITE, 429), ("agent_id", "idempotency_key"),
        "RunRequest",
        description="The run waits for a free place as long as it takes. With `webhook`, its end is told to that "
        "address.",
    ),
    Operation(
        "GET", "/api/v1/runs", "list_runs", "runs", "The caller's runs, newest first.",
        (_json("RunList", "A page."),), _READ,
        ("status", "run_agent", "run_session", "run_cluster", "namespace", *_PAGE),
        description="At most one of `agent`, `session_id` and `cluster`.",
    ),
    Operation(
        "GET", "/api/v1/runs/{id}", "get_run", "runs", "A run with a page of its steps.",
        (_json("Run", "The run."),), _READ, ("run_id", *_PAGE),
        description="The steps come oldest first; `next_page_token` is there where there are more.",
    ),
    Operation(
        "GET", "/api/v1/runs/{id}/events", "get_run_events", "runs", "Everything that happened in a run, and happens.",
        (Answer(200, "Server-sent events, see docs/http.md.", _EVENTS),), _READ, ("run_id", "last_event_id", "after"),
        description="From the beginning, or behind an event; until the run is over, or the request takes too long: "
        "then ask again with the id of the last event.",
    ),
    Operation(
        "POST", "/api/v1/runs/{id}/cancel", "cancel_run", "runs", "Cancel a run.",
        (
            _json("Run", "It is cancelled."),
            _json("Run", "The process that executes it has been asked, and will notice.", 202),
        ),
        _WRITE, ("run_id",), "CancelRequest", body_required=False,
        description="One that ended otherwise: 409.",
    ),
    Operation(
        "POST", "/api/v1/runs/{id}/approve", "approve_run", "runs", "Decide on the calls a run waits with.",
        (_json("Run", "The run goes on.", 202),), _WRITE, ("run_id",), "ApproveRequest",
        description="Every call that waits needs a decision. A run that does not wait: 409.",
    ),
    Operation(
        "GET", "/api/v1/sessions/{id}", "get_session", "sessions", "A session.",
        (_json("Session", "The session."),), _READ, ("session_id",),
    ),
    Operation(
        "DELETE", "/api/v1/sessions/{id}", "delete_session", "sessions", "Delete a session with its messages.",
        (Answer(204, "It is gone."),), (*_READ, 409), ("session_id",),
    ),
    Operation(
        "GET", "/api/v1/sessions/{id}/messages", "list_messages", "sessions", "The messages, oldest first.",
        (_json("MessageList", "A page."),), _READ, ("session_id", *_PAGE),
    ),
    Operation(
        "GET", "/api/v1/metrics", "get_metrics", "metrics", "The whole deployment in numbers, from the store.",
        (_json("MetricsSummary", "The numbers."),), _CALL,
    ),
    Operation(
        "GET", "/metrics", "get_prometheus_metrics", "metrics", "Metrics in Prometheus' text format.",
        (Answer(200, "The metrics.", {"text/plain": {"type": "string"}}),), (*_CALL, 404),
        description="`server.metrics.path` is another path, `server.metrics.enabled: false` none. Of this process "
        "where it runs agents, else of the whole deployment, from the store.",
    ),
)  # fmt: skip
