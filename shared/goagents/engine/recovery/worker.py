"""What the worker does with a task: go on with a run until it ends, waits or is handed on; or deliver a webhook."""

import asyncio
from contextlib import suppress

from goagents.dispatch.base import Task
from goagents.engine.execution.claim import Claim
from goagents.engine.execution.deliveries import attempt
from goagents.engine.execution.execute import end, launch
from goagents.engine.execution.handle import RunHandle
from goagents.engine.failures import cancelled
from goagents.engine.services import Services
from goagents.errors import GoAgentsError, LeaseLost, NotFound, RunError
from goagents.records import Paths

from .takeover import Poisoned, Takeover


async def perform(services: Services, task: Task, *, detached: bool = False) -> None:
    """Do what there is to do, which may be nothing: the store decides, not the task.

    `detached`: no request is open for it. Raises LimitExceeded where no place is free (try again later), StoreError,
    DispatchFailed.
    """
    paths = Paths(task.tenant)
    if task.kind == "delivery":
        await attempt(services, paths, task.run, task.delivery or "")
        return
    handle = await take_up(services, paths, task.run, token=task.token, seconds=services.runs.worker_timeout, most=True)
    if handle is not None:
        handle.detached = detached
        await handle.finished()


async def take_up(
    services: Services, paths: Paths, run_id: str, *, seconds: float, token: str | None = None, most: bool = False
) -> RunHandle | None:
    """Go on with a run in this process; None where it is over, waits, or is another's.

    Whoever asks for it may go away: a run that is claimed is begun, or nobody could have it until its lease is over.
    One that ended its process too often at the same step fails, and one that was to be cancelled is ended. Raises
    LimitExceeded, StoreError.
    """
    beginning = asyncio.create_task(_begin(services, paths, run_id, seconds=seconds, token=token, most=most))
    services.beginning.add(beginning)
    beginning.add_done_callback(services.beginning.discard)
    return await asyncio.shield(beginning)


async def _begin(
    services: Services, paths: Paths, run_id: str, *, seconds: float, token: str | None, most: bool
) -> RunHandle | None:
    try:
        claim = await Takeover(services, paths, run_id, token).claim()
    except Poisoned as poisoned:
        times = poisoned.claim.run.crashes
        error = RunError(f"The run was given up: {times} times its process died at the same step (runs.max_attempts).")
        await _end(services, paths, poisoned.claim, error)
        return None
    except NotFound:
        return None  # its cluster was deleted, and so it is, too
    if claim is not None and claim.wish is not None:
        await _end(services, paths, claim, cancelled(claim.wish.reason))
        return None
    return None if claim is None else launch(services, paths, claim, seconds=seconds, most=most)


async def _end(services: Services, paths: Paths, claim: Claim, error: GoAgentsError) -> None:
    with suppress(LeaseLost):  # somebody had it before it was written down
        await end(services, paths, claim, error)
