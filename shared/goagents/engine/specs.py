"""Cluster definitions, read once per process and generation: a generation never changes."""

from goagents.errors import NotFound
from goagents.records import ClusterRecord, GenerationRecord, Paths, RunRecord
from goagents.spec.cluster import AgentCluster
from goagents.spec.plugins import STORED
from goagents.store.base import Document

from .loaded import LoadedCluster
from .names import AgentId
from .services import Services

MAX_CACHED = 512


def cluster_not_found(namespace: str, name: str) -> NotFound:
    return NotFound(f"There is no cluster {name!r} in the namespace {namespace!r}.")


def living(document: Document | None, namespace: str, name: str) -> ClusterRecord:
    """Read a cluster's record. Raises NotFound where it is absent or being deleted."""
    record = ClusterRecord.of(document.data) if document else None
    if record is None or record.status == "deleting":
        raise cluster_not_found(namespace, name)
    return record


def check_living(document: Document | None, run: RunRecord) -> None:
    """Raises NotFound where the cluster of `run` (its document, if there is one) was deleted: it is not executed."""
    if living(document, run.namespace, run.cluster).uid != run.cluster_uid:
        raise cluster_not_found(run.namespace, run.cluster)


def cached(services: Services, paths: Paths, namespace: str, name: str) -> LoadedCluster | None:
    return services.specs.get(paths.cluster(namespace, name))


async def load(services: Services, paths: Paths, namespace: str, name: str) -> LoadedCluster:
    """Return the cluster's current generation, reading the store for its number. Raises NotFound."""
    path = paths.cluster(namespace, name)
    snapshot = await services.store.get_many([path])
    return await load_generation(services, paths, living(snapshot.get(path), namespace, name))


async def load_with_agent(services: Services, paths: Paths, agent: AgentId) -> LoadedCluster:
    """Return the cluster, as this process knows it where that has the agent: a newer one may have it. Raises NotFound.

    What is known may be older than the store's; who uses it compares it with the record that is read later.
    """
    known = cached(services, paths, agent.namespace, agent.cluster)
    if known is not None and known.manifest.agent(agent.agent) is not None:
        return known
    cluster = await load(services, paths, agent.namespace, agent.cluster)
    cluster.agent(agent.agent)
    return cluster


async def load_generation(services: Services, paths: Paths, record: ClusterRecord) -> LoadedCluster:
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
    manifest = AgentCluster.model_validate(generation.manifest, context=STORED)
    return remember(services, paths, LoadedCluster(record, manifest, generation.trusted))


def remember(services: Services, paths: Paths, cluster: LoadedCluster) -> LoadedCluster:
    """Keep `cluster` as the current generation of its name; what it takes the place of is closed when unused."""
    _keep(services, paths.cluster(cluster.record.namespace, cluster.record.name), cluster)
    return cluster


def _keep(services: Services, key: str, cluster: LoadedCluster) -> None:
    forget(services, key)
    services.specs[key] = cluster
    while len(services.specs) > MAX_CACHED:
        forget(services, next(iter(services.specs)))


def forget(services: Services, key: str) -> None:
    """Drop a cluster from the cache; its tools are closed as soon as no run uses them."""
    cluster = services.specs.pop(key, None)
    if cluster is not None:
        cluster.retire(services.closing)


async def load_pinned(services: Services, paths: Paths, run: RunRecord) -> LoadedCluster:
    """Return the generation that `run` was admitted with, which may be an older one. Raises NotFound."""
    key = paths.cluster(run.namespace, run.cluster)
    known = services.specs.get(key)
    if known is not None and (known.record.uid, known.record.generation) == (run.cluster_uid, run.generation):
        return known
    keys = [key, paths.generation(run.namespace, run.cluster, run.cluster_uid, run.generation)]
    snapshot = await services.store.get_many(keys)
    record, document = living(snapshot.get(key), run.namespace, run.cluster), snapshot.get(keys[1])
    if document is None or record.uid != run.cluster_uid:
        raise cluster_not_found(run.namespace, run.cluster)
    if record.generation == run.generation:
        return await load_generation(services, paths, record)
    older = f"{key}@{run.cluster_uid}-{run.generation}"
    if older not in services.specs:
        generation = GenerationRecord.of(document.data)
        pinned = record.model_copy(update={"generation": run.generation})
        manifest = AgentCluster.model_validate(generation.manifest, context=STORED)
        _keep(services, older, LoadedCluster(pinned, manifest, generation.trusted))
    return services.specs[older]
