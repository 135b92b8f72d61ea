"""Every method: the request it makes, and what it makes of the answer."""

import inspect
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from tests.support import contract_server as shapes
from tests.support.contract_server import ContractServer, event_stream

import goagents
from goagents.client import AsyncClient, Client
from goagents.client.operations import Operations
from goagents.errors import Invalid, StoreUnavailable
from goagents.messages import ImagePart, TextPart
from goagents.resources import Decision

MANIFEST = {
    "apiVersion": "goagents.dev/v1",
    "kind": "AgentCluster",
    "metadata": {"name": "support", "namespace": "shop"},
    "spec": {"agents": [{"name": "helper", "provider": "scripted", "model": "echo"}]},
}
APPLIED = {"outcome": "updated", "changes": ["spec.agents.0.model"], "cluster": shapes.cluster(generation=2)}
SESSION = {
    "id": "session_1", "namespace": "default", "cluster": "support", "messages": 2,
    "created_at": shapes.NOW, "updated_at": shapes.NOW,
}  # fmt: skip
SAID = {
    "seq": 1, "run_id": "run_1", "agent": "helper", "message": shapes.message("Hi"), "created_at": shapes.NOW,
}  # fmt: skip
STEP = {"number": 1, "kind": "model", "message": shapes.message("Hi"), "created_at": shapes.NOW}
METRICS = {
    "active_runs": 1,
    "clusters": 1,
    "agents": 1,
    "total": {"runs": 3},
    "days": [{"day": "2026-01-02", "runs": 3}],
}


def page(*items: Any, token: str | None = None) -> JSONResponse:
    return JSONResponse({"items": list(items), "next_page_token": token})


CALLS = [
    ("health", (), {}, "GET /health", {"status": "ok", "version": "1.2"}),
    ("ready", (), {}, "GET /ready", {"status": "ok", "checks": [{"name": "store", "status": "ok"}]}),
    ("get_cluster", ("support",), {}, "GET /api/v1/clusters/support", shapes.cluster()),
    ("scale", ("support", "helper", 3), {}, "POST /api/v1/clusters/support/scale", shapes.agent()),
    ("get_agent", ("support.helper",), {}, "GET /api/v1/agents/support.helper", shapes.agent()),
    ("chat", ("support.helper", "Hi"), {}, "POST /api/v1/agents/support.helper/chat", shapes.completed()),
    ("get_session", ("session_1",), {}, "GET /api/v1/sessions/session_1", SESSION),
    ("metrics", (), {}, "GET /api/v1/metrics", METRICS),
    ("apply", (MANIFEST,), {}, "PUT /api/v1/clusters/support", APPLIED),
    ("list_clusters", (), {}, "GET /api/v1/clusters", {"items": [shapes.cluster()]}),
    ("list_agents", (), {}, "GET /api/v1/agents", {"items": [shapes.agent()]}),
    ("list_messages", ("session_1",), {}, "GET /api/v1/sessions/session_1/messages", {"items": [SAID]}),
    ("start_run", ("support.helper", "Hi"), {}, "POST /api/v1/agents/support.helper/runs", shapes.run("queued")),
    ("get_run", ("run_1",), {}, "GET /api/v1/runs/run_1", shapes.run("waiting", steps=[STEP])),
    ("list_runs", (), {"status": "waiting"}, "GET /api/v1/runs", {"items": [shapes.run("waiting")]}),
    ("cancel_run", ("run_1",), {}, "POST /api/v1/runs/run_1/cancel", shapes.run("cancelled")),
    ("approve_run", ("run_1",), {}, "POST /api/v1/runs/run_1/approve", shapes.run("running")),
    ("list_logs", ("support",), {}, "GET /api/v1/clusters/support/logs", {"items": [shapes.log_entry("x")]}),
]


@pytest.mark.parametrize(("method", "args", "kwargs", "request_line", "body"), CALLS)
async def test_both_clients_return_what_the_server_says(
    server: ContractServer, client: Client, method: str, args: Any, kwargs: Any, request_line: str, body: Any
):
    server.on(request_line, JSONResponse(body))
    answer = getattr(client, method)(*args, **kwargs)
    async with AsyncClient(client.server) as same:
        assert await getattr(same, method)(*args, **kwargs) == answer
    assert answer == type(answer).model_validate(body)
    assert [f"{r['method']} {r['path']}" for r in server.requests] == [request_line] * 2
    assert server.requests[0]["body"] == server.requests[1]["body"]


@pytest.mark.parametrize("method", ["delete_cluster", "delete_session"])
async def test_deleting_answers_nothing(server: ContractServer, client: Client, method: str):
    kind = "clusters" if method == "delete_cluster" else "sessions"
    server.on(f"DELETE /api/v1/{kind}/it", Response(status_code=204))
    assert getattr(client, method)("it") is None
    async with AsyncClient(client.server) as same:
        assert await getattr(same, method)("it") is None


