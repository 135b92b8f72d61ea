"""The gateway as it is measured: under functions-framework, state in a SQLite file of its own, configured by files."""

import asyncio
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.client import Answer, Connection
from tests.benchmarks.servers import Server, function

CONFIG = """\
server: {{log_level: error}}
auth: {{mode: none}}
providers:
  openai: {{api_key: not-a-key, base_url: "{upstream}/v1"}}
  scripted:
    models:
      brief: [{{text: "Hello."}}]
"""


@contextmanager
def configured(upstream: str = "http://127.0.0.1:9") -> Iterator[dict[str, str]]:
    """The environment of a function whose store is new."""
    with tempfile.TemporaryDirectory(prefix="goagents-bench-") as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIG.format(upstream=upstream), encoding="utf-8")
        yield {"GOAGENTS_CONFIG": str(config), "GOAGENTS_STORE": f"sqlite:///{folder}/bench.db"}


def manifest(name: str, agents: Sequence[Mapping[str, Any]], *, concurrent: int = 1000) -> dict[str, Any]:
    policy = {"max_concurrent_agents": concurrent, "queue_timeout": "60s"}
    return {
        "apiVersion": "goagents.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": name},
        "spec": {"resource_policy": policy, "agents": [dict(agent) for agent in agents]},
    }


def talker(number: int, model: str) -> dict[str, Any]:
    return {"name": f"talker-{number}", "provider": "openai", "model": model, "system_prompt": "Talk."}


def call(server: Server, method: str, path: str, body: Any = None, *, expect: int = 200) -> Answer:
    """One request on a connection of its own. Raises RuntimeError for another status than `expect`."""

    async def send() -> Answer:
        connection = await Connection.open(server.port)
        answer = await connection.request(method, path, body)
        connection.close()
        return answer

    answer = asyncio.run(send())
    if answer.status != expect:
        raise RuntimeError(f"{method} {path} answered {answer.status}, not {expect}: {answer.body[:500]!r}")
    return answer


@contextmanager
def gateway(upstream: str, *, talkers: Sequence[str]) -> Iterator[Server]:
    """A gateway with the cluster `bench`, whose agents `talker-0…` speak as those models of the upstream."""
    with configured(upstream) as environment, function("gateway", environment) as server:
        agents = [talker(number, model) for number, model in enumerate(talkers)]
        call(server, "POST", "/api/v1/clusters", manifest("bench", agents), expect=201)
        yield server
