"""Each function under the real functions-framework: it answers, loads only what it needs, and ends gracefully."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.benchmarks.servers import Server, function, upstream

CONFIG = """
server: {{log_format: json, metrics: {{path: /metrics}}}}
providers:
  openai: {{api_key: not-a-key, base_url: "{upstream}/v1"}}
  scripted:
    models:
      brief: [{{text: "Hello."}}]
      slow: [{{text: "In the end.", delay: 1500ms}}]
      endless: [{{text: "Never.", delay: 1h}}]
"""
MANIFEST = {
    "apiVersion": "goagents.dev/v1",
    "kind": "AgentCluster",
    "metadata": {"name": "demo"},
    "spec": {
        "agents": [
            {"name": "talker", "provider": "scripted", "model": "brief"},
            {"name": "slow", "provider": "scripted", "model": "slow"},
            {"name": "endless", "provider": "scripted", "model": "endless"},
            {"name": "real", "provider": "openai", "model": "bench-1-1"},
        ]
    },
}
SDKS = {"anthropic", "openai", "google.genai"}
HEAVY = SDKS | {"grpc", "mcp", "goagents.cli", "google.cloud.firestore", "rich"}


@dataclass(frozen=True)
class Deployment:
    environment: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A store with a cluster in it, made by the function `clusters`."""
    folder = tmp_path_factory.mktemp("functions")
    with upstream() as provider:
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(upstream=provider.url), encoding="utf-8")
        environment = {
            "GOAGENTS_CONFIG": str(config),
            "GOAGENTS_STORE": f"sqlite:///{folder}/state.db",
            "GOAGENTS_OFFLINE": "1",
        }
        with function("clusters", environment) as server:
            answer = ask(server, "POST", "/api/v1/clusters", MANIFEST)
            assert answer.status_code == 201, answer.text
        yield Deployment(environment, folder)


def ask(server: Server, method: str, path: str, body: Any = None, **options: Any) -> httpx2.Response:
    return httpx2.request(method, server.url + path, json=body, timeout=60, trust_env=False, **options)


