"""Opening the entries of an agent's tools: each once for all who want it, within its time, whatever it raises.

An opening belongs to its cluster: who waits for it may go away. No agent and no entry waits for another's.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from goagents.clock import Clock
from goagents.engine.calling.foreign import CLOSING, being_cancelled, close_toolset, is_ours, tell_defect
from goagents.engine.calling.secrets import SecretValues, configured_secrets
from goagents.engine.calling.surroundings import Surroundings
from goagents.engine.loaded import LoadedCluster, Opening, OpenTool, Toolbox
from goagents.engine.services import Services
from goagents.errors import GoAgentsError, StoreError, ToolError
from goagents.records import Paths, ToolsetRecord
from goagents.spec.cluster import AgentSpec
from goagents.spec.interpolation import Resolver
from goagents.spec.references import texts_within
from goagents.spec.tools import McpToolSpec, ToolSpec
from goagents.store.base import Merge
from goagents.telemetry.base import ToolsetFailed
from goagents.tools.base import ChangingToolset, Toolset

from .offer import offer

LEAST, MOST = 5.0, 20.0  # seconds that an opening has: the entry's `timeout`, within these
RETRY_AFTER = 30.0  # seconds until a toolset that failed is tried again
MAX_REASON = 2000  # characters

_log = logging.getLogger("goagents.engine")
T = TypeVar("T")
Futures = Collection["asyncio.Future[None]"]


@dataclass(frozen=True, slots=True)
class Opened:
    toolset: Toolset
    tools: dict[str, OpenTool]


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens the tools of one agent."""

    services: Services
    paths: Paths
    cluster: LoadedCluster
    agent: AgentSpec
    around: Surroundings

    @property
    def box(self) -> Toolbox:
        """The tools of this moment."""
        return self.cluster.toolboxes.get(self.agent.name) or _empty(self.agent, self.around)

    def begin(self) -> tuple[Futures, Futures]:
        """Begin to open what is due. Return what a run has to wait for, and what it can do without: what failed before
        and is being tried again by this call."""
        box = self.box
        needed: list[asyncio.Future[None]] = []
        again: list[asyncio.Future[None]] = []
        for spec in self.agent.tools:
            failed = spec.name in box.retry_at
            opening = self.cluster.openings.get((self.agent.name, spec.name))
            if opening is not None:
                needed += [] if failed else [opening.tried]
            elif self._due(box, spec):
                (again if failed else needed).append(self._begin(spec).tried)
        return needed, again

    def _due(self, box: Toolbox, spec: ToolSpec) -> bool:
        toolset = box.toolsets.get(spec.name)
        if toolset is not None and not self._has_changed(spec, toolset):
            return False
        return self.services.clock.monotonic() >= box.retry_at.get(spec.name, 0.0)

    def _has_changed(self, spec: ToolSpec, toolset: Toolset) -> bool:
        try:
            return isinstance(toolset, ChangingToolset) and bool(toolset.stale)
        except Exception as error:  # noqa: BLE001 - a property of foreign code; the tools are as they were
            tell_defect(self.around, spec.name, f"asking whether tool {spec.name} has changed", error)
            return False

    def _begin(self, spec: ToolSpec) -> Opening:
        key, openings = (self.agent.name, spec.name), self.cluster.openings
        tried: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        opening = openings[key] = Opening(tried, asyncio.create_task(self._open(spec, tried)))

        def ended(task: "asyncio.Task[None]") -> None:
            if openings.get(key) is opening:
                del openings[key]
            _settle(tried)
            if not task.cancelled() and (error := task.exception()) is not None:
                tell_defect(self.around, spec.name, f"opening tool {spec.name}", error)

        opening.task.add_done_callback(ended)
        return opening

    async def _open(self, spec: ToolSpec, tried: "asyncio.Future[None]") -> None:
        """Have the entry opened, and let all know what came of it; then close behind a failure."""
        toolset = self.box.toolsets.get(spec.name)
        first = toolset is None and spec.name not in self.box.failed
        seconds = min(max(spec.timeout, LEAST), MOST)
        work, kept = asyncio.create_task(self._attempt(spec, toolset)), False
        try:
            result: Opened | str = f"It did not open within {seconds:g} s."
            if await done_within(self.services.clock, [work], seconds):
                result = "It was cancelled from within." if work.cancelled() else work.result()
            changed = self._publish(spec, result)
            kept = isinstance(result, Opened)
            _settle(tried)
            if first:
                await self.cluster.end(self._tell(spec.name, changed.pop(spec.name, None), first))
            for name, failure in changed.items():
                await self.cluster.end(self._tell(name, failure))
        finally:
            if not kept:
                await self.cluster.end(self._discard(spec, work, toolset))

    async def _attempt(self, spec: ToolSpec, toolset: Toolset | None) -> Opened | str:
        """Return the entry opened, or why it is not on offer. `toolset` is open already, and lists its tools anew: it
        is in use, and stays open."""
        built: Toolset | None = None
        try:
            if toolset is None:
                trusted, hosts, tenant = self.cluster.trusted, self.agent.allowed_hosts, self.paths.tenant
                built = self.services.toolsets.build(spec, trusted=trusted, allowed_hosts=hosts, tenant=tenant)
                toolset = built
            tools = await toolset.open()
            _check_wanted()
            entry = self._entry(spec) if spec.cache_ttl is not None else None
            return Opened(toolset, offer(spec, tools, entry))
        except BaseException as error:
            if built is not None:
                await close_toolset(self.around, spec.name, built)  # what was begun of it must not outlive this
            if is_ours(error):
                raise
            return self._reason(spec, error)

    def _entry(self, spec: ToolSpec) -> Any:
        """Return what the entry comes to at this moment, as JSON. An answer that was cached for another address, as
        another user or of another server is none of this one's."""
        entry = spec.model_dump(mode="json")
        resolver = self.services.resolvers(trusted=self.cluster.trusted)
        values = [_value(resolver, text) for text in texts_within(entry) if "${" in text]
        server = self.services.config.mcp_servers.get(spec.server) if isinstance(spec, McpToolSpec) else None
        return [entry, values, server.model_dump(mode="json") if server is not None else None]

    def _reason(self, spec: ToolSpec, error: BaseException) -> str:
        """Return what status says of a failure; the log has what of it nobody expected."""
        expected = isinstance(error, GoAgentsError | TimeoutError)
        defect = error if not expected else error.defect if isinstance(error, ToolError) else None
        if defect is not None:
            tell_defect(self.around, spec.name, f"opening tool {spec.name}", defect)
        text = f"It raised {type(error).__name__} when it was opened; the server's log has the details."
        if expected:
            text = _shown(error)
        clean = self.around.secrets.redactor(spec.name).beginning(text, MAX_REASON)
        return clean.encode(errors="replace").decode()

    def _publish(self, spec: ToolSpec, result: Opened | str) -> dict[str, str | None]:
        """Make what came of an entry part of the agent's toolbox. Return whose state is another one now, by entry: why
        it is not on offer, or None.

        Tools that could not be listed anew are as they were.
        """
        box, name = self.box, spec.name
        toolsets, offers, failed = dict(box.toolsets), dict(box.offers), dict(box.failed)
        retry_at = {key: due for key, due in box.retry_at.items() if key != name}
        if isinstance(result, Opened):
            toolsets[name], offers[name] = result.toolset, result.tools
        else:
            retry_at[name] = self.services.clock.monotonic() + RETRY_AFTER
            if name in box.toolsets:
                _log.warning("tool %s: its tools are as they were, as listing them anew failed: %s", name, result)
            else:
                failed[name] = result
        tools, clashing = self._merged(offers)
        failed = {key: reason for key, reason in failed.items() if key not in toolsets} | clashing
        self.cluster.toolboxes[self.agent.name] = replace(
            box, tools=tools, toolsets=toolsets, offers=offers, failed=failed, retry_at=retry_at
        )
        names = [each.name for each in self.agent.tools]
        return {each: failed.get(each) for each in names if failed.get(each) != box.failed.get(each)}

    def _merged(self, offers: Mapping[str, dict[str, OpenTool]]) -> tuple[dict[str, OpenTool], dict[str, str]]:
        """Return the tools in the order of the file, so that prompts begin alike, and why entries have no part in it:
        of two that offer the same name the earlier has it, whichever opened first. The other stays open, in use by
        runs that have it."""
        tools: dict[str, OpenTool] = {}
        clashing: dict[str, str] = {}
        for spec in self.agent.tools:
            offered = offers.get(spec.name, {})
            if clashes := sorted(tools.keys() & offered.keys()):
                clashing[spec.name] = f"Another tool of this agent has the same name: {', '.join(clashes)}."
            else:
                tools |= offered
        return tools, clashing

    async def _discard(self, spec: ToolSpec, work: "asyncio.Task[Opened | str]", before: Toolset | None) -> None:
        """End `work`, and close what it opened and nobody has; `before` was open before."""
        work.cancel()
        await asyncio.wait({work}, timeout=CLOSING)
        if not work.done():
            _log.warning("tool %s: opening it does not end, though it was told to", spec.name)
        elif not work.cancelled() and isinstance(opened := work.result(), Opened) and opened.toolset is not before:
            await close_toolset(self.around, spec.name, opened.toolset)

    async def _tell(self, name: str, failure: str | None, first: bool = False) -> None:
        """A change of a toolset's state is told to the log and kept in the store, where `status` finds it. The `first`
        state that a process finds may be one: what another process left is read, and written where it differs."""
        record, services = self.cluster.record, self.services
        if failure is not None:
            services.telemetry.emit(ToolsetFailed(record.name, self.agent.name, name, failure))
        state = ToolsetRecord(
            agent=self.agent.name,
            tool=name,
            status="available" if failure is None else "unavailable",
            checked_at=services.clock.now(),
        )
        path = self.paths.toolset(record.namespace, record.name, self.agent.name, name)
        try:
            if first:
                found = (await services.store.get_many([path])).get(path)
                known = ToolsetRecord.of(found.data) if found is not None else None
                if (known.status, known.detail) == (state.status, failure) if known else failure is None:
                    return
            await services.store.commit([Merge(path, {**state.data(), "detail": failure})])
        except StoreError as error:
            _log.warning("the state of tool %s is told to this process alone: %s", name, error)


