"""Cluster definitions, read once per process and generation: a generation never changes."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from goagents.errors import NotFound
from goagents.records import ClusterRecord, GenerationRecord, Paths
from goagents.resources import Agent
from goagents.spec.cluster import AgentCluster, AgentSpec
from goagents.store.base import Document

if TYPE_CHECKING:
    from .services import Services
    from .toolbox import Toolbox

MAX_CACHED = 512


@dataclass(frozen=True, slots=True)
class Instances:
    """The instances of a cluster as the store has them (`InstanceRecord` data), by agent.

    Plain data, because a list of clusters reads hundreds: as models they take half of the list's time.
    """

    by_agent: dict[str, list[dict[str, Any]]]
    read_at: datetime


@dataclass
class LoadedCluster:
    """A generation in use. `toolboxes` holds the opened tools of its agents, by agent name.

    `summaries` and `instances` (with the monotonic time they were read) save lists their work, see `status`.
    """

    record: ClusterRecord
    manifest: AgentCluster
    trusted: bool
    toolboxes: dict[str, "Toolbox"] = field(default_factory=dict)
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    summaries: dict[tuple[str | int, ...], Agent] = field(default_factory=dict)
    instances: tuple[float, Instances] | None = None

    def agent(self, name: str) -> AgentSpec:
        """Raises NotFound, with the names there are."""
        spec = self.manifest.agent(name)
        if spec is None:
            names = ", ".join(agent.name for agent in self.manifest.spec.agents)
            raise NotFound(f"The cluster {self.record.name!r} has no agent {name!r}; it has: {names}.")
        return spec


def cluster_not_found(namespace: str, name: str) -> NotFound:
    return NotFound(f"There is no cluster {name!r} in the namespace {namespace!r}.")


def living(document: Document | None, namespace: str, name: str) -> ClusterRecord:
    """Read a cluster's record. Raises NotFound where it is absent or being deleted."""
    record = ClusterRecord.of(document.data) if document else None
    if record is None or record.status == "deleting":
        raise cluster_not_found(namespace, name)
    return record


def cached(services: "Services", paths: Paths, namespace: str, name: str) -> LoadedCluster | None:
    return services.specs.get(paths.cluster(namespace, name))


async def load(services: "Services", paths: Paths, namespace: str, name: str) -> LoadedCluster:
    """Return the cluster's current generation, reading the store for its number. Raises NotFound."""
    path = paths.cluster(namespace, name)
    snapshot = await services.store.get_many([path])
    return await load_generation(services, paths, living(snapshot.get(path), namespace, name))


async def load_generation(services: "Services", paths: Paths, record: ClusterRecord) -> LoadedCluster:
    """Return the generation that `record` names, from the cache where it is the same one."""
    key = paths.cluster(record.namespace, record.name)
    known = services.specs.get(key)
    if known is not None and (known.record.uid, known.record.generation) == (record.uid, record.generation):
        known.record = record
        return known
    path = paths.generation(record.namespace, record.name, record.uid, record.generation)
    document = (await services.store.get_many([path])).get(path)
    if document is None:
        raise cluster_not_found(record.namespace, record.name)
    generation = GenerationRecord.of(document.data)
    manifest = AgentCluster.model_validate(generation.manifest)
    return remember(services, paths, LoadedCluster(record, manifest, generation.trusted))


def remember(services: "Services", paths: Paths, cluster: LoadedCluster) -> LoadedCluster:
    services.specs[paths.cluster(cluster.record.namespace, cluster.record.name)] = cluster
    services.specs.move_to_end(paths.cluster(cluster.record.namespace, cluster.record.name))
    while len(services.specs) > MAX_CACHED:
        services.specs.popitem(last=False)
    return cluster
