"""Real functions-framework processes that die where they are told to, and others that go on in their place.

    with CountingTools() as tools, Site(folder, store, tools) as site:
        survivor = site.survivor()
        victim = site.victim(KillPoint.BEFORE_SETTLE)
        …
        victim.wait_dead()

All of them serve one store. A victim and its gunicorn master die together, by SIGKILL to their process group.
"""

import os
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import psutil
from tests.benchmarks.servers import Server, await_port, environment
from tests.support.counting_tools import CountingTools
from tests.support.killable import DIARY, PLAN, Diary, Plan
from tests.support.ports import free_port
from tests.support.zygote import Zygote

from goagents.testing.kill_points import KillPoint

SOURCE = Path(__file__).parent / "functions" / "killable" / "main.py"
TIMEOUT = "20s"
INTERNAL_KEY = "the-key-of-internal-calls"
CONFIG = """
server: {{log_format: json, log_level: warning, timeout: {timeout}, metrics: {{enabled: false}}}}
runs: {{lease_ttl: {lease_ttl}, dispatch_grace: {lease_ttl}, poll_interval: 100ms}}
allow: {{addresses: [127.0.0.1]}}
providers:
  scripted:
    models:
      clerk:
        - {{after: refund, failed: true, when: "order (?P<id>[0-9]+)", text: "Nobody knows about order {{id}}."}}
        - {{after: refund, when: "order (?P<id>[0-9]+)", text: "Order {{id}} is refunded, in the end."}}
        - after: "*"
          when: "order (?P<id>[0-9]+)"
          text: "It may be refunded."
          tool_calls:
            - {{name: refund, arguments: {{order: "{{int:id}}"}}}}
            - {{name: look, arguments: {{order: "{{int:id}}"}}}}
        - when: "order (?P<id>[0-9]+)"
          text: "First I look at order {{id}}."
          chunk_size: 8
          tool_calls:
            - {{name: look, arguments: {{order: "{{int:id}}"}}}}
            - {{name: reserve, arguments: {{order: "{{int:id}}"}}}}
      brief: [{{text: "Yes: {{user}}"}}]
      slow: [{{text: "Slowly: {{user}}", delay: 700ms}}]
"""


def manifest(tools: CountingTools) -> dict[str, Any]:
    """The cluster: `clerk` looks, reserves and refunds; `careful` has a person approve the refund."""
    order = {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}

    def tool(name: str, method: str, **more: str) -> dict[str, Any]:
        return {
            "type": "http",
            "name": name,
            "description": f"{name} an order",
            "url": f"{tools.url}/{name}",
            "method": method,
            "parameters": order,
            **more,
        }

    safe = [tool("look", "GET"), tool("reserve", "POST", effect="idempotent")]
    return {
        "apiVersion": "goagents.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": "orders"},
        "spec": {
            "agents": [
                {"name": "clerk", "provider": "scripted", "model": "clerk", "tools": [*safe, tool("refund", "POST")]},
                {
                    "name": "careful",
                    "provider": "scripted",
                    "model": "clerk",
                    "tools": [*safe, tool("refund", "POST", approval="unsafe")],
                },
                {"name": "brief", "provider": "scripted", "model": "brief"},
                {"name": "slow", "provider": "scripted", "model": "slow"},
                {
                    "name": "wordy",
                    "provider": "scripted",
                    "model": "brief",
                    "context": {"strategy": "summarize", "max_tokens": 1000, "keep_tokens": 100},
                },
            ]
        },
    }


