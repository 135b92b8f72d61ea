"""Pointers (`session.active_run`, `slot.run`, `instance.run`) and the runs they name: who is alive, who left behind.

A pointer is taken back only by fencing its run in the same commit. Whoever meets a run whose process died sees to it
that the run is gone on with: it is dispatched again, under a new token, so that no queue refuses the task.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from goagents.dispatch.base import Task
from goagents.engine.services import Services
from goagents.errors import DispatchFailed, OutcomeUnknown, StoreConflict, StoreError
from goagents.ids import new_id
from goagents.records import TERMINAL, LeaseRecord, Paths, RunRecord
from goagents.store.base import MAX_PAGE, AtVersion, Document, Merge, Put, Snapshot, Write

MAX_CHECKED = 100
DELETING = "deleting"  # stands in `active_run` while a session is deleted: no run can be admitted

_log = logging.getLogger("goagents.engine")


@dataclass(frozen=True, slots=True)
class Pointer:
    """`field` of the document at `path` names `run`."""

    path: str
    field: str
    run: str


def lease_is_over(lease: LeaseRecord, read_at: datetime) -> bool:
    """Judge by the read's own server time."""
    return read_at > lease.renewed_at + timedelta(seconds=lease.ttl)


def is_alive(snapshot: Snapshot, paths: Paths, run: str) -> bool:
    """Whether a process executes the run, or a worker is expected. A run without a lease is not alive."""
    document = snapshot.get(paths.lease(run))
    return document is not None and not lease_is_over(LeaseRecord.of(document.data), snapshot.read_at)


async def alive(services: Services, paths: Paths, runs: Iterable[str]) -> set[str]:
    """Return those of `runs` that a living process executes; runs of this process need no read."""
    wanted = set(runs)
    here = {run for run in wanted if run in services.handles}
    elsewhere = sorted(wanted - here)
    for start in range(0, len(elsewhere), MAX_PAGE):
        part = elsewhere[start : start + MAX_PAGE]
        snapshot = await services.store.get_many([paths.lease(run) for run in part])
        here |= {run for run in part if is_alive(snapshot, paths, run)}
    return here


async def recover(services: Services, paths: Paths, pointers: Iterable[Pointer]) -> bool:
    """See to the runs pointed at whose process died: those that are not over go on, pointers at others are cleared.

    Return whether any pointer was cleared.
    """
    wanted = list({pointer.run: pointer for pointer in pointers}.values())[:MAX_CHECKED]
    living = await alive(services, paths, [pointer.run for pointer in wanted])
    cleared = False
    for pointer in wanted:
        if pointer.run not in living:
            cleared = await _see_to(services, paths, pointer) or cleared
    return cleared


async def _see_to(services: Services, paths: Paths, pointer: Pointer) -> bool:
    keys = [paths.run(pointer.run), paths.lease(pointer.run)]
    snapshot = await services.store.get_many(keys)
    document, lease = (snapshot.get(key) for key in keys)
    run = RunRecord.of(document.data) if document else None
    if run is None or run.status in TERMINAL or lease is None:
        return await _clear(services, pointer, lease)
    if run.status != "waiting":  # which holds its session alone, without a lease, until a person decides
        await redispatch(services, paths, run, snapshot)
    return False


async def redispatch(services: Services, paths: Paths, run: RunRecord, snapshot: Snapshot) -> bool:
    """Have a worker go on with a run whose lease is over in `snapshot`. Return whether one was asked for.

    The new token gives the task a name that no queue has seen, and fences the process that may still believe in the
    old one; the lease lasts until a worker may be expected.
    """
    document = snapshot.get(paths.lease(run.id))
    if document is None or not lease_is_over(LeaseRecord.of(document.data), snapshot.read_at):
        return False
    token = new_id("lease")
    try:
        await services.store.commit([unowned(document, token, services.runs.dispatch_grace)])
    except StoreConflict:
        return False  # somebody else was faster
    except OutcomeUnknown:
        pass  # if it was applied, the task has the right token; if not, it does nothing
    await enqueue(services, Task("run", paths.tenant, run.id, token))
    return True


async def enqueue(services: Services, task: Task) -> None:
    """Hand a task over; one that is not taken is found by the next sweep."""
    try:
        await services.dispatch.enqueue(task)
    except DispatchFailed as error:
        _log.warning("The run %s waits for the sweeper: %s", task.run, error)
    except Exception:  # noqa: BLE001 - a defect of the queue's adapter must not keep who waits for the run's end
        _log.exception("The run %s waits for the sweeper", task.run)
    else:
        return
    if task.kind == "run":
        await _expect_nobody(services, Paths(task.tenant), task)


async def _expect_nobody(services: Services, paths: Paths, task: Task) -> None:
    """No worker will come for the run: whoever looks next need not wait for one."""
    path = paths.lease(task.run)
    try:
        document = (await services.store.get_many([path])).get(path)
        if document is not None and document.data["token"] == task.token and not document.data["owner"]:
            await services.store.commit([unowned(document, task.token, 0.0)])
    except StoreError:
        return  # the lease is over by itself, a little later


def unowned(lease: Document, token: str, ttl: float) -> Put:
    """Return the write that takes a lease away from whoever has it, and gives it to nobody."""
    data = {**lease.data, "token": token, "owner": "", "ttl": ttl, "commit_id": new_id("commit")}
    data.pop("renewed_at", None)
    return Put(lease.path, data, AtVersion(lease.version), server_time=("renewed_at",))


async def _clear(services: Services, pointer: Pointer, lease: Document | None) -> bool:
    """Clear a pointer at a run that is over, or whose record is gone. False: someone else was faster."""
    standing = (await services.store.get_many([pointer.path])).get(pointer.path)
    if standing is None or standing.data.get(pointer.field) != pointer.run:
        return True
    writes: list[Write] = [Merge(pointer.path, {pointer.field: None}, AtVersion(standing.version))]
    if lease is not None:
        writes.append(unowned(lease, new_id("lease"), 0.0))
    try:
        await services.store.commit(writes)
    except (StoreConflict, OutcomeUnknown):
        return False
    return True
