"""Clusters: applied as immutable generations, listed, scaled, deleted with all that is theirs."""

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

from goagents.access.principal import Principal
from goagents.errors import Conflict, FieldError, Invalid
from goagents.ids import new_id
from goagents.records import ClusterRecord, GenerationRecord, Paths, Scaling
from goagents.resources import Agent, Cluster, ClusterApplied, ListOf
from goagents.spec.cluster import AgentCluster
from goagents.store.base import ABSENT, AtVersion, Document, Filter, Merge, Put, Query

from .deletion import delete_marked
from .loaded import LoadedCluster
from .optimistic import until_applied
from .services import Services
from .specs import cluster_not_found, forget, living, load, load_generation, remember
from .status import view_agents, view_cluster

Mode = Literal["create", "replace", "apply"]


async def apply(
    services: Services,
    principal: Principal,
    manifest: AgentCluster,
    *,
    trusted: bool = False,
    mode: Mode = "apply",
    dry_run: bool = False,
) -> ClusterApplied:
    """Make `manifest` the cluster's current generation; the same content changes nothing.

    Raises Conflict (`create` of an existing one, or it is being deleted), Invalid (a provider this server lacks).
    """
    check_providers(services, manifest)
    paths, uid = Paths(principal.tenant), new_id("cluster")

    async def attempt() -> ClusterApplied:
        return await _apply_once(services, paths, manifest, uid, trusted=trusted, mode=mode, dry_run=dry_run)

    return await until_applied(services.clock, attempt)


async def _apply_once(
    services: Services, paths: Paths, manifest: AgentCluster, uid: str, *, trusted: bool, mode: Mode, dry_run: bool
) -> ClusterApplied:
    """`uid` is that of the cluster if this call makes it: a record with it is ours, whose answer was lost."""
    name, namespace = manifest.metadata.name, manifest.metadata.namespace
    path = paths.cluster(namespace, name)
    document = (await services.store.get_many([path])).get(path)
    record = ClusterRecord.of(document.data) if document else None
    if record is not None and record.status == "deleting":
        raise Conflict(f"The cluster {name!r} is being deleted; try again in a moment.", retry_after=1)
    if record is not None and mode == "create" and record.uid != uid:
        raise Conflict(f"The cluster {name!r} exists in the namespace {namespace!r}; PUT replaces it.")
    planned = _next(services, record, manifest, uid, trusted=trusted)
    if record is not None and planned is record:
        loaded = await load_generation(services, paths, record)
        outcome: Literal["created", "unchanged"] = "created" if record.uid == uid else "unchanged"
        return ClusterApplied(outcome=outcome, cluster=await view_cluster(services, paths, loaded))
    changes = await _changes(services, paths, record, manifest)
    loaded = LoadedCluster(planned, manifest, trusted)
    if not dry_run:
        await _write(services, paths, loaded, document)
        loaded = remember(services, paths, loaded)
    view = await view_cluster(services, paths, loaded)
    return ClusterApplied(outcome="updated" if record else "created", changes=changes, cluster=view)


def check_providers(services: Services, manifest: AgentCluster) -> None:
    """Raise Invalid, naming every place, if an agent uses a provider that this server cannot call."""
    errors: list[FieldError] = []
    for i, agent in enumerate(manifest.spec.agents):
        places = {f"spec.agents.{i}.provider": agent.provider}
        places |= {f"spec.agents.{i}.fallbacks.{j}.provider": f.provider for j, f in enumerate(agent.fallbacks)}
        for place, provider in places.items():
            try:
                services.providers.check(provider)
            except Invalid as error:
                errors.append(FieldError(place, error.detail))
    if errors:
        raise Invalid("The cluster uses providers that this server cannot call.", errors=errors)


def _next(
    services: Services, record: ClusterRecord | None, manifest: AgentCluster, uid: str, *, trusted: bool
) -> ClusterRecord:
    """Return the record to write, or `record` itself where nothing changes."""
    digest = f"{manifest.digest()}-{'trusted' if trusted else 'posted'}"
    now = services.clock.now()
    if record is None:
        return ClusterRecord(
            uid=uid,
            name=manifest.metadata.name,
            namespace=manifest.metadata.namespace,
            generation=1,
            digest=digest,
            created_at=now,
            updated_at=now,
        )
    if record.digest == digest:
        return record
    return record.model_copy(update={"generation": record.generation + 1, "digest": digest, "updated_at": now})


