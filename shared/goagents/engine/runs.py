"""Runs: started by a request, executed as a task of their own, settled whatever happens.

A request's end is not its run's: a caller that goes away leaves the run to finish.
"""

import asyncio
import binascii
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Literal

from pydantic_core import to_json

from goagents.access.principal import Principal
from goagents.codes import by_code
from goagents.errors import (
    Conflict,
    GoAgentsError,
    Invalid,
    LeaseLost,
    OutcomeUnknown,
    RunError,
    RunInterrupted,
    RunTimedOut,
    StoreConflict,
    StoreError,
    StoreUnavailable,
)
from goagents.ids import new_id
from goagents.messages import MESSAGE, Message, TextPart, Usage
from goagents.records import TERMINAL, Paths, RunRecord
from goagents.resources import ChatRequest, ChatResponse
from goagents.spec.cluster import AgentSpec, Fallback
from goagents.spec.models import resolve_model
from goagents.telemetry.base import RunFinished, RunStarted, Unexpected

from .admission.admit import Admission, Admitted, Replay, Ticket, free_places, key_hash
from .execution.handle import RunHandle
from .execution.loop import Candidate, Turn, run_turn
from .execution.settle import settle_writes
from .execution.steps import Steps
from .execution.toolbox import open_toolbox
from .execution.toolcalls import Caller
from .failures import as_run_error, traceback_of
from .names import AgentId
from .recovery.pointers import Pointer, release_dead
from .services import Services

__all__ = ["RunHandle", "start"]

_IMAGE = re.compile(r"image/[a-z0-9][a-z0-9.+-]{0,63}")


async def start(
    services: Services,
    principal: Principal,
    agent_id: str,
    request: ChatRequest,
    *,
    kind: Literal["chat", "stream"],
    idempotency_key: str | None = None,
) -> RunHandle:
    """Admit a run and set it going.

    Raises NotFound, Invalid, Conflict (also SessionBusy), LimitExceeded, StoreError. What goes wrong later is in the
    handle's result and in its last event.
    """
    agent = AgentId.parse(agent_id)
    ticket = Ticket(
        agent=agent,
        message=_user_message(request),
        session=request.session_id or new_id("session"),
        kind=kind,
        key=key_hash(principal, agent, idempotency_key) if idempotency_key else None,
        payload_hash=hashlib.sha256(to_json([agent_id, request.model_dump(mode="json")])).hexdigest(),
    )
    admitted = await Admission(services, principal, ticket).admit()
    if isinstance(admitted, Replay):
        return await _attach(services, principal, admitted.run_id)
    handle = RunHandle(admitted.run.id, admitted.run.session, str(agent))
    services.handles[handle.run_id] = handle
    admitted.cluster.instances = None
    task = asyncio.create_task(_execute(services, principal, admitted, handle), name=handle.run_id)
    services.tasks.add(task)
    task.add_done_callback(services.tasks.discard)
    return handle


def _user_message(request: ChatRequest) -> Message:
    if isinstance(request.message, str):
        return Message("user", (TextPart(request.message),))
    for i, part in enumerate(request.message):
        if part.type == "image" and (part.url is None) == (part.data is None):
            raise Invalid(f"message.{i}: an image takes either `data` with `media_type`, or `url`.")
        if part.type == "image" and part.data is not None and part.media_type is None:
            raise Invalid(f"message.{i}.media_type: say what the data is, for example image/png.")
        if part.type == "image" and part.data is not None:
            _check_image(f"message.{i}", part.media_type or "", part.data)
        if part.type == "image" and part.url is not None and not part.url.startswith(("https://", "http://")):
            raise Invalid(f"message.{i}.url: only http and https URLs are taken.")
    return Message("user", tuple(request.message))


def _check_image(place: str, media_type: str, data: str) -> None:
    """Refuse what every provider refuses: once in a session, it would fail each later turn too."""
    if not _IMAGE.fullmatch(media_type):
        raise Invalid(f"{place}.media_type: is no image's type, such as image/png or image/jpeg.")
    try:
        known = bool(binascii.a2b_base64(data, strict_mode=True))
    except ValueError:
        known = False
    if not known:
        raise Invalid(f"{place}.data: is not base64 of an image.")


