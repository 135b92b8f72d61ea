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
from goagents.errors import Invalid
from goagents.messages import ImagePart, TextPart

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
    assert list(inspect.signature(client.chat).parameters) == ["agent_id", "message", "session_id", "idempotency_key"]
    assert "wait for its answer" in inspect.getdoc(client.chat)
    assert Operations.chat.__doc__ == client.chat.__doc__