LISTS = [
    ("clusters", (), "GET /api/v1/clusters", shapes.cluster),
    ("agents", (), "GET /api/v1/agents", shapes.agent),
    ("messages", ("session_1",), "GET /api/v1/sessions/session_1/messages", lambda name: {**SAID, "agent": name}),
    ("logs", ("support",), "GET /api/v1/clusters/support/logs", shapes.log_entry),
    ("runs", (), "GET /api/v1/runs", lambda name: shapes.run(id=name)),
]


@pytest.mark.parametrize(("method", "args", "request_line", "item"), LISTS)
async def test_lists_follow_their_pages(
    server: ContractServer, client: Client, method: str, args: Any, request_line: str, item: Any
):
    pages = [page(item("a"), item("b"), token="next"), page(item("c"))]
    server.on(request_line, *pages, *pages)
    found = list(getattr(client, method)(*args))
    async with AsyncClient(client.server) as same:
        assert [each async for each in getattr(same, method)(*args)] == found
    assert len(found) == 3
    assert [r["query"].get("page_token") for r in server.requests] == [None, "next", None, "next"]


def test_apply_replaces_by_name_and_namespace(server: ContractServer, client: Client):
    server.on("PUT /api/v1/clusters/support", JSONResponse(APPLIED))
    assert client.apply(MANIFEST, dry_run=True).changes == ["spec.agents.0.model"]
    (request,) = server.requests
    assert request["body"] == MANIFEST
    assert request["query"] == {"namespace": "shop", "dry_run": "true"}


def test_apply_takes_yaml_and_files(server: ContractServer, client: Client, tmp_path: Any):
    server.on("PUT /api/v1/clusters/support", JSONResponse(APPLIED))
    text = "server: {port: 1}\n---\nkind: AgentCluster\nmetadata: {name: support}\n"
    (tmp_path / "cluster.yaml").write_text(text)
    client.apply(text)
    client.apply(tmp_path / "cluster.yaml")
    assert [r["body"] for r in server.requests] == [{"kind": "AgentCluster", "metadata": {"name": "support"}}] * 2


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ("server: {}", "holds no document"),
        ("kind: AgentCluster\n---\nkind: AgentCluster", "holds 2 document"),
        ("kind: AgentCluster", "no name"),
        ("a: [", "no YAML at line"),
        ("!!python/object/apply:os.system ['true']", "no YAML"),
        ("x" * (1 << 20) + "y", "larger than 1 MiB"),
    ],
)
def test_a_manifest_that_is_none(client: Client, manifest: str, says: str):
    with pytest.raises(Invalid, match=says):
        client.apply(manifest)


def test_messages_may_be_content_parts(server: ContractServer, client: Client):
    server.on("POST /api/v1/agents/support.helper/chat", JSONResponse(shapes.completed()))
    client.chat(
        "support.helper",
        [TextPart("What is this?"), ImagePart(media_type="image/png", data="aGk=")],
        session_id="session_1",
        idempotency_key="once",
    )
    (request,) = server.requests
    assert request["body"] == {
        "message": [
            {"type": "text", "text": "What is this?"},
            {"type": "image", "media_type": "image/png", "data": "aGk="},
        ],
        "session_id": "session_1",
    }
    assert request["headers"]["idempotency-key"] == "once"


def test_a_run_is_started_with_what_it_needs(server: ContractServer, client: Client):
    server.on("POST /api/v1/agents/support.helper/runs", shapes.accepted("queued"))
    started = client.start_run(
        "support.helper",
        "Hi",
        session_id="session_1",
        session_policy="interrupt",
        webhook_url="https://example.com/hook",
        idempotency_key="once",
    )
    assert started.status == "queued"
    (request,) = server.requests
    assert request["body"] == {
        "message": "Hi",
        "session_id": "session_1",
        "session_policy": "interrupt",
        "webhook": {"url": "https://example.com/hook"},
    }
    assert request["headers"]["idempotency-key"] == "once"


async def test_what_begins_a_run_has_a_key_of_its_own_each_time(server: ContractServer, client: Client):
    server.on("POST /api/v1/agents/support.helper/chat", JSONResponse(shapes.completed()))
    server.on("POST /api/v1/agents/support.helper/runs", shapes.accepted())
    ended = shapes.sent_event("1-1", "run.completed", shapes.completed())
    server.on("POST /api/v1/agents/support.helper/stream", lambda _: event_stream(ended))
    for _ in range(2):
        client.chat("support.helper", "Hi")
        client.start_run("support.helper", "Hi")
        assert len(list(client.stream("support.helper", "Hi", session_policy="reject"))) == 1
    keys = {request["headers"]["idempotency-key"] for request in server.requests}
    assert len(keys) == 6
    assert server.requests[-1]["body"] == {"message": "Hi", "session_policy": "reject"}


