"""Deleting what belongs to a cluster or a session, in bounded commits; a parent goes after its children.

Several may be at it at once (a caller, another one, the sweeper). Each commit below a parent proves that the parent is
as it was left, so nobody deletes what belongs to one of the same name that was made meanwhile.

Admission reads a cluster's record and does not write it, or all runs of a cluster would meet at one document. A run may
therefore be admitted while its cluster is marked as deleting. It is found by a second look, later than an admission may
take without asking again whether its cluster is there (`SETTLING`). What is in the store even later, because its
process died before it asked, is nobody's to execute (`specs.check_living`), and a record of the deletion leads the
sweeper to it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta

from goagents.clock import Clock
from goagents.errors import StoreConflict
from goagents.records import ClusterRecord, DeletionRecord, Paths
from goagents.store.base import AtVersion, Data, Delete, Document, Filter, Merge, Put, Query, Store, Write

from .recovery.pointers import DELETING

BATCH = 400  # below the store's bound on writes in a commit
PARALLEL = 16
SETTLING = 1.0  # seconds from the mark to the second look
ADMITTING = 0.8  # seconds from an admission's reads to its commit, beyond which it asks again
LATEST = timedelta(minutes=2)  # after a deletion, beyond which no commit sent before it can take effect


async def delete_collection(store: Store, collection: str) -> None:
    """Delete every document of one collection."""
    while True:
        page = await store.query(Query(collection, limit=BATCH))
        if not page.documents:
            return
        await store.commit([Delete(document.path) for document in page.documents])


async def delete_below(
    store: Store, parent: Document, mark: Data, collections: Iterable[str], last: Sequence[Write] = ()
) -> None:
    """Delete what is in `collections`, then `parent`, whose end is committed together with `last`.

    Where one commit is not enough, each but the last one sets `mark` in the parent. Raises StoreConflict where somebody
    else has changed the parent meanwhile, or deletes it too.
    """
    version, pending = parent.version, list[Write]()
    for collection in collections:
        async for document in _documents(store, collection):
            if len(pending) == BATCH:
                done = await store.commit([Merge(parent.path, mark, AtVersion(version)), *pending])
                version, pending = done.versions[parent.path], []
            pending.append(Delete(document.path))
    await store.commit([*pending, *last, Delete(parent.path, AtVersion(version))])


async def delete_session_records(store: Store, paths: Paths, session: Document) -> None:
    """Raises StoreConflict where the session is not as it was read any more."""
    await delete_below(store, session, {"active_run": DELETING}, [paths.messages(session.id)])


async def delete_run_records(store: Store, paths: Paths, run: str) -> None:
    """The lease goes first: from then on the run's own process can write nothing more."""
    await store.commit([Delete(paths.lease(run)), Delete(paths.run(run)), Delete(paths.signal(run, "cancel"))])
    await delete_collection(store, paths.steps(run))
    await delete_collection(store, paths.events(run))


async def delete_marked(store: Store, clock: Clock, paths: Paths, cluster: Document) -> None:
    """Delete a cluster that is marked as deleting, with all that is its own. Raises StoreConflict as `delete_below`."""
    record, until = ClusterRecord.of(cluster.data), clock.monotonic() + SETTLING
    namespace, name = record.namespace, record.name
    await delete_runs_and_sessions(store, paths, record.uid)
    await clock.sleep(max(0.0, until - clock.monotonic()))
    await delete_runs_and_sessions(store, paths, record.uid)
    deletion = Put(paths.deletion(record.uid), {"namespace": namespace, "name": name}, server_time=("deleted_at",))
    collections = [*_places(paths, namespace, name), paths.generations(namespace, name)]
    await delete_below(store, cluster, {"status": "deleting"}, collections, [deletion])


async def delete_runs_and_sessions(store: Store, paths: Paths, cluster_uid: str) -> None:
    """Delete all runs and sessions there are of a cluster that takes no new ones."""

    async def session(document: Document) -> None:
        try:
            await delete_session_records(store, paths, document)
        except StoreConflict:
            return  # the next query finds it as it is, if it is still there

    async def run(document: Document) -> None:
        await delete_run_records(store, paths, document.id)

    where = (Filter("cluster_uid", "==", cluster_uid),)
    await _each(store, Query(paths.runs(), where, "created_at", limit=BATCH), run)
    await _each(store, Query(paths.sessions(), where, "created_at", limit=BATCH), session)


async def delete_late(store: Store, paths: Paths, deletion: Document, read_at: datetime) -> None:
    """Delete what came into a deleted cluster too late to be seen, and the record of its deletion once nothing can."""
    record = DeletionRecord.of(deletion.data)
    await delete_runs_and_sessions(store, paths, deletion.id)
    await _delete_places(store, paths, record.namespace, record.name)
    if read_at - record.deleted_at > LATEST:
        await store.commit([Delete(deletion.path)])


async def _delete_places(store: Store, paths: Paths, namespace: str, name: str) -> None:
    """Where a cluster of the name was made anew they are its own; pointers at runs that are gone hold nothing there."""
    left = [
        Delete(document.path, AtVersion(document.version))
        for collection in _places(paths, namespace, name)
        async for document in _documents(store, collection)
    ]
    path = paths.cluster(namespace, name)
    # asked after they were read, so they are not those of a cluster made between the two
    if not left or path in (await store.get_many([path])).documents:
        return
    try:
        for start in range(0, len(left), BATCH):
            await store.commit(left[start : start + BATCH])
    except StoreConflict:
        return  # made anew this moment, and they are in use


def _places(paths: Paths, namespace: str, name: str) -> list[str]:
    return [collection(namespace, name) for collection in (paths.slots, paths.instances, paths.toolsets)]


async def _documents(store: Store, collection: str) -> AsyncIterator[Document]:
    cursor: str | None = None
    while True:
        page = await store.query(Query(collection, limit=BATCH, after=cursor))
        for document in page.documents:
            yield document
        cursor = page.next_cursor
        if cursor is None:
            return


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
