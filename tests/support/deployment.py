"""What is deployed, in processes of its own: gateways whose dispatch is local, or functions with a queue between them.

with Deployment(folder, zygote, manifest, models, timeout=5, queue=queue) as deployment:
    deployment["chat"].ask("POST", "/api/v1/agents/orders.clerk/chat", {"message": "hi"})
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import psutil
from tests.benchmarks.servers import ROOT, Server, await_port, environment
from tests.support.fakes.cloud_tasks import QUEUE, CloudTasks
from tests.support.ports import free_port
from tests.support.processes import INTERNAL_KEY, Killable
from tests.support.zygote import Zygote

GATEWAYS = ("gateway", "other")
FUNCTIONS = ("clusters", "runs", "chat", "stream", "worker")


@dataclass
class Deployment:
    """Processes on one store: gateways without a queue, or functions with one. `timeout` is that of each request.

    `manifest` is the cluster's, `models` are the scripts of its models.
    """

    folder: Path
    zygote: Zygote
    manifest: Mapping[str, Any]
    models: Mapping[str, Any]
    timeout: float
    queue: CloudTasks | None = None
    processes: dict[str, Killable] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self.worker_port = free_port()
        dispatch = {"queue": QUEUE, "worker_url": f"http://127.0.0.1:{self.worker_port}/worker"} if self.queue else {}
        config = {
            "server": {"log_format": "json", "timeout": self.timeout, "background": self.queue is None},
            "runs": {"worker_timeout": self.timeout, "lease_ttl": 5, "dispatch_grace": 20, "poll_interval": 0.5},
            "allow": {"addresses": ["127.0.0.1"]},
            "providers": {"scripted": {"models": dict(self.models)}},
            "dispatch": dispatch,
        }
        (self.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        for name in FUNCTIONS if self.queue else GATEWAYS:
            self.processes[name] = self.start(name)
        for process in self.processes.values():
            await_port(process.server)
        answer = self["clusters"].ask("POST", "/api/v1/clusters", self.manifest)
        assert answer.status_code == 201, answer.text
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> Killable:
        """The process that serves `name`: a function of its own, or the gateway."""
        return self.processes.get(name) or self.processes["gateway"]

    def start(self, name: str) -> Killable:
        """Start a process; the worker always serves the same port, as it has one address."""
        port = self.worker_port if name == "worker" else free_port()
        target = "gateway" if name == "other" else name
        config, plan, log = (self.folder / part for part in ("config.json", "no-plan", f"{name}.log"))
        arguments = ["--target", target, "--source", str(ROOT / "functions" / target / "main.py")]
        own = {
            "GOAGENTS_CONFIG": str(config),
            "GOAGENTS_STORE": f"sqlite:///{self.folder}/state.db",
            "GOAGENTS_INTERNAL_KEY": INTERNAL_KEY,
            "GOAGENTS_OFFLINE": "1",
            **({"CLOUD_TASKS_EMULATOR_HOST": self.queue.address} if self.queue else {}),
        }
        made = self.zygote.start([*arguments, "--host", "127.0.0.1", "--port", str(port)], environment(own), log)
        process = Killable(server=Server(psutil.Process(made), port), plan=plan, config=config, log=log)
        self._stack.callback(process.end)
        return process


class ByPath(httpx2.AsyncBaseTransport):
    """What stands in front of functions: each path leads to its own."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._through = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        name = "runs" if "/runs" in request.url.path else request.url.path.rpartition("/")[2]
        request.url = request.url.copy_with(port=self._deployment[name].server.port)
        return await self._through.handle_async_request(request)

    async def aclose(self) -> None:
        await self._through.aclose()
