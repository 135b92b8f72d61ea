"""Agents, as the API shows them."""

import asyncio

from goagents.access.principal import Principal
from goagents.errors import NotFound
from goagents.records import ClusterRecord, Paths
from goagents.resources import Agent, ListOf
from goagents.store.base import Filter, Query

from .names import AgentId
from .services import Services
from .specs import load, load_generation
from .status import view_agents


async def list_agents(
    services: Services,
    principal: Principal,
    *,
    namespace: str,
    page_size: int,
    page_token: str | None,
    cluster: str | None = None,
) -> ListOf[Agent]:
    """Return the agents of a page of clusters (or of one): `page_size` counts clusters, whose agents stay together.

    Raises NotFound (an unknown `cluster`), Invalid (a page token that is none of ours).
    """
    paths = Paths(principal.tenant)
    if cluster is not None:
        loaded = await load(services, paths, namespace, cluster)
        return ListOf[Agent](items=await view_agents(services, paths, loaded, full=False))
    page = await services.store.query(
        Query(paths.clusters(), (Filter("namespace", "==", namespace),), limit=page_size, after=page_token)
    )

    async def view(record: ClusterRecord) -> list[Agent]:
        return await view_agents(services, paths, await load_generation(services, paths, record), full=False)

    records = [ClusterRecord.of(document.data) for document in page.documents]
    views = await asyncio.gather(*(view(record) for record in records if record.status == "active"))
    items = [agent for agents in views for agent in agents]
    return ListOf[Agent](items=items, next_page_token=page.next_cursor)


async def get_agent(services: Services, principal: Principal, agent_id: str) -> Agent:
    """Raises NotFound."""
    wanted = AgentId.parse(agent_id)
    paths = Paths(principal.tenant)
    cluster = await load(services, paths, wanted.namespace, wanted.cluster)
    cluster.agent(wanted.agent)
    for agent in await view_agents(services, paths, cluster):
        if agent.name == wanted.agent:
            return agent
    raise NotFound(f"There is no agent {agent_id!r}.")
