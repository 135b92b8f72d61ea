"""A cluster as this process holds it: a generation, its opened tools, and what saves lists their work."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from goagents.errors import NotFound
from goagents.providers.base import ToolSchema
from goagents.records import ClusterRecord
from goagents.resources import Agent
from goagents.spec.cluster import AgentCluster, AgentSpec
from goagents.spec.tools import ToolSpec
from goagents.tools.base import NetworkTool, Tool, Toolset

from .calling.foreign import CLOSING, close_toolset
from .calling.surroundings import Surroundings

MAX_MESSAGE = 500  # characters of one error of a schema


@dataclass(frozen=True, slots=True)
class Instances:
    """The instances of a cluster as the store has them (`InstanceRecord` data), by agent.

    Plain data, because a list of clusters reads hundreds: as models they take half of the list's time.
    """

    by_agent: dict[str, list[dict[str, Any]]]
    read_at: datetime


@dataclass
class OpenTool:
    """A tool on offer, with its schema compiled and the entry of the YAML it comes from, and that entry's digest where
    answers are cached. `network` is the tool again, where its calls go to a server over the network."""

    tool: Tool
    validator: Any
    spec: ToolSpec
    digest: str = ""
    network: NetworkTool | None = field(init=False)

    def __post_init__(self) -> None:
        self.network = self.tool if isinstance(self.tool, NetworkTool) else None  # asked once: it takes microseconds

    def problem(self, arguments: dict[str, Any]) -> str | None:
        """Return what is wrong with `arguments`, or None: at most five errors, each with its place."""
        errors = []
        for error in self.validator.iter_errors(arguments):
            place = ".".join(str(step) for step in error.instance_path)
            message = error.message[:MAX_MESSAGE]  # which repeats the value
            errors.append(f"{place}: {message}" if place else message)
            if len(errors) == 5:
                break
        return "; ".join(errors) or None


@dataclass
class Toolbox:
    """The tools of an agent at one moment: what is opened later makes another one, and runs keep theirs.

    `failed` holds, by tool of the YAML, why it is not on offer, `retry_at` from when on it is opened again (on the
    monotonic clock). `offers` is what each that is open has, which may clash with what an earlier one has. `around` is
    what calls have around them. `framed`: what some tool of the agent returns is marked as data.
    """

    tools: dict[str, OpenTool] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    toolsets: dict[str, Toolset] = field(default_factory=dict)
    offers: dict[str, dict[str, OpenTool]] = field(default_factory=dict)
    retry_at: dict[str, float] = field(default_factory=dict)
    around: Surroundings | None = None
    framed: bool = False

    @property
    def schemas(self) -> tuple[ToolSchema, ...]:
        definitions = (open_tool.tool.definition for open_tool in self.tools.values())
        return tuple(ToolSchema(d.name, d.description, d.parameters) for d in definitions)


@dataclass(frozen=True, eq=False, slots=True)
class Opening:
    """An entry of an agent that is being opened. `tried` is done once all that want it know what came of it; `task`
    also waits for what is closed behind a failure, and is cancelled by nobody but `LoadedCluster.close`."""

    tried: "asyncio.Future[None]"
    task: "asyncio.Task[None]"


@dataclass
class LoadedCluster:
    """A generation in use. `toolboxes` holds the opened tools of its agents, by agent name, and `openings` what is
    under way, by agent and tool of the YAML; `endings` close behind it, and nobody interrupts them.

    `summaries` and `instances` (with the monotonic time they were read) save lists their work, see `status`.
    `retired`, once another generation has its place: where the tasks are that close it.
    """

    record: ClusterRecord
    manifest: AgentCluster
    trusted: bool
    toolboxes: dict[str, Toolbox] = field(default_factory=dict)
    openings: dict[tuple[str, str], Opening] = field(default_factory=dict)
    endings: set["asyncio.Task[None]"] = field(default_factory=set)
    scaling: asyncio.Lock = field(default_factory=asyncio.Lock)
    summaries: dict[tuple[str | int, ...], Agent] = field(default_factory=dict)
    instances: tuple[float, Instances] | None = None
    retired: "set[asyncio.Task[None]] | None" = None
    runs: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)

    def agent(self, name: str) -> AgentSpec:
        """Raises NotFound, with the names there are."""
        spec = self.manifest.agent(name)
        if spec is None:
            names = ", ".join(agent.name for agent in self.manifest.spec.agents)
            raise NotFound(f"The cluster {self.record.name!r} has no agent {name!r}; it has: {names}.")
        return spec

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a run uses the tools, `close` waits. Of a retired cluster, the last one has them closed."""
        self.runs += 1
        self.unused.clear()
        try:
            yield
        finally:
            self.runs -= 1
            if not self.runs:
                self.unused.set()
                self._close_retired()

    def retire(self, closing: "set[asyncio.Task[None]]") -> None:
        """Have the tools closed as soon as no run uses them, and whenever a run that was admitted before opens them."""
        self.retired = closing
        self._close_retired()

    def _close_retired(self) -> None:
        if self.retired is not None and (self.runs or self._has_tools):
            task = asyncio.create_task(self.close())
            self.retired.add(task)
            task.add_done_callback(self.retired.discard)

    @property
    def _has_tools(self) -> bool:
        return bool(self.toolboxes or self.openings or self.endings)

    async def end(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for `work`, which goes on where whoever waits is cancelled: `close` waits for it."""
        task = asyncio.create_task(work)
        self.endings.add(task)
        task.add_done_callback(self.endings.discard)
        await asyncio.shield(task)

    async def close(self) -> None:
        """Close the tools once no run uses them; who comes later opens them anew."""
        while self.runs or self._has_tools:
            if self.runs:
                await self.unused.wait()
                continue
            boxes, openings = list(self.toolboxes.values()), [opening.task for opening in self.openings.values()]
            under_way = {*openings, *self.endings}
            self.toolboxes.clear()
            self.openings.clear()
            self.endings.clear()
            for task in openings:
                task.cancel()
            if under_way:
                await asyncio.wait(under_way, timeout=2 * CLOSING)  # within which they close what they began
            await asyncio.gather(*(_close(box) for box in boxes))


async def _close(box: Toolbox) -> None:
    if box.around is None:
        raise AssertionError("an opened toolbox has what is around its calls")
    await asyncio.gather(*(close_toolset(box.around, name, toolset) for name, toolset in box.toolsets.items()))
