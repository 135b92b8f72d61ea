"""Whose turn it is in a session: as a rule the run that ends says so; this is for sessions where none could."""

from goagents.dispatch.base import Task
from goagents.engine.execution.settle import promote
from goagents.engine.services import Services
from goagents.errors import OutcomeUnknown, StoreConflict
from goagents.ids import new_id
from goagents.records import Paths, SessionRecord
from goagents.store.base import AtVersion, Document, Merge

from .pointers import enqueue


async def advance(services: Services, paths: Paths, document: Document) -> bool:
    """Give the next run that waits in a session its turn, where no other one has it. Return whether it got it.

    What waits in vain, because it is over or its records are gone, leaves the queue.
    """
    session = SessionRecord.of(document.data)
    if session.active_run is not None or not session.queue:
        return False
    now, token = services.clock.now(), new_id("lease")
    promoted = await promote(services, paths, session.queue, session.head + 1, now, token)
    changed = {"queue": promoted.queue, "updated_at": now}
    if promoted.run is not None:
        changed |= {"active_run": promoted.run, "head": session.head + 1}
    try:
        await services.store.commit([Merge(document.path, changed, AtVersion(document.version)), *promoted.writes])
    except StoreConflict:
        return False
    except OutcomeUnknown:
        pass  # if it was applied, the task has the right token; if not, it does nothing
    if promoted.run is None:
        return False
    await enqueue(services, Task("run", paths.tenant, promoted.run, token))
    return True