async def _write(services: Services, paths: Paths, cluster: LoadedCluster, document: Document | None) -> None:
    record = cluster.record
    generation = GenerationRecord(
        manifest=cluster.manifest.manifest(), trusted=cluster.trusted, created_at=record.updated_at
    )
    await services.store.commit(
        [
            Put(
                paths.cluster(record.namespace, record.name),
                {**(document.data if document else {}), **record.data()},  # a newer version's fields stay
                AtVersion(document.version) if document else ABSENT,
            ),
            Put(paths.generation(record.namespace, record.name, record.uid, record.generation), generation.data()),
        ]
    )


async def _changes(services: Services, paths: Paths, record: ClusterRecord | None, manifest: AgentCluster) -> list[str]:
    if record is None:
        return []
    before = await load_generation(services, paths, record)
    return sorted(differences("", before.manifest.manifest(), manifest.manifest()))[:200]


def differences(path: str, before: Any, after: Any) -> Iterator[str]:
    """Yield the dotted paths at which two JSON values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            yield from differences(f"{path}.{key}" if path else str(key), before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(f"{path}.{i}", one, other)
    elif before != after:
        yield path


async def list_clusters(
    services: Services, principal: Principal, namespace: str, page_size: int, page_token: str | None
) -> ListOf[Cluster]:
    """Return a page of a namespace's clusters, by name. Raises Invalid for a page token that is none of ours."""
    paths = Paths(principal.tenant)
    page = await services.store.query(
        Query(
            paths.clusters(),
            where=(Filter("namespace", "==", namespace),),
            limit=page_size,
            after=page_token,
        )
    )
    records = [ClusterRecord.of(document.data) for document in page.documents]

    async def view(record: ClusterRecord) -> Cluster:
        return await view_cluster(services, paths, await load_generation(services, paths, record), full=False)

    items = await asyncio.gather(*(view(record) for record in records if record.status == "active"))
    return ListOf[Cluster](items=list(items), next_page_token=page.next_cursor)


async def get_cluster(services: Services, principal: Principal, namespace: str, name: str) -> Cluster:
    """Raises NotFound."""
    paths = Paths(principal.tenant)
    return await view_cluster(services, paths, await load(services, paths, namespace, name))


async def scale(
    services: Services, principal: Principal, namespace: str, name: str, agent: str, instances: int
) -> Agent:
    """Set how many instances of an agent are kept when idle; 0 lets all go. Raises NotFound, Invalid."""
    paths = Paths(principal.tenant)

    async def attempt() -> LoadedCluster:
        return await _scale_once(services, paths, namespace, name, agent, instances)

    # One at a time in this process: only other processes are left to collide with.
    async with (await load(services, paths, namespace, name)).scaling:
        cluster = await until_applied(services.clock, attempt)
    return next(view for view in await view_agents(services, paths, cluster) if view.name == agent)


async def _scale_once(
    services: Services, paths: Paths, namespace: str, name: str, agent: str, instances: int
) -> LoadedCluster:
    path = paths.cluster(namespace, name)
    document = (await services.store.get_many([path])).get(path)
    if document is None:
        raise cluster_not_found(namespace, name)
    cluster = await load_generation(services, paths, living(document, namespace, name))
    maximum = cluster.manifest.max_instances(cluster.agent(agent))
    if instances > maximum:
        raise Invalid(
            "More instances than the agent may have.",
            errors=[FieldError("instances", f"{instances} is more than max_instances, which is {maximum}")],
        )
    scaling = {**cluster.record.scaling, agent: Scaling(kept=instances, at=services.clock.now())}
    payload = {key: value.data() for key, value in scaling.items()}
    await services.store.commit([Merge(path, {"scaling": payload}, AtVersion(document.version))])
    cluster.record = cluster.record.model_copy(update={"scaling": scaling})
    return cluster


async def delete_cluster(services: Services, principal: Principal, namespace: str, name: str) -> None:
    """Delete a cluster with its generations, sessions and runs; runs in progress lose their lease and end.

    Once this returns nothing of it is executed. Raises NotFound. Interrupted half-way, it goes on where it was when
    called again, and by the sweeper.
    """
    paths = Paths(principal.tenant)
    path = paths.cluster(namespace, name)
    uid: str | None = None

    async def attempt() -> None:
        nonlocal uid
        document = (await services.store.get_many([path])).get(path)
        if uid is not None and (document is None or document.data["uid"] != uid):
            return  # it was us, and the answer was lost; or the sweeper was faster
        if document is None:
            raise cluster_not_found(namespace, name)
        uid = document.data["uid"]
        if document.data.get("status") != "deleting":  # else somebody is at it, and who ends it first has ended it
            mark = {"status": "deleting"}
            done = await services.store.commit([Merge(path, mark, AtVersion(document.version))])
            document = Document(path, {**document.data, **mark}, done.versions[path])
        forget(services, path)
        await delete_marked(services.store, services.clock, paths, document)

    await until_applied(services.clock, attempt)