def opener(services: Services, paths: Paths, cluster: LoadedCluster, agent: AgentSpec) -> Opener:
    """Return what opens the agent's tools, whose toolbox is empty at first."""
    box = cluster.toolboxes.get(agent.name)
    around = box.around if box is not None else None
    if around is None:
        around = _surroundings(services, paths, cluster, agent)
        cluster.toolboxes[agent.name] = _empty(agent, around)  # so that the cluster is closed when nobody needs it
    return Opener(services, paths, cluster, agent, around)


def _empty(agent: AgentSpec, around: Surroundings) -> Toolbox:
    return Toolbox(around=around, framed=any(spec.frame for spec in agent.tools))


def _surroundings(services: Services, paths: Paths, cluster: LoadedCluster, agent: AgentSpec) -> Surroundings:
    configured = configured_secrets(services.config, services.settings, services.resolvers(trusted=True))
    return Surroundings(
        store=services.store,
        paths=paths,
        clock=services.clock,
        telemetry=services.telemetry,
        cluster=cluster.record,
        agent=agent,
        state=services.calls,
        secrets=SecretValues(configured, agent.tools, services.resolvers(trusted=cluster.trusted)),
    )


async def done_within(clock: Clock, works: Collection["asyncio.Future[T]"], seconds: float) -> bool:
    """Wait until all `works` are done, for as many seconds at most; return whether they are. None is cancelled."""
    sleep = asyncio.create_task(clock.sleep(seconds))
    try:
        while (left := {work for work in works if not work.done()}) and not sleep.done():
            waited: set[asyncio.Future[Any]] = {*left, sleep}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleep.cancel()
    return not left


def _value(resolver: Resolver, text: str) -> str | None:
    try:
        return resolver.resolve(text)
    except GoAgentsError:
        return None  # the tool opened without it


def _shown(error: BaseException) -> str:
    try:
        return str(error) or "It gave no answer in time."
    except Exception as worse:  # noqa: BLE001 - its own `__str__` is foreign code, too
        return f"It raised {type(error).__name__}, whose text raised {type(worse).__name__}."


def _check_wanted() -> None:
    """Raise CancelledError where the opening was told to end, and has not heard."""
    if being_cancelled():
        raise asyncio.CancelledError


def _settle(tried: "asyncio.Future[None]") -> None:
    if not tried.done():
        tried.set_result(None)
