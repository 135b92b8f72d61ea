"""What a cluster and its agents are doing, computed on read: no job has to sweep anything for it to be true."""

import asyncio
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, Literal

from goagents.errors import ToolUnavailable
from goagents.records import Paths, ToolsetRecord
from goagents.resources import Agent, CircuitStatus, Cluster, Instance, ToolStatus
from goagents.spec.cluster import AgentSpec
from goagents.spec.models import resolve_model
from goagents.spec.tools import ToolSpec
from goagents.store.base import MAX_PAGE, Query

from .calling.surroundings import entry_of
from .loaded import Instances, LoadedCluster
from .names import AgentId
from .recovery.pointers import alive
from .services import Services

MAX_INSTANCES_READ = 4 * MAX_PAGE
MAX_SUMMARIES = 4000
LIST_AGE = 0.1  # seconds


async def view_cluster(services: Services, paths: Paths, cluster: LoadedCluster, *, full: bool = True) -> Cluster:
    """Return the cluster with its agents; `full` adds the manifest, the instances and the state of tools."""
    agents = await view_agents(services, paths, cluster, full=full)
    record = cluster.record
    return Cluster(
        name=record.name,
        namespace=record.namespace,
        uid=record.uid,
        generation=record.generation,
        created_at=record.created_at,
        updated_at=record.updated_at,
        max_concurrent_agents=cluster.manifest.spec.resource_policy.max_concurrent_agents,
        active_runs=sum(agent.active_instances for agent in agents),
        agents=agents,
        manifest=cluster.manifest.manifest() if full else None,
    )


async def view_agents(services: Services, paths: Paths, cluster: LoadedCluster, *, full: bool = True) -> list[Agent]:
    """Return all agents of a cluster, by one query of its instances (and one of its tools' states if `full`)."""
    if full:
        found, states = await asyncio.gather(_instances(services, paths, cluster), _toolsets(services, paths, cluster))
    else:
        found, states = await _recent_instances(services, paths, cluster), {}
    pointed = [run for records in found.by_agent.values() for record in records if (run := record.get("run"))]
    living = await alive(services, paths, pointed) if pointed else set()
    return [_view(services, cluster, agent, found, living, states, full=full) for agent in cluster.manifest.spec.agents]


async def _recent_instances(services: Services, paths: Paths, cluster: LoadedCluster) -> Instances:
    """What a list shows may be LIST_AGE old where other processes run the agents; a run of this one ends it at once."""
    now = services.clock.monotonic()
    known = cluster.instances
    if known is None or now - known[0] > LIST_AGE:
        known = cluster.instances = (now, await _instances(services, paths, cluster))
    return known[1]


async def _instances(services: Services, paths: Paths, cluster: LoadedCluster) -> Instances:
    collection = paths.instances(cluster.record.namespace, cluster.record.name)
    by_agent: dict[str, list[dict[str, Any]]] = defaultdict(list)
    page, count = await services.store.query(Query(collection, limit=MAX_PAGE)), 0
    found = Instances(by_agent, page.read_at)
    while True:
        for document in page.documents:
            by_agent[document.data["agent"]].append(document.data)
        count += len(page.documents)
        if page.next_cursor is None or count >= MAX_INSTANCES_READ:
            return found
        page = await services.store.query(Query(collection, limit=MAX_PAGE, after=page.next_cursor))


async def _toolsets(services: Services, paths: Paths, cluster: LoadedCluster) -> dict[tuple[str, str], ToolsetRecord]:
    collection = paths.toolsets(cluster.record.namespace, cluster.record.name)
    page = await services.store.query(Query(collection, limit=MAX_PAGE))
    records = (ToolsetRecord.of(document.data) for document in page.documents)
    return {(record.agent, record.tool): record for record in records}


def _view(
    services: Services,
    cluster: LoadedCluster,
    agent: AgentSpec,
    found: Instances,
    living: set[str],
    states: dict[tuple[str, str], ToolsetRecord],
    *,
    full: bool,
) -> Agent:
    scaling = cluster.record.scaling.get(agent.name)
    kept = scaling.kept if scaling else cluster.manifest.min_instances(agent)
    since = found.read_at - timedelta(seconds=cluster.manifest.spec.resource_policy.idle_timeout)
    if scaling:
        since = max(since, scaling.at)
    active, idle = split(found.by_agent.get(agent.name, []), living, since)
    counts = (kept, len(active), max(len(idle), kept - len(active)))
    view = _summary(services, cluster, agent, counts)
    if not full:
        return view
    instances, tools = instances_of(active, idle, kept), _tools(services, cluster, agent, states)
    return view.model_copy(update={"instances": instances, "tools": tools})