@dataclass
class Killable:
    """A gateway in processes of its own: gunicorn's master and its worker."""

    server: Server
    plan: Path
    config: Path
    log: Path

    @property
    def url(self) -> str:
        return self.server.url

    def die_at(self, point: KillPoint, occurrence: int = 1, tool: str | None = None) -> None:
        """Say where, before its first request."""
        Plan(point, occurrence, tool).write(self.plan)

    def has_for_a_request(self, seconds: float) -> None:
        """Have it answer within `seconds` (`server.timeout`). Before its first request."""
        text = self.config.read_text(encoding="utf-8")
        self.config.write_text(text.replace(f"timeout: {TIMEOUT}", f"timeout: {seconds:g}s"), encoding="utf-8")

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        """Raises httpx2.HTTPError, as of a connection that breaks because the process dies."""
        timeout = options.pop("timeout", 20)
        return httpx2.request(method, self.url + path, json=body, timeout=timeout, trust_env=False, **options)

    def kill(self) -> None:
        """Kill it from outside."""
        os.killpg(self.server.process.pid, signal.SIGKILL)

    def wait_dead(self, timeout: float = 15.0) -> None:
        """Return once master and worker are gone. Raises AssertionError, with its log, if they live on."""
        deadline = time.monotonic() + timeout
        while left := self.alive():
            assert time.monotonic() < deadline, f"{left} live on; their log:\n{self.printed()}"
            time.sleep(0.01)

    def alive(self) -> list[psutil.Process]:
        """The processes of its group, which no process leaves. A dead one may be waiting for its burial."""
        return [each for each in psutil.process_iter() if _is_alive_in(each, self.server.process.pid)]

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-4000:]

    def end(self) -> None:
        """Kill it if it lives; nobody needs its manners."""
        if self.alive():
            self.kill()
        self.wait_dead()


def _is_alive_in(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


@dataclass
class Site:
    """A store, its cluster, and the processes that serve it. One victim is always being started ahead."""

    folder: Path
    store: str
    tools: CountingTools
    environment: Mapping[str, str] = field(default_factory=dict)
    lease_ttl: str = "500ms"
    _started: int = 0
    _next: Killable | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.diary = Diary(self.folder / "diary.jsonl")
        self._zygote = self._stack.enter_context(Zygote())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def survivor(self) -> Killable:
        """Return a process that lives, with the cluster applied."""
        made = self._ready()
        answer = made.ask("POST", "/api/v1/clusters", manifest(self.tools))
        assert answer.status_code in (201, 409), answer.text
        return made

    def victim(self, point: KillPoint | None = None, occurrence: int = 1, tool: str | None = None) -> Killable:
        """Return a process that has had no request yet, and dies at `point`; None: when it is killed."""
        made = self._ready()
        if point is not None:
            made.die_at(point, occurrence, tool)
        return made

    def model_calls(self, user: str) -> list[int]:
        """Return the rounds that a model was asked for after a message with this text, by any process, in order."""
        return [entry["round"] for entry in self.diary.read() if entry["what"] == "model" and user in entry["user"]]

    def _ready(self) -> Killable:
        made, self._next = self._next or self._start(), self._start()
        await_port(made.server)
        return made

    def _start(self) -> Killable:
        self._started += 1
        port, plan = free_port(), self.folder / f"plan-{self._started}.json"
        log, config = self.folder / f"process-{self._started}.log", self.folder / f"config-{self._started}.yaml"
        config.write_text(CONFIG.format(lease_ttl=self.lease_ttl, timeout=TIMEOUT), encoding="utf-8")
        arguments = ["--target", "killable", "--source", str(SOURCE), "--host", "127.0.0.1", "--port", str(port)]
        own = {
            "GOAGENTS_CONFIG": str(config),
            "GOAGENTS_STORE": self.store,
            "GOAGENTS_INTERNAL_KEY": INTERNAL_KEY,
            "GOAGENTS_OFFLINE": "1",
            PLAN: str(plan),
            DIARY: str(self.diary.path),
        }
        process = psutil.Process(self._zygote.start(arguments, environment({**own, **self.environment}), log))
        made = Killable(Server(process, port), plan, config, log)
        self._stack.callback(made.end)
        return made


def until(condition: Any, what: str, timeout: float = 15.0, pause: float = 0.05) -> Any:
    """Return what `condition()` returns once that is true. Raises AssertionError."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} within {timeout:g} s"
        time.sleep(pause)
    return found
