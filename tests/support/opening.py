"""One process whose time the test moves, and toolsets that open as the test says."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from tests.support.engine import ALICE, Engine, applied, engine, manifest

from goagents.app import retire_services
from goagents.engine import clusters, runs
from goagents.resources import ChatRequest, ToolStatus
from goagents.store.base import Store
from goagents.testing.clocks import VirtualClock
from goagents.testing.models import ScriptedModel
from goagents.testing.tools import StaticToolset, function_tool
from goagents.tools.base import Tool, Toolset

SECRET = "sesame-opens"


async def fine(_: Mapping[str, Any]) -> str:
    return "fine"


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "http", "name": name, "url": "https://x.example", "headers": {"X-Key": "${KEY}"}, **more}


class Server(StaticToolset):
    """A toolset whose server accepts and says nothing, until `up`; then it offers one tool."""

    def __init__(self, name: str = "slow") -> None:
        super().__init__([function_tool(name, fine)])
        self.up, self.asked = asyncio.Event(), asyncio.Event()
        self.ended = 0

    async def open(self) -> Sequence[Tool]:
        self.opened += 1
        self.asked.set()
        try:
            await self.up.wait()
        finally:
            self.ended += 1
        return self.tools


class Bench:
    """One process whose time the test moves, with a cluster of the agents `a`, `b`, …"""

    def __init__(self, store: Store, toolsets: Mapping[str, Toolset], script: Sequence[Any]) -> None:
        self.clock = VirtualClock(datetime.now(UTC))
        self.model = ScriptedModel(*script, *["hello"] * 20)
        self.services: Engine = engine(self.clock.watch(store), self.model, toolsets, environ={"KEY": SECRET})
        self.services.clock = self.clock

    async def apply(self, *agents: Sequence[Mapping[str, Any]], **more: Any) -> None:
        named = [{"name": name, "tools": list(tools)} for name, tools in zip("abc", agents, strict=False)]
        await applied(self.services, manifest(*named, max_concurrent_agents=20, **more))

    def ask(self, agent: str = "a") -> "asyncio.Task[float]":
        """Begin a run; the task gives the (virtual) seconds it took."""

        async def run() -> float:
            began = self.clock.monotonic()
            handle = await runs.start(self.services, ALICE, f"support.{agent}", ChatRequest(message="hi"), kind="chat")
            assert (await handle.result()).message.text == "hello"
            return self.clock.monotonic() - began

        return asyncio.create_task(run())

    async def waited(self, *asked: "asyncio.Task[float]") -> list[float]:
        await self.clock.run_until(lambda: all(task.done() for task in asked))
        return [task.result() for task in asked]

    async def asked_until_last(self, last: Server) -> "asyncio.Task[float]":
        """Make a run that waits for `last`, which opens once everything else is open, and return it, over."""
        asked = self.ask()
        await last.asked.wait()
        await self.clock.settle()
        last.up.set()
        await self.waited(asked)
        return asked

    async def offered(self, agent: str = "a") -> tuple[float, list[str]]:
        """Make a run; return the seconds it took and the tools that its model was offered."""
        (seconds,) = await self.waited(self.ask(agent))
        return seconds, [tool.name for tool in self.model.requests[-1].tools]

    async def status(self, agent: int = 0) -> list[ToolStatus]:
        return (await clusters.get_cluster(self.services, ALICE, "default", "support")).agents[agent].tools


@asynccontextmanager
async def bench(store: Store, script: Sequence[Any] = (), **toolsets: Toolset) -> AsyncGenerator[Bench, None]:
    """`script` is what the model says before it says hello."""
    made = Bench(store, toolsets, script)
    yield made
    retiring = asyncio.create_task(retire_services(made.services))
    await made.clock.run_until(retiring.done)
    await retiring
    assert all(cluster.openings == {} for cluster in made.services.specs.values())
