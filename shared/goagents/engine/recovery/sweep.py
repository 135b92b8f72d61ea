"""The sweeper: finds what was left behind, and has it gone on with. Idempotent: two at once do nothing twice.

What it finds is never more than hinted at elsewhere: a run whose lease is over, a queued run that nobody took up, a run
that waited too long for a person, a webhook whose next try is due. On SQLite it deletes what has expired.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

from goagents.dispatch.base import Task
from goagents.engine.execution.deliveries import task_of
from goagents.engine.execution.execute import end
from goagents.engine.failures import cancelled
from goagents.engine.services import Services
from goagents.errors import GoAgentsError, LeaseLost, NotFound, OutcomeUnknown, RunTimedOut, StoreConflict
from goagents.records import DeliveryRecord, Paths, RunRecord, SignalRecord
from goagents.resources import SweepReport
from goagents.spec.config import Config
from goagents.store.base import MAX_PAGE, MAX_WRITES, Document, Filter, Query

from .pointers import Pointer, enqueue, recover, redispatch
from .takeover import Found, Takeover, found_in
from .turns import advance

PAGE = 200
MAX_PAGES = 50  # of each kind and sweep
MAX_PURGES = 40  # of at most 500 documents
DELIVERY_GRACE = 60.0  # seconds a delivery may be overdue: its task is on its way


async def sweep(services: Services) -> SweepReport:
    """Look through every tenant's runs and deliveries once. Raises StoreError where the store is away."""
    found: Counter[str] = Counter()
    for tenant in tenants(services.config):
        await _sweep_tenant(services, Paths(tenant), found)
    found["purged"] = await _purge(services)
    return SweepReport(**found)


def tenants(config: Config) -> list[str]:
    """Return the tenants there can be records of."""
    keys = config.auth.api_keys if config.auth else ()
    return list(dict.fromkeys(["default", *(key.tenant for key in keys)]))


async def _sweep_tenant(services: Services, paths: Paths, found: Counter[str]) -> None:
    for status in ("running", "handed_off", "queued", "waiting"):
        async for runs in _pages(
            services, Query(paths.runs(), (Filter("status", "==", status),), "created_at", limit=PAGE)
        ):
            await _sweep_runs(services, paths, status, [RunRecord.of(document.data) for document in runs], found)
    due = services.clock.now() - timedelta(seconds=DELIVERY_GRACE)
    overdue = Query(
        paths.deliveries(), (Filter("state", "==", "pending"), Filter("next_at", "<=", due)), "next_at", limit=PAGE
    )
    async for deliveries in _pages(services, overdue):
        for document in deliveries:
            record = DeliveryRecord.of(document.data)
            # the minute makes the name new: the queue may have lost the task of this attempt
            task = task_of(paths, record)
            token = f"{task.token}.{int(services.clock.now().timestamp() // DELIVERY_GRACE)}"
            await enqueue(services, Task(task.kind, task.tenant, task.run, token, task.delivery))
            found["deliveries"] += 1


async def _pages(services: Services, query: Query) -> AsyncIterator[tuple[Document, ...]]:
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await services.store.query(
            Query(query.collection, query.where, query.order_by, limit=query.limit, after=cursor)
        )
        if page.documents:
            yield page.documents
        cursor = page.next_cursor
        if cursor is None:
            return


async def _sweep_runs(
    services: Services, paths: Paths, status: str, runs: list[RunRecord], found: Counter[str]
) -> None:
    found["checked"] += len(runs)
    if status == "waiting":
        await _sweep_waiting(services, paths, runs, found)
        return
    keys = [path for run in runs if run.id not in services.handles for path in (paths.run(run.id), paths.lease(run.id))]
    for start in range(0, len(keys), MAX_PAGE):
        snapshot = await services.store.get_many(keys[start : start + MAX_PAGE])
        stale = [one for run in runs if (one := found_in(snapshot, paths, run.id)) is not None and one.is_stale]
        for one in stale:
            if one.is_behind:
                found["redispatched"] += await _see_to_queued(services, paths, one)
            else:
                found["redispatched"] += await redispatch(services, paths, one.run, snapshot)


async def _see_to_queued(services: Services, paths: Paths, one: Found) -> bool:
    """A run waits behind another one. Where there is none any more, it is its turn."""
    path = paths.session(one.run.session)
    document = (await services.store.get_many([path])).get(path)
    active = document.data.get("active_run") if document else None
    if active is not None and await recover(services, paths, [Pointer(path, "active_run", active)]):
        document = (await services.store.get_many([path])).get(path)
    return document is not None and await advance(services, paths, document)


async def _sweep_waiting(services: Services, paths: Paths, runs: list[RunRecord], found: Counter[str]) -> None:
    """Nobody decided in time: the run fails. Or a newer message was to interrupt it, and its process died first."""
    now = services.clock.now()
    signals = await services.store.get_many([paths.signal(run.id, "cancel") for run in runs])
    for run in runs:
        document = signals.get(paths.signal(run.id, "cancel"))
        if document is not None:
            await _end(services, paths, run, cancelled(SignalRecord.of(document.data).reason))
        elif run.give_up_at is not None and run.give_up_at <= now:
            late = RunTimedOut("Nobody decided within `runs.waiting_timeout`.")
            found["expired"] += await _end(services, paths, run, late)


async def _end(services: Services, paths: Paths, run: RunRecord, error: GoAgentsError) -> bool:
    """End a run that waits. False: it waits no more."""
    try:
        claim = await Takeover(services, paths, run.id, to_end=True, waiting=True).claim()
        if claim is None:
            return False
        await end(services, paths, claim, error)
    except (LeaseLost, NotFound, StoreConflict, OutcomeUnknown):
        return False  # somebody decided this moment, or the next sweep sees to it
    return True


async def _purge(services: Services) -> int:
    purged = 0
    for _ in range(MAX_PURGES):
        count = await services.store.purge()
        purged += count
        if count < MAX_WRITES:
            break
        await asyncio.sleep(0)
    return purged
