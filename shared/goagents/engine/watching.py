"""Following a run, wherever it is executed: its events from the store, or straight from the process where that is here.

For every follower nothing is missing and nothing comes twice, whatever attempts the run takes.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass

from goagents.codes import by_code
from goagents.errors import FieldError, GoAgentsError, Invalid, LimitExceeded, NotFound, RunError
from goagents.events import TERMINAL_EVENTS, Cursor, EventType, RunEvent
from goagents.messages import read_message, read_usage
from goagents.records import TERMINAL, EventsRecord, Paths, RunRecord
from goagents.resources import ChatResponse, Run
from goagents.store.base import Filter, Query, Snapshot

from .execution.handle import RunHandle, position_of
from .names import AgentId
from .recovery.pointers import redispatch
from .recovery.takeover import Found, find_run
from .recovery.worker import take_up
from .services import Services
from .views import run_view

PAGE = 50  # batches read together
FIRST_POLL, SLOWEST_POLL = 0.05, 1.0  # seconds between looks at the store
ENOUGH = 0.5  # of a request's time, that has to be left to take a run up
START = Cursor(0, 0)


@dataclass
class Watch:
    """A run as a caller sees it. `until` is on the monotonic clock: the caller's own time, not the run's.

    `handle` is its execution in this process, where the caller started that.
    """

    services: Services
    paths: Paths
    run_id: str
    session_id: str
    agent: str
    until: float = float("inf")
    handle: RunHandle | None = None

    @property
    def here(self) -> RunHandle | None:
        """The run's execution in this process, if that is where it is."""
        return self.services.handles.get(self.run_id)

    @property
    def time_is_up(self) -> bool:
        """Whether the caller had better ask again, elsewhere."""
        return self.services.ending or self.services.clock.monotonic() >= self.until

    async def events(self, after: Cursor = START) -> AsyncGenerator[RunEvent, None]:
        """Yield the events behind `after` until the last one of the run, or until the caller's time is up here.

        Raises NotFound where the run is gone, StoreError.
        """
        cursor, pause = after, FIRST_POLL
        while True:
            handle, before = self.here, cursor
            if handle is not None and handle.attempt < cursor.attempt:
                handle = None  # this process has lost the run, and does not know it yet
            direct = handle is not None and cursor >= handle.starts_after
            batch = (
                handle.events(cursor, self._patience(handle))
                if handle is not None and direct
                else self._stored(cursor, handle)
            )
            async with aclosing(batch) as events:
                async for event in events:
                    cursor = event.cursor
                    yield event
                    if event.type in TERMINAL_EVENTS:
                        return
            if handle is not None and not direct and cursor == before:
                cursor = max(cursor, handle.starts_after)  # what came before it has all been sent
            if handle is not None and self._patience(handle) == 0:
                return
            if handle is not None or cursor != before:
                pause = FIRST_POLL
                continue
            if self.time_is_up:
                return
            ended = await self._ended(cursor)
            if ended is not None:
                if not has_seen_end(ended, cursor):
                    yield last_event(ended)
                return
            if (here := self.here) is not None and here.attempt > cursor.attempt:
                continue  # it has just been taken up
            await self.services.clock.sleep(pause)
            pause = min(SLOWEST_POLL, pause * 1.5)

    async def _stored(self, cursor: Cursor, handle: RunHandle | None) -> AsyncGenerator[RunEvent, None]:
        """Yield what the store has behind `cursor`, up to the attempt that `handle` knows itself."""
        for event in await self._read(cursor):
            if handle is not None and event.attempt >= handle.attempt:
                return
            yield event

    async def answer(self) -> ChatResponse | Run:
        """Wait for the answer, as long as the caller has time: the run as it is where that takes longer.

        A run that this caller started here and that is handed on, or waits for a person, is not waited for. Raises the
        error the run ended with, NotFound where it is gone, StoreError.
        """
        pause = FIRST_POLL
        while True:
            handle = self.here or self.handle
            if handle is not None:
                await self._wait_for(handle)
                if handle.over:
                    return await handle.result()
            found = await find_run(self.services, self.paths, self.run_id)
            if found is None:
                raise NotFound(f"There is no run {self.run_id!r} any more.")
            if found.run.status in TERMINAL:
                return answer_of(found.run)
            mine = self.handle is not None and not self.handle.lost
            if mine or found.run.status == "waiting" or self.time_is_up:
                return run_view(found.run)
            if found.is_stale and not found.is_behind:
                await self._go_on(found)
                if self.here is not None:
                    continue
            await self.services.clock.sleep(pause)
            pause = min(SLOWEST_POLL, pause * 1.5)

    def _patience(self, handle: RunHandle) -> float | None:
        """How long to wait for what is executed here, in seconds; None: to its end, which this caller's time bounds."""
        if handle is self.handle or self.until == float("inf"):
            return None
        return max(0.0, self.until - self.services.clock.monotonic())

    async def _wait_for(self, handle: RunHandle) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(handle.finished(), self._patience(handle))

    async def result(self) -> ChatResponse:
        """Wait for the answer, however long it takes. Raises as `answer`."""
        self.until, self.handle = float("inf"), None
        while isinstance(answer := await self.answer(), Run):
            await self.services.clock.sleep(SLOWEST_POLL)  # for a person to decide
        return answer

    async def finished(self) -> None:
        """Wait until the run is over, whatever it comes to."""
        with suppress(GoAgentsError):
            await self.result()

    async def rests(self, event: RunEvent) -> bool:
        """Whether nothing more is to come soon: the run was handed on from here, or it waits for a person."""
        if event.type == "run.handed_off":
            return self.handle is not None and event.attempt == self.handle.attempt
        if event.type != "run.waiting":
            return False
        found = await find_run(self.services, self.paths, self.run_id)
        return found is not None and found.run.status == "waiting"

    async def let_go(self) -> None:
        """The caller is gone: wait for the run that it started here, as a process that ends waits for its requests.

        Where the process loses its CPU with the request, the run is handed on first, unless others follow it here.
        """
        handle = self.handle
        if handle is None:
            return
        if not (self.services.background or handle.readers):
            handle.stop("hand_off")
        await handle.finished()

    async def _read(self, cursor: Cursor) -> list[RunEvent]:
        """Read what the store has behind `cursor`, without what a later attempt has made void."""
        where = (Filter("position", ">", position_of(cursor)),)
        page = await self.services.store.query(Query(self.paths.events(self.run_id), where, "position", limit=PAGE))
        events = [
            RunEvent(kind, data, batch.attempt, seq)
            for batch in (EventsRecord.of(document.data) for document in page.documents)
            for seq, kind, data in batch.events
            if Cursor(batch.attempt, seq) > cursor
        ]
        return valid(events)

    async def _ended(self, cursor: Cursor) -> RunRecord | None:
        """Nothing is new: return the run if it is over, and no events of it are left; else see that it goes on."""
        found = await find_run(self.services, self.paths, self.run_id)
        if found is None:
            raise NotFound(f"There is no run {self.run_id!r} any more.")
        if found.run.status in TERMINAL:
            return None if await self._read(cursor) else found.run  # they may have come this moment
        if found.is_stale and not found.is_behind:
            await self._go_on(found)
        return None

    async def _go_on(self, found: Found) -> None:
        """The run was left behind: go on with it here if this caller has the time, else have a worker do so.

        What was begun in too little time would have to be left in the middle.
        """
        whole = self.services.config.server.timeout
        seconds = min(self.until - self.services.clock.monotonic(), whole)
        if seconds < ENOUGH * whole:
            leases = Snapshot({found.lease_document.path: found.lease_document}, found.read_at)
            await redispatch(self.services, self.paths, found.run, leases)
            return
        try:
            self.handle = await take_up(self.services, self.paths, self.run_id, seconds=seconds) or self.handle
        except LimitExceeded:
            return  # it waits for a place as before


