"""What a cluster and its agents are doing, computed on read: no job has to sweep anything for it to be true."""

import asyncio
from collections import defaultdict
from datetime import datetime, timedelta

from goagents.errors import ToolUnavailable
from goagents.records import InstanceRecord, Paths, ToolsetRecord
from goagents.resources import Agent, Cluster, Instance, ToolStatus
from goagents.spec.cluster import AgentSpec
from goagents.spec.models import resolve_model
from goagents.spec.tools import ToolSpec
from goagents.store.base import MAX_PAGE, Query

from .names import AgentId
from .recovery import alive
from .services import Services
from .specs import LoadedCluster

MAX_INSTANCES_READ = 4 * MAX_PAGE


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
    if not full:
        records, read_at = await _instances(services, paths, cluster)
        states: dict[tuple[str, str], ToolsetRecord] = {}
    else:
        (records, read_at), states = await asyncio.gather(
            _instances(services, paths, cluster), _toolsets(services, paths, cluster)
        )
    pointed = [record.run for record in records if record.run]
    living = await alive(services, paths, pointed) if pointed else set()
    by_agent: dict[str, list[InstanceRecord]] = defaultdict(list)
    for record in records:
        by_agent[record.agent].append(record)
    return [
        _view(services, cluster, agent, by_agent[agent.name], living, read_at, states, full=full)
        for agent in cluster.manifest.spec.agents
    ]


async def _instances(services: Services, paths: Paths, cluster: LoadedCluster) -> tuple[list[InstanceRecord], datetime]:
    collection = paths.instances(cluster.record.namespace, cluster.record.name)
    page = await services.store.query(Query(collection, limit=MAX_PAGE))
    records, read_at = [InstanceRecord.of(document.data) for document in page.documents], page.read_at
    while page.next_cursor and len(records) < MAX_INSTANCES_READ:
        page = await services.store.query(Query(collection, limit=MAX_PAGE, after=page.next_cursor))
        records += [InstanceRecord.of(document.data) for document in page.documents]
    return records, read_at


async def _toolsets(services: Services, paths: Paths, cluster: LoadedCluster) -> dict[tuple[str, str], ToolsetRecord]:
    collection = paths.toolsets(cluster.record.namespace, cluster.record.name)
    page = await services.store.query(Query(collection, limit=MAX_PAGE))
    records = (ToolsetRecord.of(document.data) for document in page.documents)
    return {(record.agent, record.tool): record for record in records}


def _view(
    services: Services,
    cluster: LoadedCluster,
    agent: AgentSpec,
    records: list[InstanceRecord],
    living: set[str],
    read_at: datetime,
    states: dict[tuple[str, str], ToolsetRecord],
    *,
    full: bool,
) -> Agent:
    record = cluster.record
    scaling = record.scaling.get(agent.name)
    kept = scaling.kept if scaling else cluster.manifest.min_instances(agent)
    idle_timeout = cluster.manifest.spec.resource_policy.idle_timeout
    lapsed = read_at - timedelta(seconds=idle_timeout)
    since = max(lapsed, scaling.at) if scaling else lapsed
    instances = instances_of(records, living, since, kept)
    active = sum(instance.status == "active" for instance in instances)
    return Agent(
        id=str(AgentId(record.namespace, record.name, agent.name)),
        name=agent.name,
        namespace=record.namespace,
        cluster=record.name,
        description=agent.description,
        provider=agent.provider,
        model=resolve_model(agent.model, services.config.models),
        kept_instances=kept,
        max_instances=cluster.manifest.max_instances(agent),
        active_instances=active,
        idle_instances=len(instances) - active,
        instances=instances if full else [],
        tools=_tools(services, cluster, agent, states) if full else [],
    )


def instances_of(records: list[InstanceRecord], living: set[str], since: datetime, kept: int) -> list[Instance]:
    """Return the instances there are: those a living run holds, those used after `since`, and enough to make `kept`."""
    present: dict[int, Instance] = {}
    for record in records:
        if record.run in living:
            present[record.number] = Instance(
                number=record.number, status="active", run=record.run, last_active_at=record.last_active_at
            )
        elif record.last_active_at is not None and record.last_active_at > since:
            present[record.number] = Instance(number=record.number, status="idle", last_active_at=record.last_active_at)
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
    for spec in agent.tools:
        stored = states.get((agent.name, spec.name))
        failure = box.failed.get(spec.name) if box else None
        failure = failure or _lacking(services, spec)
        if failure is not None:
            tools.append(ToolStatus(name=spec.name, type=spec.type, status="unavailable", detail=failure))
        elif box is not None and spec.name in box.toolsets:
            tools.append(ToolStatus(name=spec.name, type=spec.type, status="available"))
        elif stored is not None:
            tools.append(ToolStatus(name=spec.name, type=spec.type, status=stored.status, detail=stored.detail))
        else:
            tools.append(ToolStatus(name=spec.name, type=spec.type, status="unknown"))
    return tools


def _lacking(services: Services, spec: ToolSpec) -> str | None:
    try:
        services.toolsets.check(spec)
    except ToolUnavailable as error:
        return str(error)
    return None