async def _attach(services: Services, principal: Principal, run_id: str) -> RunHandle:
    """Return the handle of a run that an idempotency key names: live in this process, or from its record."""
    live = services.handles.get(run_id)
    if live is not None:
        return live
    paths = Paths(principal.tenant)
    run = await _recorded(services, paths, run_id)
    if run.status not in TERMINAL:
        await release_dead(services, paths, [Pointer(paths.session(run.session), "active_run", run.id)])
        run = await _recorded(services, paths, run_id)
    agent = str(AgentId(run.namespace, run.cluster, run.agent))
    handle = RunHandle(run.id, run.session, agent, run.attempt)
    if run.status == "succeeded" and run.output is not None:
        message = MESSAGE.validate_python(run.output)
        usage = Usage(**(run.usage or {}))
        handle.finish(_answer(run, agent, message, run.stop_reason or "end_turn", usage))
    elif run.status == "failed":
        problem = run.error or {}
        handle.finish(_recorded_error(problem))
    else:
        raise Conflict(f"The run {run.id} of this Idempotency-Key is still in progress.", retry_after=1)
    return handle


async def _recorded(services: Services, paths: Paths, run_id: str) -> RunRecord:
    path = paths.run(run_id)
    document = (await services.store.get_many([path])).get(path)
    if document is None:
        raise Conflict("The run of this Idempotency-Key is gone; use a fresh key.")
    return RunRecord.of(document.data)


def _recorded_error(problem: dict[str, object]) -> GoAgentsError:
    """Make the error that a run's record holds: its class by its code, its words as recorded."""
    return by_code(GoAgentsError).get(str(problem.get("code")), RunError)(str(problem.get("detail") or ""))


async def _execute(services: Services, principal: Principal, admitted: Admitted, handle: RunHandle) -> None:
    """Run to the end, settle, and let the handle's readers go. Never raises."""
    run, paths = admitted.run, Paths(principal.tenant)
    services.telemetry.emit(RunStarted(run.id, run.session, principal.tenant, run.cluster, run.agent))
    keep_alive = asyncio.create_task(admitted.journal.keep_alive())
    turn: Turn | None = None
    error: GoAgentsError | None = None
    try:
        handle.publish(
            "run.started", {"run_id": run.id, "session_id": run.session, "agent": handle.agent, "attempt": run.attempt}
        )
        async with _limit(seconds := _timeout(services, admitted)):
            with admitted.cluster.in_use():
                turn = await _prepare(services, paths, admitted, services.clock.monotonic() + seconds)
                await _forward(turn, handle)
    except (GoAgentsError, asyncio.CancelledError) as raised:
        error = as_run_error(raised)
    except Exception as raised:  # noqa: BLE001 - whatever a defect raises, slot and session are settled
        services.telemetry.emit(Unexpected(f"run {run.id}", repr(raised), traceback_of(raised)))
        error = as_run_error(raised)
    finally:
        keep_alive.cancel()
    error = await _finished(asyncio.create_task(_settle(services, paths, admitted, turn, error)))
    free_places(services, paths, run)
    admitted.cluster.instances = None
    _tell(services, principal, admitted, turn, error)
    services.handles.pop(run.id, None)
    if error is not None or turn is None or turn.final is None:
        handle.finish(error or RunError())
        return
    handle.finish(_answer(run, handle.agent, turn.final.message, turn.final.stop_reason, turn.usage))


def _timeout(services: Services, admitted: Admitted) -> float:
    server = services.config.server.timeout
    return min(server, admitted.agent.timeout) if admitted.agent.timeout else server


