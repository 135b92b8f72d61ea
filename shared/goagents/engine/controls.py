"""What others may ask of a run: to be cancelled, and to go on with what a person decided."""

import random
from collections.abc import Sequence
from typing import Any

from goagents.access.principal import Principal
from goagents.dispatch.base import Task
from goagents.errors import (
    Conflict,
    FieldError,
    Invalid,
    LeaseLost,
    NotFound,
    OutcomeUnknown,
    StoreConflict,
)
from goagents.ids import new_id
from goagents.records import TERMINAL, Paths, RunRecord, SignalRecord
from goagents.resources import Decision, Run, Waiting
from goagents.store.base import AtVersion, Merge, Put

from .execution.execute import end
from .execution.toolbox import open_toolbox
from .failures import cancelled
from .optimistic import until_applied
from .recovery.pointers import enqueue, unowned
from .recovery.takeover import Found, Takeover, find_run
from .services import Services
from .specs import check_living, load_pinned
from .views import run_view

ATTEMPTS = 8
PATIENCE = 2.0  # seconds a cancellation waits for the run to be over


async def owned(services: Services, principal: Principal, run_id: str) -> Found:
    """Return a run of this principal. Raises NotFound, also for another one's."""
    found = await find_run(services, Paths(principal.tenant), run_id)
    if found is None or found.run.principal != principal.id:
        raise NotFound(f"There is no run {run_id!r}.")
    return found


async def cancel(services: Services, principal: Principal, run_id: str, reason: str | None = None) -> Run:
    """Cancel a run. One that a process executes is over once that process has noticed: at once, if it is this one.

    Raises NotFound, Conflict where it ended otherwise.
    """
    found = await stop(services, principal, run_id, reason)
    if found.run.status in TERMINAL and found.run.status != "cancelled":
        raise Conflict(f"The run {run_id} is over: it {found.run.status}.")
    return run_view(found.run)


async def stop(services: Services, principal: Principal, run_id: str, reason: str | None) -> Found:
    """Have a run cancelled, by its owner, or here where it has none; return it as it is then.

    Raises NotFound, StoreError.
    """
    for attempt in range(ATTEMPTS):
        found = await owned(services, principal, run_id)
        if found.run.status in TERMINAL:
            return found
        try:
            if await _stop(services, principal, found, reason):
                return await owned(services, principal, run_id)
        except (StoreConflict, OutcomeUnknown, LeaseLost):
            await services.clock.sleep(random.uniform(0, 0.02) * 2**attempt)  # noqa: S311 - jitter
    raise StoreConflict(f"The run {run_id} changes all the time; try again.")


async def _stop(services: Services, principal: Principal, found: Found, reason: str | None) -> bool:
    """Return whether that was all there is to do: the run is ended, or its owner knows and has it as before.

    Raises StoreConflict where the run is not as it was found any more, LeaseLost, StoreError.
    """
    paths = Paths(principal.tenant)
    handle = services.handles.get(found.run.id)
    if handle is not None:
        handle.stop("cancel", reason)
        await handle.finished()
        return handle.over  # else it was just handed on, or began to wait
    if found.is_held:
        signal = SignalRecord(
            kind="cancel",
            principal=principal.id,
            reason=reason,
            created_at=services.clock.now(),
            expire_at=found.run.expire_at,
        )
        await services.store.commit([Put(paths.signal(found.run.id, "cancel"), signal.data())])
        return await _noticed(services, paths, found.run)
    claim = await Takeover(services, paths, found.run.id, to_end=True).claim()
    if claim is None:
        raise StoreConflict("Somebody has taken the run up, or ended it, since it was read.")
    await end(services, paths, claim, cancelled(reason))
    return True


async def _noticed(services: Services, paths: Paths, run: RunRecord) -> bool:
    """Give the owner a moment to notice, so that most callers hear of the end at once.

    False: the run was handed on meanwhile, or began to wait, and its owner may not have seen the wish.
    """
    until = services.clock.monotonic() + min(PATIENCE, 2 * services.runs.poll_interval)
    while services.clock.monotonic() < until:
        await services.clock.sleep(0.1)
        found = await find_run(services, paths, run.id)
        if found is None or found.run.status in TERMINAL:
            return True
        if found.run.status != run.status:
            return False
    return True


