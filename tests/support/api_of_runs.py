"""The API with agents whose runs are queued, waited for, cancelled and decided upon."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from tests.support.api import AGENTS, Api
from tests.support.durable import Shop, call, calling
from tests.support.engine import applied, engine, manifest, scripted

from goagents.app import close_services
from goagents.spec.config import Config
from goagents.store.sqlite import SQLiteStore
from goagents.testing.dispatch import RecordingDispatch

RUNS = "/api/v1/runs"
Event = tuple[str, str, dict[str, Any]]


@asynccontextmanager
async def api_of_runs(tmp_path: Path, shop: Shop) -> AsyncIterator[Api]:
    """Agents as in the other tests; `clerk`, whose calls of `refund` a person has to approve; `second` cluster."""
    models = {
        "echo": [{"text": "hello"}],
        "slow": [{"text": "in the end", "delay": 0.3}],
        "busy": [{"fail": "provider_overloaded"}],
        "clerk": calling([call("look", 1), call("refund", 2)]),
    }
    config = Config.model_validate({"runs": {"poll_interval": "50ms"}})
    services = engine(SQLiteStore(str(tmp_path / "api.db")), scripted(**models), {"shop": shop}, config)
    tools = [{"type": "http", "name": "shop", "url": "https://shop.example", "approval": "unsafe"}]
    agents = [agent for agent in AGENTS if agent["name"] in models]
    await applied(services, manifest(*agents, {"name": "clerk", "model": "clerk", "tools": tools}))
    await applied(services, manifest({"name": "echo"}, name="second"))
    made = Api(services)
    yield made
    await made.services.dispatch.aclose()
    await close_services(made.services)


def queued(api: Api) -> RecordingDispatch:
    """Have nobody take anything up by itself."""
    api.services.dispatch = queue = RecordingDispatch()
    return queue


def events_of(response: httpx2.Response) -> list[Event]:
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in response.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


async def waiting(api: Api) -> str:
    """Return the id of a run that waits for a person."""
    run = (await api.say("clerk")).json()
    assert run["status"] == "waiting"
    return str(run["id"])


async def ended(api: Api, run_id: str) -> dict[str, Any]:
    """Follow the run to its end, and return it."""
    await asyncio.wait_for(api.call("GET", f"{RUNS}/{run_id}/events"), 60)
    return dict((await api.call("GET", f"{RUNS}/{run_id}")).json())
