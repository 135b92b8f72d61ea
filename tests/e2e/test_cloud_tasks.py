"""The deployed shape: functions in processes of their own, between them a queue that really calls the worker."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.benchmarks.servers import ROOT, Server, await_port, running
from tests.support.fakes.cloud_tasks import QUEUE, CloudTasks
from tests.support.ports import free_port

CONFIG = """
server: {{log_format: json}}
providers:
  scripted:
    models:
      brief: [{{text: "Hello."}}]
      long: [{{text: "In the end.", delay: 2s}}]
runs: {{dispatch_grace: 200ms}}
dispatch: {{queue: "{queue}", worker_url: "{worker}/worker"}}
"""
MANIFEST = {
    "apiVersion": "goagents.dev/v1",
    "kind": "AgentCluster",
    "metadata": {"name": "demo"},
    "spec": {
        "resource_policy": {"max_concurrent_agents": 1},
        "agents": [
            {"name": "talker", "provider": "scripted", "model": "brief"},
            {"name": "slow", "provider": "scripted", "model": "long"},
        ],
    },
}
KEY = {"authorization": "Bearer the-internal-key"}


@dataclass(frozen=True)
class Deployment:
    queue: CloudTasks
    runs: Server
    worker: Server
    sweeper: Server

    def start(self, agent: str, **body: Any) -> str:
        answer = ask(self.runs, "POST", f"/api/v1/agents/demo.{agent}/runs", json={"message": "hi", **body})
        assert answer.status_code == 202, answer.text
        found: str = answer.json()["id"]
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = ask(self.runs, "GET", f"/api/v1/runs/{run_id}").json()
        return found

    def ended(self, run_id: str) -> dict[str, Any]:
        until = time.monotonic() + 60
        while (run := self.run(run_id))["finished_at"] is None and time.monotonic() < until:
            time.sleep(0.02)
        return run


def ask(server: Server, method: str, path: str, **options: Any) -> httpx2.Response:
    return httpx2.request(method, server.url + path, timeout=60, trust_env=False, **options)


@contextmanager
def function(name: str, port: int, environment: dict[str, str], log: Path) -> Iterator[Server]:
    source = ROOT / "functions" / name / "main.py"
    command = [sys.executable, "-m", "functions_framework", "--target", name, "--source", str(source)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with running(command, port, environment, log=log) as server:
        await_port(server)
        yield server


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    with ExitStack() as stack:
        queue = stack.enter_context(CloudTasks())
        port = free_port()
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(queue=QUEUE, worker=f"http://127.0.0.1:{port}"), encoding="utf-8")
        environment = {
            "GOAGENTS_CONFIG": str(config),
            "GOAGENTS_STORE": f"sqlite:///{folder}/state.db",
            "GOAGENTS_INTERNAL_KEY": "the-internal-key",
            "GOAGENTS_OFFLINE": "1",
            "CLOUD_TASKS_EMULATOR_HOST": queue.address,
        }

        def started(name: str, port: int) -> Server:
            return stack.enter_context(function(name, port, environment, folder / f"{name}.log"))

        made = Deployment(
            queue, *(started(*each) for each in (("runs", free_port()), ("worker", port), ("sweeper", free_port())))
        )
        with function("clusters", free_port(), environment, folder / "clusters.log") as clusters:
            assert ask(clusters, "POST", "/api/v1/clusters", json=MANIFEST).status_code == 201
        yield made


@pytest.fixture(autouse=True)
def fresh(deployment: Deployment) -> Iterator[None]:
    deployment.queue.deliveries.clear()
    deployment.queue.created.clear()
    yield
    deployment.queue.resume()
    deployment.queue.duplicate = False
    deployment.queue.drain()


def test_a_run_in_the_background_is_carried_out_by_the_worker(deployment: Deployment):
    run = deployment.ended(deployment.start("talker"))
    assert (run["status"], run["output"]["parts"][0]["text"]) == ("succeeded", "Hello.")
    deployment.queue.drain()
    (delivery,) = deployment.queue.deliveries
    assert (delivery.status, delivery.answer) == (200, b"{}")


def test_a_task_delivered_twice_changes_nothing(deployment: Deployment):
    deployment.queue.duplicate = True
    run = deployment.ended(deployment.start("slow", session_id="twice"))
    assert (run["status"], run["attempt"]) == ("succeeded", 1)
    deployment.queue.drain()
    assert [one.status for one in deployment.queue.deliveries] == [200, 200]


def test_the_queue_waits_where_there_is_no_place(deployment: Deployment):
    first, second = deployment.start("slow"), deployment.start("talker")
    assert deployment.ended(first)["status"] == "succeeded"
    assert deployment.ended(second)["status"] == "succeeded"


def test_the_sweeper_finds_what_the_queue_lost(deployment: Deployment):
    queue = deployment.queue
    queue.paused = True
    run_id = deployment.start("talker", session_id="lost")
    queue.lose()
    assert deployment.run(run_id)["status"] == "queued"
    time.sleep(0.3)
    report = ask(deployment.sweeper, "POST", "/sweep", headers=KEY)
    assert (report.status_code, report.json()["redispatched"]) == (200, 1)
    queue.resume()
    assert deployment.ended(run_id)["status"] == "succeeded"
    assert len({task.name for task in queue.created}) == 2


@pytest.mark.parametrize(("name", "path"), [("worker", "/worker"), ("sweeper", "/sweep")])
def test_nobody_else_calls_them(deployment: Deployment, name: str, path: str):
    server: Server = getattr(deployment, name)
    assert ask(server, "POST", path).status_code == 401
    assert ask(server, "POST", path, headers={"authorization": "Bearer guessed"}).status_code == 401
    assert ask(server, "GET", "/api/v1/runs", headers=KEY).status_code == 404
