"""The tools of one agent, as a run gets them: each failure costs its own tools only, and nobody waits for it twice."""

import asyncio

from goagents.engine.loaded import LoadedCluster, Toolbox
from goagents.engine.services import Services
from goagents.records import Paths
from goagents.spec.cluster import AgentSpec

from .opening import done_within, opener

PATIENCE = 1.0  # seconds that the run which has a failed toolset tried again waits for it


async def open_toolbox(services: Services, paths: Paths, cluster: LoadedCluster, agent: AgentSpec) -> Toolbox:
    """Return the agent's tools, opened once per process and generation.

    Waits for those that were never tried, and for those that have changed and are listed anew. What failed is tried
    again after a while, in the background: a server that is back at once serves this run, any other one the next.
    Runs in progress keep what they have.
    """
    tools = opener(services, paths, cluster, agent)
    needed, again = tools.begin()
    if needed:
        await asyncio.wait(needed)
    if again:
        await done_within(services.clock, again, PATIENCE)
    return tools.box
