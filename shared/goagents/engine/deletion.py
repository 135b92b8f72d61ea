"""Deleting what belongs to a cluster or a session, in bounded commits; a parent goes after its children."""

import asyncio
from collections.abc import Awaitable, Callable

from goagents.records import ClusterRecord, Paths
from goagents.store.base import Delete, Document, Filter, Query, Store

BATCH = 400  # below the store's bound on writes in a commit
PARALLEL = 16


async def delete_collection(store: Store, collection: str) -> None:
    """Delete every document of one collection."""
    while True:
        page = await store.query(Query(collection, limit=BATCH))
        if not page.documents:
            return
        await store.commit([Delete(document.path) for document in page.documents])


async def delete_session_records(store: Store, paths: Paths, session: str) -> None:
    await delete_collection(store, paths.messages(session))
    await store.commit([Delete(paths.session(session))])


async def delete_run_records(store: Store, paths: Paths, run: str) -> None:
    """The lease goes first: from then on the run's own process can write nothing more."""
    await store.commit([Delete(paths.lease(run)), Delete(paths.run(run)), Delete(paths.signal(run, "cancel"))])
    await delete_collection(store, paths.steps(run))
    await delete_collection(store, paths.events(run))


async def delete_all(store: Store, paths: Paths, cluster: ClusterRecord) -> None:
    """Delete a cluster that is marked as deleting, with all that is its own."""

    async def session(document: Document) -> None:
        await delete_session_records(store, paths, document.id)

    async def run(document: Document) -> None:
        await delete_run_records(store, paths, document.id)

    await _each(store, Query(paths.runs(), _of(cluster), "created_at", limit=BATCH), run)
    await _each(store, Query(paths.sessions(), _of(cluster), "created_at", limit=BATCH), session)
    for collection in (paths.slots, paths.instances, paths.toolsets, paths.generations):
        await delete_collection(store, collection(cluster.namespace, cluster.name))
    await store.commit([Delete(paths.cluster(cluster.namespace, cluster.name))])


def _of(cluster: ClusterRecord) -> tuple[Filter, ...]:
    return (Filter("cluster_uid", "==", cluster.uid),)


async def _each(store: Store, query: Query, delete: Callable[[Document], Awaitable[None]]) -> None:
    gate = asyncio.Semaphore(PARALLEL)

    async def gated(document: Document) -> None:
        async with gate:
            await delete(document)

    while True:
        page = await store.query(query)
        if not page.documents:
            return
        await asyncio.gather(*(gated(document) for document in page.documents))
