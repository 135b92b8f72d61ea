"""Executing a run: as a task of its own, ended in one of the ways of `settle`, whatever happens.

A request's end is not its run's: a caller that goes away leaves the run to finish, or to be handed on.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Literal

from goagents.dispatch.base import Task
from goagents.engine.admission.places import free_places
from goagents.engine.failures import as_run_error, cancelled, traceback_of
from goagents.engine.names import AgentId
from goagents.engine.recovery.pointers import enqueue
from goagents.engine.services import Services
from goagents.errors import (
    GoAgentsError,
    LeaseLost,
    OutcomeUnknown,
    RunCancelled,
    RunError,
    RunTimedOut,
    StoreConflict,
    StoreError,
    StoreUnavailable,
)
from goagents.events import EventType
from goagents.messages import read_message
from goagents.records import Paths
from goagents.resources import ChatResponse, Waiting
from goagents.spec.cluster import AgentSpec, Fallback
from goagents.spec.models import resolve_model
from goagents.telemetry.base import RunFinished, RunLeft, RunStarted, Unexpected

from .candidate import Candidate
from .claim import Claim
from .handle import RunHandle
from .loop import HandOffDue, Parked, Turn, run_turn
from .pace import Pace
from .pulse import pulse
from .settle import Settlement, hand_off, park, status_of
from .steps import Steps, recorded
from .toolbox import open_toolbox
from .toolcalls import Caller


def launch(services: Services, paths: Paths, claim: Claim, *, seconds: float, most: bool = False) -> RunHandle:
    """Execute a claimed run as a task, for at most `seconds`. `most`: no other process would have more."""
    handle, run = _handle(paths, claim), claim.run
    services.handles[run.id] = handle
    claim.cluster.instances = None
    Execution(services, paths, claim, handle, seconds, most).begin()
    return handle


async def end(services: Services, paths: Paths, claim: Claim, error: GoAgentsError) -> None:
    """Settle a claimed run without going on with it. Raises LeaseLost, StoreError."""
    handle = _handle(paths, claim)
    handle.seal(*_last(claim, error))
    settlement, settled = Settlement(services, paths, claim, None, error), False
    try:
        await settlement.commit()
        settled = True
    finally:
        free_places(services, paths, claim.run, idle=settled)
    for task in settlement.tasks:
        await enqueue(services, task)
    _tell_finished(services, paths, claim, None, error, executed=False)


def _handle(paths: Paths, claim: Claim) -> RunHandle:
    run = claim.run
    handle = RunHandle(run.id, run.session, str(AgentId(run.namespace, run.cluster, run.agent)), run.attempt)
    handle.starts_after = claim.starts_after
    handle.keep_in(paths, run.expire_at)
    handle.publish(*claim.first)
    if claim.first_kept:
        handle.kept(1)
    claim.journal.outbox = handle
    return handle


def _last(claim: Claim, error: GoAgentsError) -> tuple[EventType, dict[str, Any]]:
    """The last event of a run that did not succeed."""
    about = {"run_id": claim.run.id, "session_id": claim.run.session}
    kind: EventType = "run.cancelled" if isinstance(error, RunCancelled) else "run.failed"
    return kind, {**about, "error": {**error.problem(), **about}}


def _tell_finished(
    services: Services,
    paths: Paths,
    claim: Claim,
    turn: Turn | None,
    error: GoAgentsError | None,
    *,
    executed: bool = True,
) -> None:
    run = claim.run
    services.telemetry.emit(
        RunFinished(
            run_id=run.id,
            session_id=run.session,
            tenant=paths.tenant,
            cluster=run.cluster,
            agent=run.agent,
            status=status_of(error),
            duration=(services.clock.now() - run.created_at).total_seconds(),
            usage=turn.usage if turn else recorded(claim.steps).usage,
            error_code=error.code if error else None,
            error=str(error) if error else None,
            executed=executed,
        )
    )


class Execution:
    """One attempt at a run in this process."""

    def __init__(
        self, services: Services, paths: Paths, claim: Claim, handle: RunHandle, seconds: float, most: bool
    ) -> None:
        self._services = services
        self._paths = paths
        self._claim = claim
        self._handle = handle
        self._pace = Pace(services.clock, seconds, self._left(), most, lambda: handle.wish == "hand_off")
        self._turn: Turn | None = None

    def _left(self) -> float:
        """The seconds until the run is out of time: from its start, without those it waited for a person.

        By the store's clock: the process that began the run may have another one.
        """
        run, taken_at = self._claim.run, self._claim.journal.lease.renewed_at
        since = taken_at - (run.started_at or taken_at)
        limit = self._claim.agent.timeout or self._services.runs.timeout
        return limit - since.total_seconds() + run.waited

    def begin(self) -> None:
        """Run as a task of its own."""
        self._spawn(self.run()).add_done_callback(self._if_unbegun)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        tasks, task = self._services.tasks, asyncio.create_task(work, name=self._claim.run.id)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        self._handle.task = task
        return task

    def _if_unbegun(self, task: "asyncio.Task[None]") -> None:
        """A task that is cancelled before its first step takes none: the run is stopped as one that is under way."""
        if task.cancelled():
            self._spawn(_whole(asyncio.create_task(self._stopped())))

    async def run(self) -> None:
        """Run to an end. Never raises."""
        run, services = self._claim.run, self._services
        services.telemetry.emit(RunStarted(run.id, run.session, self._paths.tenant, run.cluster, run.agent))
        pulsing = asyncio.create_task(pulse(services, self._paths, self._claim, self._handle))
        try:
            ending = await self._work()
        finally:
            pulsing.cancel()
        await _whole(asyncio.create_task(ending))

    async def _work(self) -> Coroutine[Any, Any, None]:
        """Work until there is an end; return what commits it."""
        claim, pace = self._claim, self._pace
        try:
            async with _limit(pace.limit):
                with claim.cluster.in_use():
                    self._turn = await self._prepare()
                    await self._forward(self._turn)
        except GeneratorExit:
            raise  # nobody awaits us any more
        except BaseException as raised:  # noqa: BLE001 - whatever it is, the run comes to an end
            return self._ending(raised)
        return self._settle(None)

    def _ending(self, raised: BaseException) -> Coroutine[Any, Any, None]:
        """Return what commits the end that an exception of the loop means."""
        match raised:
            case HandOffDue():
                return self._hand_on()
            case Parked():
                return self._park(raised)
            case _TimeIsUp():
                return self._late()
            case asyncio.CancelledError() if _is_asked_to_stop():
                return self._stopped()
            case LeaseLost() | StoreUnavailable() | OutcomeUnknown() | StoreConflict():
                return self._lose()
        return self._settle(self._unexpected(f"run {self._claim.run.id}", raised))

    def _late(self) -> Coroutine[Any, Any, None]:
        pace = self._pace
        if pace.is_runs_own:
            limit = self._claim.agent.timeout or self._services.runs.timeout
            return self._settle(RunTimedOut(f"The run did not finish within its timeout of {limit:g} s."))
        if pace.most and not pace.steps:
            return self._settle(
                RunTimedOut(
                    f"One step of the run took longer than {pace.seconds:g} s, the most any process has for it "
                    "(runs.worker_timeout)."
                )
            )
        return self._hand_on()

    def _stopped(self) -> Coroutine[Any, Any, None]:
        """Somebody cancelled the run; or it was taken over; or the process is asked to stop, and others go on."""
        wish, reason = self._handle.wish, self._handle.reason
        if wish == "cancel":
            return self._settle(cancelled(reason))
        return self._lose() if wish == "lost" else self._hand_on()

    async def _prepare(self) -> Turn:
        """Gather what the loop needs. Raises Invalid for a provider or a variable that this server lacks."""
        services, claim, pace = self._services, self._claim, self._pace
        agent, run = claim.agent, claim.run
        resolver = services.resolvers(trusted=claim.cluster.trusted)
        choices: tuple[AgentSpec | Fallback, ...] = (agent, *agent.fallbacks)
        candidates = [
            Candidate(
                await services.providers.get(choice.provider),
                resolve_model(choice.model, services.config.models),
                resolver.resolve_all(choice.model_settings),
            )
            for choice in choices
        ]
        toolbox = await open_toolbox(services, self._paths, claim.cluster, agent)
        caller = Caller(
            toolbox,
            services.telemetry,
            services.clock,
            run.id,
            run.session,
            self._paths.tenant,
            run.cluster,
            run.agent,
            deadline=pace.deadline - min(0.5, 0.05 * pace.limit),
        )
        return Turn(
            candidates=tuple(candidates),
            caller=caller,
            steps=Steps(claim.journal, self._paths, run, services.clock, self._handle),
            telemetry=services.telemetry,
            clock=services.clock,
            history=claim.history,
            asked=read_message(run.input),
            head=claim.head,
            policy=agent.context,
            system=resolver.resolve(agent.system_prompt) if agent.system_prompt else None,
            output_schema=agent.output_schema,
            max_turns=agent.max_turns,
            pace=pace,
            recorded=recorded(claim.steps),
            doubts=set(claim.in_doubt),
            unknown=set(claim.unknown),
            decisions=run.decisions or {},
        )

    async def _forward(self, turn: Turn) -> None:
        async with aclosing(run_turn(turn)) as happenings:
            async for kind, data in happenings:
                self._handle.publish(kind, data)

    async def _settle(self, error: GoAgentsError | None) -> None:
        """Commit the end, tell who waits for it, and let the handle's readers go."""
        if error is None and (self._turn is None or self._turn.final is None):
            error = RunError()
        settlement = Settlement(self._services, self._paths, self._claim, self._turn, error)
        try:
            await self._commit(settlement)
        except (LeaseLost, StoreUnavailable, OutcomeUnknown, StoreConflict):
            self._handle.unseal()
            await self._lose()
            return
        except Exception as raised:  # noqa: BLE001 - what no store takes must not leave slot and session held
            self._handle.unseal()
            self._handle.drop_pending()
            error = settlement.error or self._unexpected(f"settling {self._claim.run.id}", raised)
            settlement = Settlement(self._services, self._paths, self._claim, None, error, spent=self._turn)
            try:
                await self._commit(settlement)
            except (StoreError, LeaseLost):
                self._handle.unseal()
                await self._lose()
                return
        await self._release(settlement.tasks)
        _tell_finished(self._services, self._paths, self._claim, self._turn, settlement.error)
        self._handle.finish(settlement.error or self._answer())

    async def _commit(self, settlement: Settlement) -> None:
        if settlement.error is None:
            self._handle.seal("run.completed", self._answer().model_dump(mode="json"))
        else:
            self._handle.seal(*_last(self._claim, settlement.error))
        await settlement.commit()

    async def _hand_on(self) -> None:
        """Have another process go on. Where that cannot be written down, the lease ends by itself."""
        self._handle.seal("run.handed_off", self._about())
        try:
            task = await hand_off(self._services, self._paths, self._claim, self._turn)
        except (StoreError, LeaseLost):
            self._handle.unseal()
            await self._lose()
            return
        await self._release([task], idle=False)
        self._leave("handed_off")

    async def _park(self, parked: Parked) -> None:
        if self._turn is None:
            raise AssertionError("only a turn waits for decisions")
        now = self._services.clock.now()
        until = now + timedelta(seconds=self._services.runs.waiting_timeout)
        waiting = Waiting(calls=parked.calls, since=now, until=until)
        self._handle.seal("run.waiting", {**self._about(), "waiting": waiting.model_dump(mode="json")})
        try:
            tasks = await park(self._services, self._paths, self._claim, self._turn, waiting)
        except (StoreError, LeaseLost):
            self._handle.unseal()
            await self._lose()
            return
        await self._release(tasks)
        self._leave("waiting")

    async def _lose(self) -> None:
        """Write nothing more: the run is another process's now, or will be when the lease is over."""
        await self._release([], idle=False)
        self._leave("lost")

    async def _release(self, tasks: list[Task], *, idle: bool = True) -> None:
        """This process holds the run no longer; `idle`: its slot is free. Then have `tasks` done."""
        services, run = self._services, self._claim.run
        free_places(services, self._paths, run, idle=idle)
        self._claim.cluster.instances = None
        if services.handles.get(run.id) is self._handle:
            del services.handles[run.id]
        for task in tasks:
            await enqueue(services, task)

    def _leave(self, reason: Literal["handed_off", "waiting", "lost"]) -> None:
        run = self._claim.run
        self._services.telemetry.emit(RunLeft(run.id, run.session, run.cluster, run.agent, reason))
        self._handle.leave(lost=reason == "lost")

    def _about(self) -> dict[str, str]:
        run = self._claim.run
        return {"run_id": run.id, "session_id": run.session, "agent": self._handle.agent}

    def _answer(self) -> ChatResponse:
        turn = self._turn
        if turn is None or turn.final is None:
            raise AssertionError("a run that succeeded has an answer")
        return ChatResponse(
            **self._about(), message=turn.final.message, stop_reason=turn.final.stop_reason, usage=turn.usage
        )

    def _unexpected(self, where: str, error: BaseException) -> GoAgentsError:
        if not isinstance(error, GoAgentsError):
            self._services.telemetry.emit(Unexpected(where, repr(error), traceback_of(error)))
        return as_run_error(error)


def _is_asked_to_stop() -> bool:
    """Whether somebody cancelled this task. If not, foreign code raised the error by itself, and would do so again."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _TimeIsUp(Exception):
    """What this process has for the run is over; a TimeoutError of the run's own goes on as it is."""


@asynccontextmanager
async def _limit(seconds: float) -> AsyncIterator[None]:
    timer = asyncio.timeout(seconds)
    try:
        async with timer:
            yield
    except TimeoutError as raised:
        if timer.expired():
            raise _TimeIsUp from raised
        raise


async def _whole(task: "asyncio.Task[None]") -> None:
    """Wait for `task` to end, whatever cancels the waiting: a run is settled even while its process stops."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    if not task.cancelled():
        task.result()
