"""One call on its way to a tool, as the pipeline makes it, with a clock of the test's."""

import asyncio
import copy
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from goagents.clock import Clock
from goagents.engine.calling.caching import digest_of
from goagents.engine.calling.pipeline import Passage
from goagents.engine.calling.results import Done
from goagents.engine.calling.secrets import SecretValues
from goagents.engine.calling.state import CallState
from goagents.engine.calling.surroundings import Surroundings
from goagents.engine.loaded import OpenTool
from goagents.messages import ToolCallPart
from goagents.records import ClusterRecord, Paths
from goagents.secrets.environment import EnvironmentSecrets
from goagents.spec.cluster import AgentSpec
from goagents.spec.interpolation import Resolver
from goagents.store.base import Store
from goagents.store.sqlite import SQLiteStore
from goagents.telemetry.base import Event, Telemetry
from goagents.testing.clocks import VirtualClock
from goagents.tools.base import ToolContext, ToolDefinition, ToolResult, text_result

Answer = ToolResult | str | Exception


@dataclass
class ServerTool:
    """A tool at `place` that answers with `answers`, one after another, the last one again and again."""

    definition: ToolDefinition
    answers: list[Answer]
    place: str | None = "api.example.com:443"
    keys: list[str] = field(default_factory=list)
    hold: asyncio.Event | None = None
    takes: float = 0.0
    clock: Clock | None = None

    def destination(self, arguments: Mapping[str, Any]) -> str | None:
        return self.place

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        answer = self.answers[min(len(self.keys), len(self.answers) - 1)]
        self.keys.append(context.idempotency_key)
        if self.hold is not None:
            await self.hold.wait()
        if self.takes and self.clock is not None:
            await self.clock.sleep(self.takes)
        if isinstance(answer, Exception):
            raise answer
        return text_result(answer) if isinstance(answer, str) else answer


class Desk:
    """An agent in one process, whose calls the test makes."""

    def __init__(self, clock: VirtualClock, store: Store, agent: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.clock = clock
        self.seen: list[Event] = []
        self.begun: set[str] = set()
        self.spec = AgentSpec.model_validate({"name": "a", "provider": "scripted", "model": "m", **agent})
        resolver = Resolver({"env": EnvironmentSecrets(environ)})
        now = clock.now()
        self.around = Surroundings(
            store=store,
            paths=Paths("default"),
            clock=clock,
            telemetry=Telemetry([self.seen.append]),
            cluster=ClusterRecord(
                uid="c1", name="c", namespace="default", generation=1, digest="", created_at=now, updated_at=now
            ),
            agent=self.spec,
            state=CallState(),
            secrets=SecretValues((), self.spec.tools, resolver),
        )

    def tool(self, *answers: Answer, entry: int = 0, **definition: Any) -> ServerTool:
        spec = self.spec.tools[entry]
        fields: dict[str, Any] = {"effect": "read", "timeout": spec.timeout, "max_output": spec.max_output}
        made = ToolDefinition(spec.name, "", {"type": "object"}, **{**fields, **definition})
        return ServerTool(made, list(answers), clock=self.clock)

    def elsewhere(self) -> "Desk":
        """Return the same agent in another process."""
        other = copy.copy(self)
        other.around = replace(self.around, state=CallState())
        return other

    async def call(self, tool: ServerTool, *, seconds: float = math.inf, entry: int = 0, **arguments: Any) -> Done:
        """Make a call within `seconds` and let time pass until it is done."""
        spec = self.spec.tools[entry]
        name = tool.definition.name
        context = ToolContext("run_1", "ses_1", "default", "a", "call_1", "run_1/1/call_1")
        part = ToolCallPart("call_1", name, arguments)
        opened = OpenTool(tool, None, spec, digest_of(spec.model_dump(mode="json"), tool.definition))
        deadline = self.clock.monotonic() + seconds
        task = asyncio.create_task(Passage(self.around, opened, part, context, deadline, self.begun).make())
        await self.clock.run_until(task.done)
        return task.result()


def desk(
    folder: Path, environ: Mapping[str, str] | None = None, agent: Mapping[str, Any] | None = None, **tool: Any
) -> Desk:
    """Return a desk with one `http` tool, `find`, declared as `tool` says."""
    clock = VirtualClock()
    store = clock.watch(SQLiteStore(str(folder / "calls.db"), clock=clock))
    fields = {"type": "http", "name": "find", "url": "https://api.example.com/v1", **tool}
    return Desk(clock, store, {"tools": [fields], **(agent or {})}, environ or {})


def text_of(done: Done) -> str:
    return "".join(getattr(part, "text", "") for part in done.result.content)


Make = Callable[..., Awaitable[Done]]
