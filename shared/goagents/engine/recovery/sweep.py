"""The sweeper: finds what was left behind, and has it gone on with. Idempotent: two at once do nothing twice.

What it finds is never more than hinted at elsewhere: a run whose lease is over, a queued run that nobody took up, a run
that waited too long for a person, a webhook whose next try is due, a deletion that was cut short. On SQLite it deletes
what has expired.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

from pydantic import ValidationError

from goagents.dispatch.base import Task
from goagents.engine.deletion import delete_late, delete_marked, delete_session_records
from goagents.engine.execution.deliveries import task_of
from goagents.engine.execution.execute import end
from goagents.engine.failures import cancelled
from goagents.engine.keeping import is_short, put_off
from goagents.engine.services import Services
from goagents.errors import (
    GoAgentsError,
    LeaseLost,
    NotFound,
    OutcomeUnknown,
    RunTimedOut,
    StoreConflict,
    StoreUnavailable,
)
from goagents.records import DeliveryRecord, Paths, RunRecord, SignalRecord
from goagents.resources import SweepReport
from goagents.store.base import ABSENT, MAX_PAGE, MAX_WRITES, Document, Filter, Put, Query

from .pointers import DELETING, Pointer, enqueue, recover, redispatch
from .takeover import Found, Takeover, found_in
from .turns import advance

PAGE = 200
MAX_PAGES = 50  # of each kind and sweep
MAX_PURGES = 40  # of at most 500 documents
TENANTS = "tenants"  # the collection of the documents at `Paths.root`
DELIVERY_GRACE = 60.0  # seconds a delivery may be overdue: its task is on its way
DELETING_TIME = 20.0  # seconds of each sweep, for each tenant
MAX_FAILURES = 3  # one after the other, of a store that is away

_log = logging.getLogger("goagents.engine")


async def sweep(services: Services) -> SweepReport:
    """Look through every tenant's runs and deliveries once, and end what deletions left behind.

    What cannot be seen to keeps nothing else from it: its error is raised at the end, the first one of several.
    """
    found: Counter[str] = Counter()
    tenants = [Paths(tenant) for tenant in await _tenants(services)]
    looks: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        *((f"the tenant {paths.tenant}", partial(_sweep_tenant, services, paths, found)) for paths in tenants),
        *((f"deletions of {paths.tenant}", partial(_end_deletions, services, paths)) for paths in tenants),
        ("what has expired", partial(_purge, services, found)),
    ]
    failures: list[Exception] = []
    in_a_row = 0
    for what, look in looks:
        try:
            await look()
        except Exception as error:  # noqa: BLE001 - raised below
            _log.error("The sweep of %s failed: %s", what, error, exc_info=not isinstance(error, GoAgentsError))
            failures.append(error)
            in_a_row += 1
            if in_a_row >= MAX_FAILURES and isinstance(error, StoreUnavailable):
                break  # the store is away, and each look would wait for it
        else:
            in_a_row = 0
    if failures:
        raise failures[0]
    return SweepReport(**found)


async def _tenants(services: Services) -> list[str]:
    """Return the tenants there can be records of: those whose keys are configured, or were at an earlier sweep."""
    keys = services.config.auth.api_keys if services.config.auth else ()
    configured = list(dict.fromkeys(["default", *(key.tenant for key in keys)]))
    noted = [document.id async for page in _pages(services, Query(TENANTS, limit=PAGE)) for document in page]
    unknown = [tenant for tenant in configured if tenant not in noted]
    for start in range(0, len(unknown), MAX_WRITES):
        writes = [Put(Paths(tenant).root, {}, ABSENT) for tenant in unknown[start : start + MAX_WRITES]]
        with suppress(StoreConflict, OutcomeUnknown):  # noted by another sweep, or by the next one
            await services.store.commit(writes)
    return [*configured, *(tenant for tenant in noted if tenant not in configured)]


async def _sweep_tenant(services: Services, paths: Paths, found: Counter[str]) -> None:
    for status in ("running", "handed_off", "queued", "waiting"):
        async for runs in _pages(
            services, Query(paths.runs(), (Filter("status", "==", status),), "created_at", limit=PAGE)
        ):
            await _sweep_runs(services, paths, status, _readable(runs), found)
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


def _readable(documents: tuple[Document, ...]) -> list[RunRecord]:
    """Return the runs that this version can read: one of a newer version waits for a process that can."""
    found: list[RunRecord] = []
    for document in documents:
        try:
            found.append(RunRecord.of(document.data))
        except ValidationError as error:
            _log.warning("The run %s is passed over, as this version cannot read it: %s", document.id, error)
    return found


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
            await _keep(services, paths, one.run)


async def _keep(services: Services, paths: Paths, run: RunRecord) -> None:
    """A run that nobody executes is kept all the same, until somebody does."""
    now = services.clock.now()
    if is_short(services.runs, run, now):
        with suppress(StoreConflict, OutcomeUnknown):  # it has been taken up; or the next sweep sees to it
            await put_off(services.store, paths, run, services.runs, now)


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


async def _end_deletions(services: Services, paths: Paths) -> None:
    """Go on with what a process that died was deleting, for a while: the next sweep goes on in turn."""
    store = services.store
    with suppress(TimeoutError):
        async with asyncio.timeout(DELETING_TIME):
            sessions = Query(paths.sessions(), (Filter("active_run", "==", DELETING),), limit=PAGE)
            for document in (await store.query(sessions)).documents:
                with suppress(StoreConflict):  # somebody else is at it
                    await delete_session_records(store, paths, document)
            clusters = Query(paths.clusters(), (Filter("status", "==", "deleting"),), limit=PAGE)
            for document in (await store.query(clusters)).documents:
                with suppress(StoreConflict):
                    await delete_marked(store, services.clock, paths, document)
            deletions = await store.query(Query(paths.deletions(), limit=PAGE))
            for document in deletions.documents:
                await delete_late(store, paths, document, deletions.read_at)


async def _purge(services: Services, found: Counter[str]) -> None:
    for _ in range(MAX_PURGES):
        count = await services.store.purge()
        found["purged"] += count
        if count < MAX_WRITES:
            break
        await asyncio.sleep(0)