def test_runs_are_listed_by_what_is_asked_for(server: ContractServer, client: Client):
    server.on("GET /api/v1/runs", page(shapes.run()))
    list(client.runs(agent="support.helper", status="running", page_size=5))
    client.list_runs(session_id="session_1", page_token="next")
    client.list_runs(cluster="support")
    assert [request["query"] for request in server.requests] == [
        {"namespace": "default", "agent": "support.helper", "status": "running", "page_size": "5"},
        {"namespace": "default", "session_id": "session_1", "page_token": "next"},
        {"namespace": "default", "cluster": "support"},
    ]


DECISIONS: list[tuple[tuple[Any, ...], dict[str, Any], list[Any]]] = [
    ((), {}, [{"decision": "allow"}]),
    (("deny",), {"reason": "too much"}, [{"decision": "deny", "reason": "too much"}]),
    (
        ("allow",),
        {"call_id": "call_1", "arguments": {"order": 8, "note": None}},
        [{"decision": "allow", "call_id": "call_1", "arguments": {"order": 8, "note": None}}],
    ),
    (
        ([Decision(call_id="a", decision="allow", arguments={}), Decision(call_id="b", decision="deny")],),
        {},
        [{"call_id": "a", "decision": "allow", "arguments": {}}, {"call_id": "b", "decision": "deny"}],
    ),
]


@pytest.mark.parametrize(("args", "kwargs", "sent"), DECISIONS)
def test_decisions_are_sent(server: ContractServer, client: Client, args: Any, kwargs: Any, sent: list[Any]):
    server.on("POST /api/v1/runs/run_1/approve", shapes.accepted())
    client.approve_run("run_1", *args, **kwargs)
    assert server.requests[0]["body"] == {"decisions": sent}


def test_a_list_of_decisions_says_all_itself(client: Client):
    with pytest.raises(Invalid, match="each holds its own"):
        client.approve_run("run_1", [Decision(decision="allow")], reason="because")


def test_a_decision_is_not_sent_again(server: ContractServer, client: Client):
    busy = shapes.problem(503, "store_unavailable", headers={"Retry-After": "0"})
    server.on("POST /api/v1/runs/run_1/approve", busy)
    server.on("POST /api/v1/runs/run_1/cancel", busy, JSONResponse(shapes.run("cancelled")))
    with pytest.raises(StoreUnavailable):
        client.approve_run("run_1")
    assert len(server.requests) == 1
    assert client.cancel_run("run_1", "no longer needed").status == "cancelled"
    assert server.requests[-1]["body"] == {"reason": "no longer needed"}


def test_names_are_escaped(server: ContractServer, client: Client):
    server.on("GET /api/v1/clusters/a/../b?c", JSONResponse(shapes.cluster()))
    assert client.get_cluster("a/../b?c").name == "support"


def test_the_namespace_is_sent(server: ContractServer, url: str):
    server.on("GET /api/v1/clusters", page())
    with Client(url, namespace="shop") as client:
        client.list_clusters(page_size=5)
    assert server.requests[0]["query"] == {"namespace": "shop", "page_size": "5"}


def test_following_logs(server: ContractServer, client: Client):
    entry = LOG_EVENT % b"started"
    server.on("GET /api/v1/clusters/support/logs", event_stream(b": alive\n\n", entry, LOG_EVENT % b"ended"))
    assert [e.text for e in client.follow_logs("support", agent="helper")] == ["started", "ended"]
    assert server.requests[0]["query"] == {"namespace": "default", "agent": "helper", "follow": "true"}
    assert server.requests[0]["headers"]["accept"] == "text/event-stream"


LOG_EVENT = (
    b'event: log\ndata: {"at": "2026-01-02T03:04:05Z", "severity": "INFO", "kind": "run", "run_id": "run_1", '
    b'"session_id": "session_1", "agent": "helper", "text": "%s"}\n\n'
)


def test_the_clients_are_exported_by_the_package():
    assert goagents.Client is Client
    assert goagents.AsyncClient is AsyncClient
    with pytest.raises(AttributeError, match="Clients"):
        goagents.Clients  # noqa: B018


def test_methods_show_their_signature_and_documentation(client: Client):
    parameters = ["agent_id", "message", "session_id", "session_policy", "idempotency_key"]
    assert list(inspect.signature(client.stream).parameters) == parameters
    assert list(inspect.signature(client.chat).parameters) == [*parameters, "wait_for_approval"]
    assert "wait for its answer" in inspect.getdoc(client.chat)
    assert Operations.chat.__doc__ == client.chat.__doc__
