"""What is left behind by a process that died: its runs' leases expire, and whoever meets such a run ends it.

Pointers (`session.active_run`, `slot.run`, `instance.run`) are taken back only by fencing their run in the same commit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from goagents.engine.services import Services
from goagents.errors import OutcomeUnknown, RunInterrupted, StoreConflict
from goagents.ids import new_id
from goagents.records import TERMINAL, LeaseRecord, Paths, RunRecord
from goagents.store.base import MAX_PAGE, AtVersion, Document, Merge, Put, Snapshot, Write

MAX_CHECKED = 100
DELETING = "deleting"  # stands in `active_run` while a session is deleted: no run can be admitted


@dataclass(frozen=True, slots=True)
class Pointer:
    """`field` of the document at `path` names `run`."""

    path: str
    field: str
    run: str


def is_alive(snapshot: Snapshot, paths: Paths, run: str) -> bool:
    """Judge a run's lease by the read's own server time. A run without a lease is not alive."""
    document = snapshot.get(paths.lease(run))
    if document is None:
        return False
    lease = LeaseRecord.of(document.data)
    return snapshot.read_at <= lease.renewed_at + timedelta(seconds=lease.ttl)


async def alive(services: Services, paths: Paths, runs: Iterable[str]) -> set[str]:
    """Return those of `runs` that a living process executes; runs of this process need no read."""
    wanted = set(runs)
    here = {run for run in wanted if run in services.handles}
    elsewhere = sorted(wanted - here)
    if not elsewhere:
        return here
    for start in range(0, len(elsewhere), MAX_PAGE):
        part = elsewhere[start : start + MAX_PAGE]
        snapshot = await services.store.get_many([paths.lease(run) for run in part])
        here |= {run for run in part if is_alive(snapshot, paths, run)}
    return here


async def release_dead(services: Services, paths: Paths, pointers: Iterable[Pointer]) -> bool:
    """End the runs pointed at whose process died, and free what they held. Return whether any was freed."""
    wanted = list({pointer.run: pointer for pointer in pointers}.values())[:MAX_CHECKED]
    living = await alive(services, paths, [pointer.run for pointer in wanted])
    freed = False
    for pointer in wanted:
        if pointer.run not in living:
            freed = await _abandon(services, paths, pointer) or freed
    return freed


async def _abandon(services: Services, paths: Paths, pointer: Pointer) -> bool:
    """Fail one dead run and clear the pointers at it, in one commit. False: someone else was faster.

    A pointer may outlive its run, whose record expires: nobody may have come by for longer than that.
    """
    keys = [paths.run(pointer.run), paths.lease(pointer.run)]
    snapshot = await services.store.get_many(keys)
    document, lease = (snapshot.get(key) for key in keys)
    if is_alive(snapshot, paths, pointer.run):
        return False
    run = RunRecord.of(document.data) if document else None
    writes = await _clear_pointers(services, [pointer, *(_pointers_at(paths, run) if run else ())])
    if document is not None and run is not None and run.status not in TERMINAL:
        error = RunInterrupted("The process running this died before the run finished.").problem()
        outcome = {"status": "failed", "error": error, "finished_at": snapshot.read_at}
        writes.append(Merge(document.path, outcome, AtVersion(document.version)))
    if lease is not None:
        writes.append(_fence(lease))
    if not writes:
        return False
    try:
        await services.store.commit(writes)
    except (StoreConflict, OutcomeUnknown):
        return False
    return True


def _fence(lease: Document) -> Put:
    data = {**lease.data, "token": new_id("lease"), "owner": "", "ttl": 0.0, "commit_id": new_id("commit")}
    data.pop("renewed_at", None)
    return Put(lease.path, data, AtVersion(lease.version), server_time=("renewed_at",))


def _pointers_at(paths: Paths, run: RunRecord) -> list[Pointer]:
    pointers = [Pointer(paths.session(run.session), "active_run", run.id)]
    if run.slot is not None:
        pointers.append(Pointer(paths.slot(run.namespace, run.cluster, run.slot), "run", run.id))
    if run.instance is not None:
        instance = paths.instance(run.namespace, run.cluster, run.agent, run.instance)
        pointers.append(Pointer(instance, "run", run.id))
    return pointers


async def _clear_pointers(services: Services, pointers: list[Pointer]) -> list[Write]:
    """Return the writes that clear those of `pointers` that still stand."""
    standing = {pointer.path: pointer for pointer in pointers}
    snapshot = await services.store.get_many(list(standing))
    writes: list[Write] = []
    for path, pointer in standing.items():
        document = snapshot.get(path)
        if document is not None and document.data.get(pointer.field) == pointer.run:
            writes.append(Merge(path, {pointer.field: None}, AtVersion(document.version)))
    return writes