async def approve(services: Services, principal: Principal, run_id: str, decisions: Sequence[Decision]) -> Run:
    """Go on with a run that waits, as a person decided. Every call that waits needs a decision.

    Raises NotFound, Conflict where the run does not wait, Invalid for decisions that do not fit.
    """
    paths, token = Paths(principal.tenant), new_id("lease")

    async def attempt() -> RunRecord:
        found = await owned(services, principal, run_id)
        if found.lease.token == token:
            return found.run  # the answer was lost
        if found.run.status != "waiting" or found.run.waiting is None:
            raise Conflict(f"The run {run_id} waits for nobody: it is {found.run.status}.")
        waiting = Waiting.model_validate(found.run.waiting)
        decided = _decided(waiting, decisions, principal)
        path = paths.cluster(found.run.namespace, found.run.cluster)
        check_living((await services.store.get_many([path])).get(path), found.run)
        await _check_arguments(services, paths, found.run, waiting, decisions)
        return await _resume(services, found, decided, token)

    run = await until_applied(services.clock, attempt)
    await enqueue(services, Task("run", paths.tenant, run.id, token))
    return run_view(run)


async def _resume(services: Services, found: Found, decided: dict[str, dict[str, Any]], token: str) -> RunRecord:
    """Commit the decisions, and that a worker is to go on."""
    run = found.run
    # by the store's clock, and it wrote the lease last as the run began to wait
    waited = run.waited + max(0.0, (found.read_at - found.lease.renewed_at).total_seconds())
    changed: dict[str, Any] = {
        "status": "handed_off",
        "decisions": {**(run.decisions or {}), **decided},
        "waiting": None,
        "give_up_at": None,
        "waited": waited,
    }
    await services.store.commit(
        [
            Merge(found.document.path, changed, AtVersion(found.document.version)),
            unowned(found.lease_document, token, services.runs.dispatch_grace),
        ]
    )
    return run.model_copy(update=changed)


def _decided(waiting: Waiting, decisions: Sequence[Decision], principal: Principal) -> dict[str, dict[str, Any]]:
    """Return the decision on each call that waits, by the call's id."""
    shown = {call.call_id: call.arguments for call in waiting.calls}
    known = set(shown)
    found: dict[str, dict[str, Any]] = {}
    errors: list[FieldError] = []
    for i, decision in enumerate(decisions):
        place = f"decisions.{i}"
        if decision.call_id is not None and decision.call_id not in known:
            errors.append(FieldError(f"{place}.call_id", f"no call {decision.call_id[:64]!r} waits"))
        if decision.arguments is not None and decision.decision == "deny":
            errors.append(FieldError(f"{place}.arguments", "are of no use where the call is denied"))
        if decision.arguments is not None and decision.call_id is None and len(known) > 1:
            errors.append(FieldError(f"{place}.arguments", "need the `call_id` they are for: several calls wait"))
        for call in known if decision.call_id is None else [decision.call_id]:
            if call in found:
                errors.append(FieldError(f"{place}.call_id", f"the call {call[:64]!r} is decided twice"))
            found[call] = {**decision.model_dump(exclude_none=True, exclude={"call_id"}), "by": principal.id}
            if decision.decision == "allow" and call in shown:  # what is allowed is what was shown
                found[call].setdefault("arguments", shown[call])
    errors += [FieldError("decisions", f"the call {call!r} has no decision") for call in sorted(known - found.keys())]
    if errors:
        raise Invalid("The decisions do not fit what waits.", errors=errors)
    return found


async def _check_arguments(
    services: Services, paths: Paths, run: RunRecord, waiting: Waiting, decisions: Sequence[Decision]
) -> None:
    """Raise Invalid where arguments that a person changed do not fit their tool.

    A tool that this process cannot open is not asked: the call itself finds out then, and tells the model.
    """
    if all(decision.arguments is None for decision in decisions):
        return
    names = {call.call_id: call.name for call in waiting.calls}
    cluster = await load_pinned(services, paths, run)
    errors: list[FieldError] = []
    with cluster.in_use():
        toolbox = await open_toolbox(services, paths, cluster, cluster.agent(run.agent))
        for i, decision in enumerate(decisions):
            name = names[decision.call_id or next(iter(names))]
            tool = toolbox.tools.get(name)
            problem = tool.problem(decision.arguments) if tool and decision.arguments is not None else None
            if problem is not None:
                errors.append(FieldError(f"decisions.{i}.arguments", f"do not fit the tool {name!r}: {problem}"))
    if errors:
        raise Invalid("The arguments do not fit.", errors=errors)
