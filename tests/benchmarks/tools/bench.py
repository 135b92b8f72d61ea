"""The tools of one agent as the engine has them, and what is timed of them."""

import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.report import Measure

from goagents.access.principal import Principal
from goagents.app import close_services, open_services
from goagents.engine import clusters, runs
from goagents.engine.calling.pipeline import Passage
from goagents.engine.calling.results import Done
from goagents.engine.execution.toolbox import open_toolbox
from goagents.engine.loaded import Toolbox
from goagents.engine.services import Services
from goagents.engine.specs import load
from goagents.messages import ToolCallPart
from goagents.records import Paths
from goagents.resources import ChatRequest
from goagents.settings import Settings
from goagents.spec.cluster import AgentCluster
from goagents.spec.config import Config
from goagents.tools.base import ToolContext

CONTEXT = ToolContext("run", "session", "default", "agent", "call", "run/1/call")
ADD = {"a": 1, "b": 2}
_WHO = Principal("bench")

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Size:
    """How much is measured. `together` are calls at once, `definitions` those of an agent, `per_page` of one page."""

    rounds: int = 7
    calls: int = 200
    together: int = 50
    kills: int = 5
    definitions: int = 1000
    per_page: int = 125
    turns: int = 20

    def told(self, load: float) -> str:
        """Return what the numbers are of, as the page has it; `load` is that of the machine when they were begun."""
        rounds = f"{self.rounds} rounds that take turns, of {self.calls} calls or {self.turns} turns of an agent"
        return (
            f"Medians of {rounds}; {self.kills} kills of each kind. Load of {os.cpu_count()} cores before: {load:.1f}."
        )


SMALLEST = Size(rounds=1, calls=2, together=3, kills=1, definitions=8, per_page=4, turns=2)


@dataclass(frozen=True)
class Found:
    """What a benchmark found: as measures, and as docs/benchmarks.md has it."""

    measures: list[Measure]
    markdown: str


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call: by the clock, and CPU of this process (what the server takes is not in it)."""

    wall: float
    cpu: float


class Bench:
    """The tools of one agent as the engine has them, and calls of them."""

    def __init__(self, services: Services, toolbox: Toolbox) -> None:
        self.services = services
        self.toolbox = toolbox

    def alone(self, name: str, arguments: dict[str, Any]) -> Call:
        """The call of the tool with nothing around it."""
        tool = self.toolbox.tools[name].tool
        return lambda: tool.call(arguments, CONTEXT)

    def around(self, name: str, arguments: dict[str, Any]) -> Call:
        return lambda: self.call(name, arguments)

    async def call(self, name: str, arguments: dict[str, Any]) -> Done:
        """Make a call as the engine does, with all that is around it. Raises AssertionError unless it is answered."""
        around, opened = self.toolbox.around, self.toolbox.tools[name]
        assert around is not None
        part = ToolCallPart("call", name, arguments)
        assert opened.problem(arguments) is None
        deadline = self.services.clock.monotonic() + 60
        done = await Passage(around, opened, part, CONTEXT, deadline, set()).make()
        assert done.outcome == "ok", f"{name}: {done.outcome}: {done.result.content}"
        return done

    async def turn(self) -> None:
        """A whole turn of the agent, without a call of a tool."""
        watch = await runs.start(self.services, _WHO, "default.bench.a", ChatRequest(message="Hm?"), kind="chat")
        await watch.answer()


@asynccontextmanager
async def bench(tools: Sequence[Mapping[str, Any]], upstream: str = "") -> AsyncGenerator[Bench, None]:
    """An agent with these entries under `tools:`. `upstream` serves its model; without it there is none."""
    agent = {"name": "a", "provider": "openai", "model": "bench-1-0", "tools": list(tools)}
    manifest = {
        "apiVersion": "goagents.dev/v1", "kind": "AgentCluster", "metadata": {"name": "bench"},
        "spec": {"agents": [agent]},
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="goagents-bench-") as folder:
        config = Config.model_validate(
            {
                "server": {"log_level": "error"},
                "store": {"url": f"sqlite:///{folder}/bench.db"},
                "allow": {"addresses": ["127.0.0.1"]},
                # the keys are secrets that answers are searched for
                "providers": {
                    "anthropic": {"api_key": "sk-ant-0123456789"},
                    "openai": {"api_key": "sk-0123456789", "base_url": f"{upstream or 'http://127.0.0.1:9'}/v1"},
                },
            }
        )
        services = open_services(Settings(), config)
        await clusters.apply(services, _WHO, AgentCluster.model_validate(manifest), trusted=True)
        paths = Paths(_WHO.tenant)
        cluster = await load(services, paths, "default", "bench")
        toolbox = await open_toolbox(services, paths, cluster, cluster.agent("a"))
        try:
            assert not toolbox.failed, toolbox.failed
            yield Bench(services, toolbox)
        finally:
            await close_services(services)


async def timed(calls: Mapping[str, Call], rounds: int, count: int) -> dict[str, Timing]:
    """Return what one call of each takes, medians of rounds of `count` calls that take turns."""
    found: dict[str, list[Timing]] = {name: [] for name in calls}
    for call in calls.values():
        await call()  # what the first one sets up is not what is measured
    for _ in range(rounds):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(count):
                await call()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            found[name].append(Timing(wall / count * 1e6, cpu / count * 1e6))
    return {
        name: Timing(statistics.median(one.wall for one in each), statistics.median(one.cpu for one in each))
        for name, each in found.items()
    }


def shown(microseconds: float) -> str:
    """Return a time as the page has it: `0.2 µs`, `27 µs`, `1.6 ms`, `2.1 s`."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size * 0.9995:
            value = microseconds / size
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return f"{microseconds:.0f} µs" if microseconds >= 9.95 else f"{microseconds:.1f} µs"


def times(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|" for line in lines)