def valid(events: list[RunEvent]) -> list[RunEvent]:
    """Leave out events that came after the last one a later attempt, among `events`, still counts on."""
    kept: list[RunEvent] = []
    for event in events:
        if event.type == "attempt":
            holds = event.data.get("resumed_after")
            limit = Cursor.parse(holds) if holds else START
            kept = [one for one in kept if one.cursor <= limit]
        kept.append(event)
    return kept


def check_cursor(run: RunRecord, after: Cursor) -> None:
    """Raise Invalid where `run` cannot have an event `after`, and so none that follows it.

    One that the store does not have is none of those: its process may have shown it, and died before it was recorded.
    """
    over = run.status in TERMINAL
    if over and after == _behind(run):
        return
    if after.attempt > run.attempt or (over and run.event is not None and after > Cursor.parse(run.event)):
        last = f"its last event is {run.event}" if over and run.event else f"it is in its attempt {run.attempt}"
        problem = f"{after} is no event of the run {run.id}: {last}. Leave it out to begin with the first one."
        raise Invalid(f"Last-Event-ID (or `after`): {problem}", errors=[FieldError("Last-Event-ID", problem)])


def has_seen_end(run: RunRecord, cursor: Cursor) -> bool:
    """Whether who has seen the events up to `cursor` has seen the last one of the run, which is over."""
    return cursor.attempt > run.attempt or (run.event is not None and cursor >= Cursor.parse(run.event))


def _behind(run: RunRecord) -> Cursor:
    """The place of the last event of a run that is over where it is made from its record: behind whatever was sent."""
    return Cursor(run.attempt + 1, 1)


def last_event(run: RunRecord) -> RunEvent:
    """Return the last event of a run that is over, made from its record."""
    about = {"run_id": run.id, "session_id": run.session}
    attempt, seq = _behind(run).attempt, _behind(run).seq
    if run.status == "succeeded":
        return RunEvent("run.completed", answer_of(run).model_dump(mode="json"), attempt, seq)
    kind: EventType = "run.cancelled" if run.status == "cancelled" else "run.failed"
    return RunEvent(kind, {**about, "error": {**(run.error or RunError().problem()), **about}}, attempt, seq)


def answer_of(run: RunRecord) -> ChatResponse:
    """Return the answer that is recorded. Raises the error the run ended with."""
    if run.status != "succeeded" or run.output is None:
        raise recorded_error(run.error or {})
    return ChatResponse(
        run_id=run.id,
        session_id=run.session,
        agent=str(AgentId(run.namespace, run.cluster, run.agent)),
        message=read_message(run.output),
        stop_reason=run.stop_reason or "end_turn",
        usage=read_usage(run.usage or {}),
    )


def recorded_error(problem: dict[str, object]) -> GoAgentsError:
    """Make the error that a run's record holds: its class by its code, its words as recorded."""
    return by_code(GoAgentsError).get(str(problem.get("code")), RunError)(str(problem.get("detail") or ""))
