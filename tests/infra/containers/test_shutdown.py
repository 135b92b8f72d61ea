"""The image's own command, asked to end with requests open: each is answered, and another container goes on."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.benchmarks.servers import Server
from tests.infra.containers.image import Image

KEY = "the-key-of-internal-calls"
WITHIN = 10.0  # seconds that Cloud Run, Compose and Kubernetes wait for the end
WORDS = "one two three four five six seven eight nine ten"
CONFIG = {
    "server": {"log_format": "json"},
    "runs": {"lease_ttl": 5, "dispatch_grace": 0.5, "poll_interval": 0.2},
    "providers": {
        "scripted": {
            "models": {
                "brief": [{"text": "It is done.", "delay": 1.5}],
                # a word at a time, and longer than the process may take to end
                "slow": [{"text": WORDS, "chunk_size": 5, "chunk_delay": 0.9}],
            }
        }
    },
}
AGENTS = [{"name": name, "provider": "scripted", "model": name} for name in ("brief", "slow")]
MANIFEST = {
    "apiVersion": "goagents.dev/v1",
    "kind": "AgentCluster",
    "metadata": {"name": "demo"},
    "spec": {"agents": AGENTS},
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What two containers on one volume are given."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG), encoding="utf-8")
    return {
        "GOAGENTS_CONFIG": str(config),
        "GOAGENTS_STORE": f"sqlite:///{tmp_path}/state/state.db",
        "GOAGENTS_INTERNAL_KEY": KEY,
    }


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=30, trust_env=False) as made:
        yield made


class Stream:
    """A stream that is read while it comes: `events` are its types and data so far, `task` ends with it."""

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.text_began = asyncio.Event()
        self.task = asyncio.create_task(self._read(http, url))

    async def _read(self, http: httpx2.AsyncClient, url: str) -> None:
        kind = ""
        async with http.stream("POST", url, json={"message": "hi"}) as answer:
            assert answer.status_code == 200, (await answer.aread()).decode()
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                kind = value if name == "event" else kind
                if name == "data":
                    self.events.append((kind, json.loads(value)))
                if kind == "message.delta":
                    self.text_began.set()


async def over(http: httpx2.AsyncClient, server: Server, run: str) -> dict[str, Any]:
    """Return the run once it is over, while the sweeper is called as a scheduler does."""
    give_up = time.monotonic() + 60
    while True:
        swept = await http.post(f"{server.url}/sweep", headers={"authorization": f"Bearer {KEY}"})
        assert swept.status_code == 200, swept.text
        found: dict[str, Any] = (await http.get(f"{server.url}/api/v1/runs/{run}")).json()
        if found["finished_at"] is not None:
            return found
        assert time.monotonic() < give_up, f"the run is {found['status']}"
        await asyncio.sleep(0.3)


async def test_requests_are_answered_and_runs_go_on_in_another_container(
    tmp_path: Path, environment: dict[str, str], http: httpx2.AsyncClient
):
    image, app, log = Image.read(), tmp_path / "app", tmp_path / "log"
    image.lay_out(app)
    with image.running(app, environment, log) as server:
        made = await http.post(f"{server.url}/api/v1/clusters", json=MANIFEST)
        assert made.status_code == 201, made.text
        agents = f"{server.url}/api/v1/agents/demo"
        stream = Stream(http, f"{agents}.slow/stream")
        long = asyncio.create_task(http.post(f"{agents}.slow/chat", json={"message": "hi"}))
        short = asyncio.create_task(http.post(f"{agents}.brief/chat", json={"message": "hi"}))
        background = (await http.post(f"{agents}.slow/runs", json={"message": "hi"})).json()["id"]
        await asyncio.wait_for(stream.text_began.wait(), 60)
        began = time.monotonic()
        server.process.send_signal(getattr(signal, image.stop_signal))
        await stream.task
        answers = [await short, await long]
        ended = await asyncio.to_thread(server.process.wait, WITHIN)
        assert time.monotonic() - began < WITHIN
    assert ended == 0, log.read_text()
    assert answers[0].status_code == 200
    assert answers[0].json()["message"]["parts"] == [{"type": "text", "text": "It is done."}]
    assert (answers[1].status_code, answers[1].json()["status"]) == (202, "handed_off")
    kinds = [kind for kind, _ in stream.events]
    assert (kinds[0], kinds[-1]) == ("run.started", "run.handed_off")
    assert "message.delta" in kinds
    runs = [stream.events[0][1]["run_id"], answers[1].json()["id"], background]
    with image.running(app, environment, log) as other:
        for run in await asyncio.gather(*(over(http, other, run) for run in runs)):
            assert (run["status"], run["attempt"]) == ("succeeded", 2)
            assert run["output"]["parts"] == [{"type": "text", "text": WORDS}]
