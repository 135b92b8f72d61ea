"""What surrounds every request: ids, principals, errors, telemetry."""

import hashlib
import logging
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.support.api import Api, Make, problem
from tests.support.stores import UnreliableStore

from goagents.api import metrics
from goagents.errors import ConfigurationError, FieldError, LimitExceeded, StoreUnavailable
from goagents.telemetry.base import REQUEST, RequestContext, RequestFinished, Unexpected

KEY = {"mode": "api_key", "api_keys": [{"name": "ci", "hash": hashlib.sha256(b"key-of-ci").hexdigest()}]}
BROKEN = ConfigurationError(errors=[FieldError("server.prot", "unknown field", "config.yaml", 2, 3)])


@pytest.mark.parametrize("path", ["/health", "/api/v1/clusters", "/nope"])
async def test_a_request_id_is_taken_over_or_made(api: Api, path: str):
    assert (await api.call("GET", path, headers={"x-request-id": "abc-1"})).headers["x-request-id"] == "abc-1"
    for bad in ("a b", "x" * 200, 'a"b', "é"):
        made = (await api.call("GET", path, headers={"x-request-id": bad.encode()})).headers["x-request-id"]
        assert made.startswith("req_")


@pytest.mark.parametrize(
    ("headers", "trace", "span"),
    [
        ({}, None, None),
        (
            {"x-cloud-trace-context": "105445AA7843bc8bf206b12000100000/1;o=1"},
            "105445aa7843bc8bf206b12000100000",
            "0" * 15 + "1",
        ),
        ({"x-cloud-trace-context": "105445aa7843bc8bf206b12000100000"}, "105445aa7843bc8bf206b12000100000", None),
        ({"x-cloud-trace-context": "nonsense"}, None, None),
        (
            {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-cloud-trace-context": "x"},
            "0af7651916cd43dd8448eb211c80319c",
            "b7ad6b7169203331",
        ),
        ({"traceparent": "00-zz-b7ad6b7169203331-01"}, None, None),
    ],
)
async def test_the_trace_is_known_while_the_request_is_served(
    make: Make, headers: dict[str, str], trace: str | None, span: str | None
):
    seen: list[RequestContext | None] = []

    async def look(_: Request) -> Response:
        seen.append(REQUEST.get())
        return Response("seen")

    await make([Route("/look", look)]).call("GET", "/look", headers=headers)
    assert seen[0] is not None
    assert (seen[0].trace, seen[0].span) == (trace, span)
    assert REQUEST.get() is None


async def test_a_defect_is_told_to_the_log_and_not_to_the_client(make: Make):
    async def defect(_: Request) -> Response:
        raise KeyError("sk-secret")

    api = make([Route("/defect", defect)])
    response = await api.call("GET", "/defect")
    problem(response, 500, "internal")
    assert "sk-secret" not in response.text
    (told,) = [event for event in api.seen if isinstance(event, Unexpected)]
    assert told.where == "GET /defect"
    assert "Traceback" in told.traceback
    (finished,) = [event for event in api.seen if isinstance(event, RequestFinished)]
    assert (finished.status, finished.error_code, finished.route) == (500, "internal", "/defect")


async def test_when_to_come_back_is_in_a_header(make: Make):
    async def limited(_: Request) -> Response:
        raise LimitExceeded(retry_after=2.2)

    async def unavailable(_: Request) -> Response:
        raise StoreUnavailable("no answer", retry_after=float("inf"))

    api = make([Route("/limited", limited), Route("/unavailable", unavailable)])
    assert (await api.call("GET", "/limited")).headers["retry-after"] == "3"
    response = await api.call("GET", "/unavailable")
    problem(response, 503, "store_unavailable")
    assert "retry-after" not in response.headers


async def test_without_auth_only_this_machine_is_served(api: Api, caplog: pytest.LogCaptureFixture):
    response = await api.call("GET", "/api/v1/clusters", client="203.0.113.9")
    body = problem(response, 403, "permission_denied")
    assert "auth:" in body["detail"]
    assert (await api.call("GET", "/health", client="203.0.113.9")).status_code == 200
    problem(await api.call("GET", "/metrics", client="203.0.113.9"), 403, "permission_denied")
    assert (await api.call("GET", "/api/v1/clusters")).status_code == 200


async def test_with_keys_a_key_is_needed(api: Api):
    api.configure(auth=KEY)
    for path in ("/api/v1/clusters", "/api/v1/metrics", "/metrics"):
        response = await api.call("GET", path, client="203.0.113.9")
        problem(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"].startswith("Bearer")
        problem(await api.call("GET", path, headers={"authorization": "Bearer no"}), 401, "unauthenticated")
        right = {"authorization": "Bearer key-of-ci"}
        assert (await api.call("GET", path, client="203.0.113.9", headers=right)).status_code == 200
    for path in ("/health", "/ready", "/openapi.json"):
        assert (await api.call("GET", path, client="203.0.113.9")).status_code == 200


async def test_who_asks_is_told_and_sees_own_sessions_only(api: Api):
    other = {"name": "ops", "hash": hashlib.sha256(b"key-of-ops").hexdigest()}
    api.configure(auth=KEY | {"api_keys": [*KEY["api_keys"], other]})
    ci, ops = ({"authorization": f"Bearer key-of-{name}"} for name in ("ci", "ops"))
    session = (await api.say("echo", headers=ci)).json()["session_id"]
    assert [e.principal for e in api.seen if isinstance(e, RequestFinished)] == ["ci"]
    assert (await api.call("GET", f"/api/v1/sessions/{session}", headers=ci)).status_code == 200
    problem(await api.call("GET", f"/api/v1/sessions/{session}", headers=ops), 404, "not_found")


async def test_nobody_is_let_in_on_the_word_of_a_platform_that_is_not_there(api: Api, caplog: pytest.LogCaptureFixture):
    api.configure(auth={"mode": "platform"})
    headers = {"authorization": "Bearer e30.eyJlbWFpbCI6ImFAYi5jIn0.x"}
    problem(await api.call("GET", "/api/v1/clusters", headers=headers), 503, "not_serving")
    assert "auth.mode" in caplog.text
    ready = await api.call("GET", "/ready")
    assert (ready.status_code, ready.json()["checks"][0]["status"]) == (503, "failed")
    api.settle(service="chat")
    assert (await api.call("GET", "/api/v1/clusters", headers=headers)).status_code == 200
    problem(await api.call("GET", "/api/v1/clusters"), 401, "unauthenticated")


async def test_a_configuration_that_does_not_load_is_not_told_to_clients(api: Api, caplog: pytest.LogCaptureFixture):
    api.failure = BROKEN
    response = await api.call("GET", "/api/v1/clusters")
    problem(response, 503, "not_serving")
    assert "config.yaml" not in response.text
    assert "config.yaml:2:3" in caplog.text
    assert (await api.call("GET", "/health")).json()["status"] == "ok"


async def test_ready_names_each_dependency(api: Api):
    ready = await api.call("GET", "/ready")
    assert ready.status_code == 200
    assert [(c["name"], c["status"]) for c in ready.json()["checks"]] == [("configuration", "ok"), ("store", "ok")]
    store = UnreliableStore(api.services.store)
    store.unplugged = True
    api.services.store = store
    failed = await api.call("GET", "/ready")
    assert (failed.status_code, failed.json()["status"]) == (503, "failed")
    assert failed.json()["checks"][1]["detail"] == "unplugged by the test"
    problem(await api.call("GET", "/api/v1/clusters"), 503, "store_unavailable")
    api.failure = BROKEN
    assert [c["name"] for c in (await api.call("GET", "/ready")).json()["checks"]] == ["configuration"]


async def test_metrics_of_a_process_that_runs_agents_are_its_own(api: Api):
    await api.say("echo")
    response = await api.call("GET", "/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'goagents_runs_total{agent="echo",cluster="support",status="succeeded"} 1.0' in response.text
    assert 'route="/api/v1/agents/{id}/chat"' in response.text


async def test_metrics_of_another_are_the_stores(api: Api, make: Make):
    await api.say("echo")
    await api.say("broken")
    text = (await make(metrics.routes).call("GET", "/metrics")).text
    assert 'goagents_deployment_runs_30d{status="succeeded"} 1' in text
    assert 'goagents_deployment_runs_30d{status="failed"} 1' in text
    assert "goagents_deployment_clusters 1" in text
    summary = (await api.call("GET", "/api/v1/metrics")).json()
    assert (summary["clusters"], summary["total"]["runs"]) == (1, 2)


async def test_the_path_of_metrics_is_configured(api: Api):
    api.configure(server={"metrics": {"path": "/internal/prometheus"}})
    assert (await api.call("GET", "/internal/prometheus")).status_code == 200
    problem(await api.call("GET", "/metrics"), 404, "not_found")
    problem(await api.call("POST", "/internal/prometheus"), 405, "method_not_allowed")
    api.configure(server={"metrics": {"enabled": False}})
    problem(await api.call("GET", "/metrics"), 404, "not_found")
    assert (await api.call("GET", "/api/v1/metrics")).status_code == 200


async def test_unknown_paths_are_one_label(api: Api):
    for path in ("/a", "/b", "/c/d"):
        await api.call("GET", path)
    assert {event.route for event in api.seen if isinstance(event, RequestFinished)} == {"unmatched"}


async def test_the_first_request_opens_the_port_of_metrics(api: Api, monkeypatch: pytest.MonkeyPatch):
    served: list[int] = []
    exposition = api.services.telemetry.exposition
    assert exposition is not None
    monkeypatch.setattr(exposition, "serve", served.append, raising=True)
    monkeypatch.setenv("GOAGENTS_METRICS_PORT", "9391")
    api.settle(metrics_port=9391)
    for _ in range(2):
        await api.call("GET", "/health")
    assert served == [9391]


async def test_what_is_not_http_is_refused(api: Api):
    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    with pytest.raises(RuntimeError, match="HTTP only"):
        await api.app({"type": "lifespan"}, receive, send)


async def test_the_warning_about_no_authentication_comes_once(api: Api, caplog: pytest.LogCaptureFixture):
    from goagents.api import auth  # noqa: PLC0415 - its cache is this test's

    auth._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await api.call("GET", "/api/v1/clusters")
    assert caplog.text.count("No authentication is configured") == 1