def _summary(services: Services, cluster: LoadedCluster, agent: AgentSpec, counts: tuple[int, int, int]) -> Agent:
    """Return what a list shows of an agent. Kept with the generation: most agents are as they were at the last look."""
    model = resolve_model(agent.model, services.config.models)
    key = (agent.name, model, *counts)
    view = cluster.summaries.get(key)
    if view is None:
        kept, active, idle = counts
        record = cluster.record
        if len(cluster.summaries) >= MAX_SUMMARIES:
            cluster.summaries.clear()
        view = cluster.summaries[key] = Agent(
            id=str(AgentId(record.namespace, record.name, agent.name)),
            name=agent.name,
            namespace=record.namespace,
            cluster=record.name,
            description=agent.description,
            provider=agent.provider,
            model=model,
            kept_instances=kept,
            max_instances=cluster.manifest.max_instances(agent),
            active_instances=active,
            idle_instances=idle,
        )
    return view


def split(
    records: list[dict[str, Any]], living: set[str], since: datetime
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the active instances, which a living run holds, and the idle ones, used after `since`."""
    active = [record for record in records if record.get("run") in living]
    idle = [
        record
        for record in records
        if record.get("run") not in living and (used := record.get("last_active_at")) is not None and used > since
    ]
    return active, idle


def instances_of(active: list[dict[str, Any]], idle: list[dict[str, Any]], kept: int) -> list[Instance]:
    """Return the instances there are, by number: active, idle, and unused ones enough to make `kept`."""
    present = {
        record["number"]: Instance(
            number=record["number"], status="active", run=record["run"], last_active_at=record.get("last_active_at")
        )
        for record in active
    }
    for record in idle:
        number = record["number"]
        present[number] = Instance(number=number, status="idle", last_active_at=record["last_active_at"])
    number = 0
    while len(present) < kept:
        if number not in present:
            present[number] = Instance(number=number, status="idle")
        number += 1
    return [present[number] for number in sorted(present)]


def _tools(
    services: Services, cluster: LoadedCluster, agent: AgentSpec, states: dict[tuple[str, str], ToolsetRecord]
) -> list[ToolStatus]:
    """Return each tool's state: what this process found, else what another one left in the store."""
    box = cluster.toolboxes.get(agent.name)
    tools = []
    state: Literal["available", "unavailable", "unknown"]
    detail: str | None
    for spec in agent.tools:
        stored = states.get((agent.name, spec.name))
        circuits = _circuits(services, cluster, agent, spec, stored)
        failure = box.failed.get(spec.name) if box else None
        failure = failure or _lacking(services, spec)
        if failure is not None:
            state, detail = "unavailable", failure
        elif box is not None and spec.name in box.toolsets:
            state, detail = "available", None
        elif stored is not None:
            state, detail = stored.status, stored.detail if stored.status == "unavailable" else None
        else:
            state, detail = "unknown", None
        tools.append(ToolStatus(name=spec.name, type=spec.type, status=state, detail=detail, circuits=circuits))
    return tools


def _circuits(
    services: Services, cluster: LoadedCluster, agent: AgentSpec, spec: ToolSpec, stored: ToolsetRecord | None
) -> list[CircuitStatus]:
    """Return the hosts of a tool that are not called, or tried again: as this process has it, else as one told."""
    own = list(services.calls.circuits(entry_of(cluster.record, agent.name, spec.name)))
    now = services.clock.now()
    if not own and stored is not None and stored.circuit_until_at is not None and stored.circuit_until_at > now:
        return [CircuitStatus(host=stored.circuit_host or "", state="open", until=stored.circuit_until_at)]
    return [
        CircuitStatus(
            host=place,
            state="half_open" if breaker.state == "half_open" else "open",
            failures=breaker.failures,
            until=now + timedelta(seconds=breaker.left),
        )
        for place, breaker in own
        if breaker.state != "closed"
    ]


def _lacking(services: Services, spec: ToolSpec) -> str | None:
    try:
        services.toolsets.check(spec)
    except ToolUnavailable as error:
        return str(error)
    return None
