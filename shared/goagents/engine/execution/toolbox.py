"""The tools of one agent, opened: toolsets concurrently, each failure costing its own tools only."""

import asyncio
from dataclasses import replace
from typing import Any

import jsonschema_rs

from goagents.engine.calling.caching import digest_of
from goagents.engine.calling.secrets import SecretValues, configured_secrets
from goagents.engine.calling.surroundings import Surroundings
from goagents.engine.failures import traceback_of
from goagents.engine.loaded import LoadedCluster, OpenTool, Toolbox
from goagents.engine.services import Services
from goagents.errors import ToolError, ToolUnavailable
from goagents.records import Paths, ToolsetRecord
from goagents.spec.cluster import AgentSpec
from goagents.spec.tools import ToolSpec
from goagents.store.base import Merge
from goagents.telemetry.base import ToolsetFailed, Unexpected
from goagents.tools.base import ChangingToolset, Tool

OPEN_TIMEOUT = 20.0
RETRY_AFTER = 30.0  # seconds until a toolset that failed is tried again


async def open_toolbox(services: Services, paths: Paths, cluster: LoadedCluster, agent: AgentSpec) -> Toolbox:
    """Return the agent's tools, opened once per process and generation.

    Failed ones are tried again after a while, and those that have changed are listed anew; runs in progress keep what
    they have.
    """
    box = cluster.toolboxes.get(agent.name)
    if box is not None and not _due(services, box):
        return box
    async with cluster.opening:
        box = _without(cluster.toolboxes.get(agent.name) or _empty(services, paths, cluster, agent))
        missing = [spec for spec in agent.tools if spec.name in _changed(box) or spec.name not in box.toolsets]
        if missing:
            await asyncio.gather(*(_open(services, paths, cluster, agent, box, spec) for spec in missing))
            box.retry_at = services.clock.monotonic() + RETRY_AFTER
        cluster.toolboxes[agent.name] = box
    return box


def _due(services: Services, box: Toolbox) -> bool:
    return bool(_changed(box)) or (bool(box.failed) and services.clock.monotonic() >= box.retry_at)


def _changed(box: Toolbox) -> set[str]:
    return {name for name, one in box.toolsets.items() if isinstance(one, ChangingToolset) and one.stale}


def _without(box: Toolbox) -> Toolbox:
    """Return a copy of `box` without the tools that are to be listed anew, whose toolsets stay open."""
    changed = _changed(box)
    kept = {name: tool for name, tool in box.tools.items() if tool.spec.name not in changed}
    return replace(box, tools=kept, failed=dict(box.failed), toolsets=dict(box.toolsets))


def _empty(services: Services, paths: Paths, cluster: LoadedCluster, agent: AgentSpec) -> Toolbox:
    """Return a toolbox without tools, with what their calls will have around them."""
    configured = configured_secrets(services.config, services.settings, services.resolvers(trusted=True))
    around = Surroundings(
        store=services.store,
        paths=paths,
        clock=services.clock,
        telemetry=services.telemetry,
        cluster=cluster.record,
        agent=agent,
        state=services.calls,
        secrets=SecretValues(configured, agent.tools, services.resolvers(trusted=cluster.trusted)),
    )
    return Toolbox(around=around, framed=any(spec.frame for spec in agent.tools))


async def _open(
    services: Services, paths: Paths, cluster: LoadedCluster, agent: AgentSpec, box: Toolbox, spec: ToolSpec
) -> None:
    before = box.failed.get(spec.name)
    toolset = box.toolsets.pop(spec.name, None)
    try:
        toolset = toolset or services.toolsets.build(spec, trusted=cluster.trusted, allowed_hosts=agent.allowed_hosts)
        async with asyncio.timeout(OPEN_TIMEOUT):
            tools = await toolset.open()
        digest = digest_of(spec) if spec.cache_ttl is not None else ""
        opened = {tool.definition.name: OpenTool(tool, _compile(tool), spec, digest) for tool in tools}
        _refuse_clashes(box, opened)
    except (ToolError, TimeoutError) as error:
        if isinstance(error, ToolError) and error.defect is not None and box.around is not None:
            clean = box.around.secrets.redactor(spec.name).redact
            said, trace = repr(error.defect), traceback_of(error.defect)
            services.telemetry.emit(Unexpected(f"opening tool {spec.name}", clean(said), clean(trace)))
        box.failed[spec.name] = str(error) or f"It did not open within {OPEN_TIMEOUT:.0f} s."
        if toolset is not None:
            await toolset.aclose()  # what was begun of it must not outlive this
    else:
        box.failed.pop(spec.name, None)
        box.toolsets[spec.name] = toolset
        box.tools.update(opened)
    after = box.failed.get(spec.name)
    if after != before:
        await _tell(services, paths, cluster, agent, spec, after)


def _compile(tool: Tool) -> Any:
    definition = tool.definition
    try:
        return jsonschema_rs.validator_for(definition.parameters, offline=True)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        raise ToolUnavailable(f"The schema of the tool {definition.name!r} is not valid: {error}") from error


def _refuse_clashes(box: Toolbox, opened: dict[str, OpenTool]) -> None:
    clashes = sorted(box.tools.keys() & opened.keys())
    if clashes:
        raise ToolUnavailable(f"Another tool of this agent has the same name: {', '.join(clashes)}.")


async def _tell(
    services: Services, paths: Paths, cluster: LoadedCluster, agent: AgentSpec, spec: ToolSpec, failure: str | None
) -> None:
    """A change of a toolset's state is told to the log and kept in the store, where `status` finds it."""
    record = cluster.record
    if failure is not None:
        services.telemetry.emit(ToolsetFailed(record.name, agent.name, spec.name, failure))
    state = ToolsetRecord(
        agent=agent.name,
        tool=spec.name,
        status="available" if failure is None else "unavailable",
        checked_at=services.clock.now(),
    )
    path = paths.toolset(record.namespace, record.name, agent.name, spec.name)
    await services.store.commit([Merge(path, {**state.data(), "detail": failure})])
