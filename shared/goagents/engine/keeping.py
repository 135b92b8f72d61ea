"""How long a run's records are kept: for `runs.retention` after its end, whenever that comes.

The store deletes each record by its own `expire_at`, which is written before anybody knows when the run ends. So what
is written of a run expires `runs.retention` after the latest time that it may be executed, and wait for a person, until
(`expiry`). A run that takes longer has all of its records put off (`put_off`) by who takes it up, or by the sweeper,
once little of that is left (`is_short`). Only the end's commit knows better, and sets the run's own.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from goagents.records import TERMINAL, Paths, RunRecord
from goagents.spec.config import RunsConfig
from goagents.store.base import MAX_PAGE, AtVersion, Document, Merge, Query, Store

ROOM = timedelta(days=1)  # what is put off is put off by no less: it is seldom done


def alive_until(config: RunsConfig, now: datetime, timeout: float | None = None) -> datetime:
    """Return when a run that gets its turn now is over at the latest, or looked after again.

    `timeout` is its agent's, in seconds.
    """
    return now + timedelta(seconds=max(config.timeout, timeout or 0.0) + config.waiting_timeout) + ROOM


def expiry(config: RunsConfig, now: datetime, timeout: float | None = None) -> datetime:
    """Return the `expire_at` of what belongs to such a run."""
    return alive_until(config, now, timeout) + timedelta(seconds=config.retention)


def is_short(config: RunsConfig, run: RunRecord, now: datetime, timeout: float | None = None) -> bool:
    """Whether the records of `run`, which is not over, might expire before they should."""
    return run.expire_at is not None and run.expire_at < expiry(config, now, timeout) - ROOM


async def put_off(store: Store, paths: Paths, run: RunRecord, config: RunsConfig, now: datetime) -> None:
    """Have nothing of a run expire that is not over. Raises StoreConflict where it changes meanwhile, StoreError."""
    expire_at = expiry(config, now)
    await put_off_parts(store, paths, run, config, expire_at)
    keys = [paths.run(run.id), paths.lease(run.id)]
    snapshot = await store.get_many(keys)
    found = [document for key in keys if (document := snapshot.get(key)) is not None]
    if len(found) == len(keys) and found[0].data["status"] not in TERMINAL:
        await store.commit([_later(document, expire_at) for document in found])


async def put_off_parts(store: Store, paths: Paths, run: RunRecord, config: RunsConfig, expire_at: datetime) -> None:
    """Put off what belongs to a run, but for its own record and its lease: who writes those puts them off last.

    Raises StoreConflict where one of them changes meanwhile, StoreError.
    """
    async for documents in _parts(store, paths, run):
        sooner = [document for document in documents if _is_sooner(document, expire_at)]
        if sooner:
            await store.commit([_later(document, expire_at) for document in sooner])
    if run.key is None:
        return
    path = paths.idempotency(run.key)
    key = (await store.get_many([path])).get(path)
    until = expire_at - timedelta(seconds=config.retention)
    if key is not None and key.data["run"] == run.id and _is_sooner(key, until):
        await store.commit([_later(key, until)])


async def _parts(store: Store, paths: Paths, run: RunRecord) -> AsyncIterator[list[Document]]:
    """Yield what belongs to a run, in portions that one commit takes."""
    for collection in (paths.steps(run.id), paths.events(run.id)):
        cursor: str | None = None
        while True:
            page = await store.query(Query(collection, limit=MAX_PAGE, after=cursor))
            yield list(page.documents)
            cursor = page.next_cursor
            if cursor is None:
                break
    signal = paths.signal(run.id, "cancel")
    document = (await store.get_many([signal])).get(signal)
    yield [document] if document is not None else []


def _is_sooner(document: Document, expire_at: datetime) -> bool:
    before = document.data.get("expire_at")
    return before is not None and before < expire_at


def _later(document: Document, expire_at: datetime) -> Merge:
    return Merge(document.path, {"expire_at": expire_at}, AtVersion(document.version))