def loaded(log: Path) -> set[str]:
    """The modules that the interpreter says it imported."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


@pytest.mark.parametrize(
    ("name", "method", "path", "body", "holds"),
    [
        ("health", "GET", "/health", None, '"status":"ok"'),
        ("health", "GET", "/ready", None, '"name":"store","status":"ok"'),
        ("health", "GET", "/openapi.json", None, '"openapi": "3.1.0"'),
        ("clusters", "GET", "/api/v1/clusters/demo", None, '"name":"demo"'),
        ("agents", "GET", "/api/v1/agents/demo.talker", None, '"id":"demo.talker"'),
        ("chat", "POST", "/api/v1/agents/demo.talker/chat", {"message": "hi"}, "Hello."),
        ("stream", "POST", "/api/v1/agents/demo.talker/stream", {"message": "hi"}, "event: run.completed"),
        ("metrics", "GET", "/api/v1/metrics", None, '"clusters":1'),
        ("metrics", "GET", "/metrics", None, "goagents_deployment_clusters 1"),
    ],
)
def test_a_function_answers(deployment: Deployment, name: str, method: str, path: str, body: Any, holds: str):
    with function(name, deployment.environment) as server:
        answer = ask(server, method, path, body)
        assert answer.status_code == 200, answer.text
        assert holds in answer.text
        other = ask(server, "GET", "/api/v1/nothing")
        assert (other.status_code, other.json()["code"]) == (404, "not_found")


def test_the_gateway_serves_all_of_it(deployment: Deployment):
    with function("gateway", deployment.environment) as server:
        for path in ("/health", "/ready", "/openapi.json", "/api/v1/clusters", "/api/v1/agents", "/api/v1/metrics"):
            assert ask(server, "GET", path).status_code == 200
        answer = ask(server, "POST", "/api/v1/agents/demo.talker/chat", {"message": "hi"})
        session = answer.json()["session_id"]
        assert len(ask(server, "GET", f"/api/v1/sessions/{session}/messages").json()["items"]) == 2
        text = ask(server, "GET", "/metrics").text
        assert 'goagents_runs_total{agent="talker",cluster="demo",status="succeeded"} 1.0' in text
        assert 'goagents_active_runs{cluster="demo"} 0.0' in text


@pytest.mark.parametrize(
    ("name", "method", "path", "body", "allowed"),
    [
        ("health", "GET", "/health", None, set[str]()),
        ("clusters", "GET", "/api/v1/clusters", None, set[str]()),
        ("agents", "GET", "/api/v1/agents", None, set[str]()),
        ("chat", "POST", "/api/v1/agents/demo.real/chat", {"message": "hi"}, {"openai"}),
        ("stream", "POST", "/api/v1/agents/demo.talker/stream", {"message": "hi"}, set[str]()),
    ],
)
def test_a_cold_function_loads_what_its_request_needs(
    deployment: Deployment, name: str, method: str, path: str, body: Any, allowed: set[str], tmp_path: Path
):
    log = tmp_path / "imports.log"
    with function(name, deployment.environment | {"PYTHONPROFILEIMPORTTIME": "1"}, log=log) as server:
        answer = ask(server, method, path, body)
        assert answer.status_code == 200, answer.text
    modules = loaded(log)
    assert "functions_framework.aio" in modules
    assert modules & HEAVY == allowed


@pytest.mark.parametrize("verb", ["chat", "stream"])
async def test_an_open_request_finishes_when_the_process_is_asked_to_end(deployment: Deployment, verb: str):
    with function("gateway", deployment.environment) as server:
        ask(server, "GET", "/ready")
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as http:
            url = f"{server.url}/api/v1/agents/demo.slow/{verb}"
            open_one = asyncio.create_task(http.post(url, json={"message": "hi"}))
            await asyncio.sleep(0.5)
            server.process.terminate()
            answer = await open_one
        assert answer.status_code == 200
        assert "In the end." in answer.text
        assert await asyncio.to_thread(server.process.wait, 15) == 0


async def test_a_run_that_outlasts_the_process_is_handed_on(deployment: Deployment):
    with function("gateway", deployment.environment) as server:
        ask(server, "GET", "/ready")
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as http:
            url = f"{server.url}/api/v1/agents/demo.endless"
            body = {"message": "hi", "session_id": "cut-short"}
            streamed = asyncio.create_task(http.post(f"{url}/stream", json=body))
            asked = asyncio.create_task(http.post(f"{url}/chat", json={"message": "hi"}))
            await asyncio.sleep(0.7)
            server.process.terminate()
            assert (await streamed).text.rstrip().rpartition("event: ")[2].startswith("run.handed_off")
            answer = await asked
            assert (answer.status_code, answer.json()["status"]) == (202, "handed_off")
            left = answer.headers["location"]
        assert await asyncio.to_thread(server.process.wait, 15) == 0
    with function("gateway", deployment.environment) as server:
        assert ask(server, "GET", left).json()["status"] == "handed_off"
        assert ask(server, "POST", f"{left}/cancel").json()["status"] == "cancelled"
        session = ask(server, "GET", "/api/v1/sessions/cut-short").json()
        assert ask(server, "POST", f"/api/v1/runs/{session['active_run']}/cancel").status_code == 200
        body = {"message": "again", "session_id": "cut-short"}
        assert ask(server, "POST", "/api/v1/agents/demo.talker/chat", body).status_code == 200


def test_a_run_in_the_background_is_handed_on_when_its_process_ends(deployment: Deployment):
    with function("gateway", deployment.environment) as server:
        run = ask(server, "POST", "/api/v1/agents/demo.endless/runs", {"message": "hi"}).json()
        while (found := ask(server, "GET", f"/api/v1/runs/{run['id']}").json())["status"] != "running":
            assert found["status"] == "queued"
        server.process.terminate()
        assert server.process.wait(15) == 0
    with function("runs", deployment.environment) as server:
        assert ask(server, "GET", f"/api/v1/runs/{run['id']}").json()["status"] == "handed_off"
        assert ask(server, "POST", f"/api/v1/runs/{run['id']}/cancel").status_code == 200


async def test_following_logs_ends_when_the_process_is_asked_to_end(deployment: Deployment):
    with function("gateway", deployment.environment) as server:
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as http:
            url = f"{server.url}/api/v1/clusters/demo/logs?follow=true"
            following = asyncio.create_task(http.get(url))
            await asyncio.sleep(0.7)
            server.process.terminate()
            assert (await following).status_code == 200
        assert await asyncio.to_thread(server.process.wait, 15) == 0


def test_a_client_that_leaves_stops_no_run(deployment: Deployment):
    with function("gateway", deployment.environment) as server:
        body = b'{"message": "hi", "session_id": "left-behind"}'
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(
                b"POST /api/v1/agents/demo.slow/stream HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        # The process ends when the run has: its end is what this waits for.
        server.process.terminate()
        assert server.process.wait(15) == 0
    with function("agents", deployment.environment) as server:
        session = ask(server, "GET", "/api/v1/sessions/left-behind").json()
        assert (session["active_run"], session["messages"]) == (None, 2)


def test_others_than_this_machine_are_not_served_without_auth(deployment: Deployment):
    with function("clusters", deployment.environment) as server:
        # uvicorn believes a proxy on this machine, so the proxy's client is who asks.
        answer = ask(server, "GET", "/api/v1/clusters", headers={"X-Forwarded-For": "203.0.113.9"})
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        answer = ask(server, "GET", "/api/v1/clusters", headers={"Host": "evil.example"})
        assert answer.status_code == 403


def test_a_broken_configuration_is_told_in_the_log_and_by_ready(deployment: Deployment, tmp_path: Path):
    config = tmp_path / "broken.yaml"
    config.write_text("server: {prot: 1}\n", encoding="utf-8")
    log = tmp_path / "log"
    with function("gateway", deployment.environment | {"GOAGENTS_CONFIG": str(config)}, log=log) as server:
        assert ask(server, "GET", "/health").status_code == 200
        ready = ask(server, "GET", "/ready")
        assert (ready.status_code, ready.json()["checks"][0]["name"]) == (503, "configuration")
        assert ask(server, "GET", "/api/v1/clusters").json()["code"] == "not_serving"
    assert "server.prot" in log.read_text(encoding="utf-8")


def test_metrics_have_a_port_of_their_own(deployment: Deployment):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with function("gateway", deployment.environment | {"GOAGENTS_METRICS_PORT": str(port)}) as server:
        assert ask(server, "GET", "/health").status_code == 200
        ask(server, "GET", "/api/v1/clusters")
        text = httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        assert 'goagents_http_requests_total{method="GET",route="/api/v1/clusters",status="200"} 1.0' in text
