"""Writes down what a version of GoAgents leaves in its store, for later versions to be tested with.

    git archive VERSION | tar -x -C FOLDER
    export PYTHONPATH=FOLDER/shared:FOLDER
    .venv/bin/python tests/support/versions_made.py > tests/contract/engine/data/VERSION.json

Run once a version, with the code of that version: what it imports is FOLDER's. The records are those of a process that
died with two runs in progress, `asking` a model and `calling` a tool, and of sessions that are at rest.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.engine import ALICE, applied, engine, manifest

from goagents.engine import clusters, runs
from goagents.errors import ProviderOverloaded
from goagents.resources import ChatRequest
from goagents.store.base import Store
from goagents.store.sqlite import SQLiteStore
from goagents.testing.models import ScriptedModel
from goagents.testing.stores import RecordingStore
from goagents.testing.tools import StaticToolset, function_tool

ENTRY = {"type": "http", "name": "shop", "url": "https://shop.example"}
ORDER = {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}


def calls(name: str, order: int) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": {"order": order}}]}


class Model:
    """Answers by what it is asked; at `ask` it does not answer."""

    name = "scripted"
    scripts: Mapping[str, list[Any]] = {
        "look": [calls("look", 1), "looked"],
        "fail": [{"fail": "provider_overloaded"}],
        "refund": [calls("refund", 2), "refunded"],
    }

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def stream(self, request: Any) -> AsyncGenerator[Any, None]:
        last = next(message for message in reversed(request.messages) if message.role == "user").text
        if last == "ask":
            self.asked.set()
            await asyncio.Event().wait()
        steps = self.scripts.get(last, [f"re: {last}"])
        step = steps[min(len(steps) - 1, request.messages[-1].role == "tool")]
        async for event in ScriptedModel(step).stream(request):
            yield event

    async def aclose(self) -> None:
        """Nothing to close."""


def shop(called: asyncio.Event) -> StaticToolset:
    async def look(arguments: Mapping[str, Any]) -> str:
        return f"look {arguments['order']}"

    async def refund(arguments: Mapping[str, Any]) -> str:
        called.set()
        await asyncio.Event().wait()
        raise AssertionError

    return StaticToolset([function_tool("look", look, ORDER), function_tool("refund", refund, ORDER)])


async def write(store: Store) -> None:
    """Do what leaves the records."""
    model, called = Model(), asyncio.Event()
    services = engine(store, model, {"shop": shop(called)})  # type: ignore[arg-type] # the test's own model

    async def say(message: str, session: str, key: str | None = None) -> Any:
        request = ChatRequest(message=message, session_id=session)
        return await runs.start(services, ALICE, "support.helper", request, kind="chat", idempotency_key=key)

    await applied(services, manifest({"tools": [ENTRY]}))
    await clusters.scale(services, ALICE, "default", "support", "helper", 1)
    await (await say("hi", "rest", "k1")).result()
    await (await say("look", "rest")).result()
    with suppress(ProviderOverloaded):
        await (await say("fail", "failed", "k2")).result()
    await say("ask", "asking", "k3")
    await model.asked.wait()
    await say("refund", "calling", "k4")
    await called.wait()


def as_json(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in data.items()}


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = RecordingStore(SQLiteStore(str(Path(folder) / "store.db")))
        await write(store)
        paths = sorted({path for call in store.calls if call.method == "commit" for path in call.paths})
        found = (await store.store.get_many(paths)).documents
        made = {
            "written_at": datetime.now(UTC).isoformat(),
            "documents": {path: as_json(document.data) for path, document in found.items()},
        }
        sys.stdout.write(json.dumps(made, indent=1, sort_keys=True) + "\n")
        sys.stdout.flush()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