async def _prepare(services: Services, paths: Paths, admitted: Admitted, deadline: float) -> Turn:
    """Gather what the loop needs; `deadline` is on the monotonic clock.

    Raises Invalid for a provider or a variable that this server lacks.
    """
    agent, cluster, run = admitted.agent, admitted.cluster, admitted.run
    resolver = services.resolvers(trusted=cluster.trusted)
    choices: tuple[AgentSpec | Fallback, ...] = (agent, *agent.fallbacks)
    candidates = [
        Candidate(
            await services.providers.get(choice.provider),
            resolve_model(choice.model, services.config.models),
            resolver.resolve_all(choice.model_settings),
        )
        for choice in choices
    ]
    toolbox = await open_toolbox(services, paths, cluster, agent)
    return Turn(
        candidates=tuple(candidates),
        caller=Caller(
            toolbox, services.telemetry, services.clock, run.id, run.session, paths.tenant, run.cluster, run.agent
        ),
        steps=Steps(admitted.journal, paths, run, services.clock),
        telemetry=services.telemetry,
        clock=services.clock,
        messages=admitted.history,
        system=resolver.resolve(agent.system_prompt) if agent.system_prompt else None,
        output_schema=agent.output_schema,
        max_turns=agent.max_turns,
        deadline=deadline,
    )


@asynccontextmanager
async def _limit(seconds: float) -> AsyncIterator[None]:
    """Raise RunTimedOut where the body takes longer; a TimeoutError of its own goes on as it is."""
    timer = asyncio.timeout(seconds)
    try:
        async with timer:
            yield
    except TimeoutError as raised:
        if timer.expired():
            raise RunTimedOut(f"The run did not finish within its timeout of {seconds:g} s.") from raised
        raise


async def _forward(turn: Turn, handle: RunHandle) -> None:
    async with aclosing(run_turn(turn)) as happenings:
        async for kind, data in happenings:
            handle.publish(kind, data)


async def _settle(
    services: Services, paths: Paths, admitted: Admitted, turn: Turn | None, error: GoAgentsError | None
) -> GoAgentsError | None:
    """Commit the end. Return the error that callers see: the run's, or why its answer could not be kept."""
    try:
        await _commit_end(services, paths, admitted, turn, error)
    except (LeaseLost, StoreUnavailable, OutcomeUnknown, StoreConflict) as raised:
        return error or raised
    except Exception as raised:  # noqa: BLE001 - what no store takes must not leave slot and session held
        if not isinstance(raised, GoAgentsError):
            services.telemetry.emit(Unexpected(f"settling {admitted.run.id}", repr(raised), traceback_of(raised)))
        error = error or as_run_error(raised)
        with suppress(StoreError, RunError):  # the run's own error is told; its lease ends by itself
            await _commit_end(services, paths, admitted, None, error)
    return error


async def _commit_end(
    services: Services, paths: Paths, admitted: Admitted, turn: Turn | None, error: GoAgentsError | None
) -> None:
    await admitted.journal.commit(settle_writes(paths, admitted, turn, error, services.clock.now()))


async def _finished(task: "asyncio.Task[GoAgentsError | None]") -> GoAgentsError | None:
    """Wait for `task` to end, whatever cancels the waiting: a run is settled even while its process stops."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    return RunInterrupted() if task.cancelled() else task.result()


def _answer(run: RunRecord, agent: str, message: Message, stop_reason: str, usage: Usage) -> ChatResponse:
    return ChatResponse(
        run_id=run.id, session_id=run.session, agent=agent, message=message, stop_reason=stop_reason, usage=usage
    )


def _tell(
    services: Services, principal: Principal, admitted: Admitted, turn: Turn | None, error: GoAgentsError | None
) -> None:
    run = admitted.run
    services.telemetry.emit(
        RunFinished(
            run_id=run.id,
            session_id=run.session,
            tenant=principal.tenant,
            cluster=run.cluster,
            agent=run.agent,
            status="failed" if error else "succeeded",
            duration=(services.clock.now() - run.created_at).total_seconds(),
            usage=turn.usage if turn else Usage(),
            error_code=error.code if error else None,
            error=str(error) if error else None,
        )
    )
