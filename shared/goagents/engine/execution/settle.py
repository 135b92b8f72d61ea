"""How an execution ends, in one commit: the run is over, is handed on to another process, or waits for a person."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from goagents.dispatch.base import Task
from goagents.engine.admission.places import release_writes
from goagents.engine.recovery.pointers import unowned
from goagents.engine.services import Services
from goagents.engine.views import run_view
from goagents.errors import GoAgentsError, RunCancelled
from goagents.ids import new_id
from goagents.messages import MESSAGE, Message
from goagents.records import MessageRecord, Paths, RunRecord, SessionRecord
from goagents.resources import Waiting
from goagents.store.base import ABSENT, AtVersion, Document, Merge, Put, Write

from .aftermath import aftermath
from .claim import Claim
from .deliveries import delivery_name, delivery_write
from .doubts import carried_out, remembered
from .loop import Turn
from .steps import recorded

SHARDS = 8  # counters are spread, so that no document is written by every request
OVER: dict[str, Any] = {"owner": "", "ttl": 0.0}
Status = Literal["succeeded", "failed", "cancelled"]


def status_of(error: GoAgentsError | None) -> Status:
    if error is None:
        return "succeeded"
    return "cancelled" if isinstance(error, RunCancelled) else "failed"


@dataclass
class Settlement:
    """The end of a run: messages, usage, slot, instance and session released, the next run of the session promoted.

    `tasks` is what to dispatch once the commit is done: what any of its tries decided, for the one that was applied may
    be one whose answer did not come. A task too many does nothing. `spent` is the turn where there is no `turn`, as the
    store did not take what it came to: what it used counts all the same.
    """

    services: Services
    paths: Paths
    claim: Claim
    turn: Turn | None
    error: GoAgentsError | None
    tasks: list[Task] = field(default_factory=list)
    spent: Turn | None = None
    _token: str = field(default_factory=lambda: new_id("lease"))
    _outcome: dict[str, Any] = field(default_factory=dict)

    async def commit(self) -> None:
        """Raises LeaseLost, StoreError."""
        self._outcome = _outcome(self.claim, self.turn, self.error, self.services.clock.now())
        if self.turn is None and self.spent is not None:
            self._outcome |= _spent(self.spent)
        self._outcome["expire_at"] = self._outcome["finished_at"] + timedelta(seconds=self.services.runs.retention)
        if (outbox := self.claim.journal.outbox) is not None:
            self._outcome["event"] = str(outbox.cursor)
        await self.claim.journal.conclude(self._build, OVER)
        self.tasks = list(dict.fromkeys(self.tasks))

    async def _build(self, again: bool) -> Sequence[Write]:
        session = self.claim.session
        if again or session is None:
            path = self.paths.session(self.claim.run.session)
            session = (await self.services.store.get_many([path])).get(path)
        now = self.services.clock.now()
        messages = self._messages(now)
        run, outcome = self.claim.run, self._outcome
        ended = run.model_copy(update=outcome)
        changed = {**outcome, "slot": None, "instance": None} | ({"waiting": None} if run.waiting else {})
        return [
            *(Put(self.paths.message(run.session, one.seq), one.data(), ABSENT) for one in messages),
            *(await self._session_writes(session, len(messages), now)),
            *release_writes(self.paths, run, self.claim.journal.known),
            Merge(self.paths.run(run.id), changed, self.claim.journal.known(self.paths.run(run.id))),
            _count(self.paths, outcome, now, (now - run.created_at).total_seconds()),
            *self._delivery(ended, now),
        ]

    def _messages(self, now: datetime) -> list[MessageRecord]:
        run = self.claim.run
        new = self._new(run)
        return [
            MessageRecord(
                seq=self.claim.head + 1 + i,
                run=run.id,
                agent=run.agent,
                message=MESSAGE.dump_python(message, mode="json"),
                created_at=now,
            )
            for i, message in enumerate(new)
        ]

    def _new(self, run: RunRecord) -> Sequence[Message]:
        if self.error is None:
            return self.turn.new if self.turn is not None else ()
        if run.head is None:
            return ()  # it never had its turn
        told = aftermath(carried_out(self.claim, self.turn), self._outcome["status"])
        return () if told is None else (told,)

    async def _session_writes(self, document: Document | None, added: int, now: datetime) -> list[Write]:
        """Let go of the session, or hand it to the run that waits for it."""
        if document is None:
            return []
        session, run = SessionRecord.of(document.data), self.claim.run
        if session.active_run != run.id:
            left = [other for other in session.queue if other != run.id]
            return [Merge(document.path, {"queue": left}, AtVersion(document.version))] if left != session.queue else []
        head = self.claim.head + added
        changed: dict[str, Any] = {"head": head, "active_run": None, "queue": session.queue, "updated_at": now}
        if self.turn is not None and self.turn.history.compacted > session.compacted:
            changed |= {"compacted": self.turn.history.compacted, "summary": self.turn.history.summary}
        doubts = remembered(session.doubts, self.claim, self.turn)
        if doubts != session.doubts:
            changed["doubts"] = doubts
        promoted = await promote(self.services, self.paths, session.queue, head + 1, now, self._token)
        if session.queue:
            changed["queue"] = promoted.queue
        if promoted.run is not None:
            changed |= {"active_run": promoted.run, "head": head + 1}
            self.tasks.append(Task("run", self.paths.tenant, promoted.run, self._token))
        return [Merge(document.path, changed, AtVersion(document.version)), *promoted.writes]

    def _delivery(self, ended: RunRecord, now: datetime) -> list[Write]:
        kind = {"succeeded": "run.completed", "failed": "run.failed", "cancelled": "run.cancelled"}[ended.status]
        return told(self.paths, ended, kind, now, self.tasks)


@dataclass(frozen=True, slots=True)
class Promotion:
    """The run that goes next, the runs that wait behind it, and the writes that make it so."""

    run: str | None
    queue: list[str]
    writes: list[Write]


async def promote(
    services: Services, paths: Paths, queue: Sequence[str], seq: int, now: datetime, token: str
) -> Promotion:
    """Find the first run of `queue` that still waits; its user message becomes number `seq` of the session.

    `token` is new: whoever may be cancelling the run knows it without a place in the session, and is fenced.
    """
    for position, run_id in enumerate(queue):
        keys = [paths.run(run_id), paths.lease(run_id)]
        snapshot = await services.store.get_many(keys)
        document, lease = (snapshot.get(key) for key in keys)
        if document is None or lease is None or document.data.get("status") != "queued":
            continue  # it was cancelled, or its records are gone
        run = RunRecord.of(document.data)
        message = MessageRecord(seq=seq, run=run.id, agent=run.agent, message=run.input, created_at=now)
        writes: list[Write] = [
            Put(paths.message(run.session, seq), message.data(), ABSENT),
            Merge(document.path, {"head": seq}, AtVersion(document.version)),
            unowned(lease, token, services.runs.dispatch_grace),
        ]
        return Promotion(run_id, list(queue[position + 1 :]), writes)
    return Promotion(None, [], [])


def told(paths: Paths, run: RunRecord, event: str, now: datetime, tasks: list[Task]) -> list[Write]:
    """Return the writes that have the run's webhook told of `event`, adding to `tasks` who does it."""
    writes = delivery_write(paths, run, event, run_view(run).model_dump(mode="json"), now)
    if writes:
        tasks.append(Task("delivery", paths.tenant, run.id, "0", delivery_name(run, event)))
    return writes


async def hand_off(services: Services, paths: Paths, claim: Claim, turn: Turn | None) -> Task:
    """Commit that another process is to go on with the run, which keeps its slot. Return whom to tell.

    Calls that were in progress, here or where the run comes from, are named: what they came to is not known. Raises
    LeaseLost, StoreError.
    """
    unfinished = turn.unfinished if turn is not None else sorted(claim.in_doubt)
    changed: dict[str, Any] = {"status": "handed_off", "unfinished": unfinished}
    if turn is not None:
        changed |= {"log": turn.steps.log, **turn.steps.found()}
        if not turn.asking:  # else what the model said so far is void, as it is asked again
            changed["event"] = turn.steps.cursor
    early = turn.steps.unrecorded() if turn is not None else []
    lease = {"owner": "", "ttl": services.runs.dispatch_grace}

    async def build(_: bool) -> Sequence[Write]:
        path = paths.run(claim.run.id)
        return [Merge(path, changed, claim.journal.known(path)), *early]

    await claim.journal.conclude(build, lease)
    return Task("run", paths.tenant, claim.run.id, claim.journal.lease.token)


async def park(services: Services, paths: Paths, claim: Claim, turn: Turn, waiting: Waiting) -> list[Task]:
    """Commit that the run waits for a person, holding its session and nothing else. Raises LeaseLost, StoreError."""
    names = ", ".join(call.name for call in waiting.calls)
    turn.steps.note("waiting", f"for a decision on {names}")
    changed: dict[str, Any] = {
        "status": "waiting",
        "waiting": waiting.model_dump(mode="json"),
        "give_up_at": waiting.until,
        "decisions": _other_decisions(turn, waiting),
        "slot": None,
        "instance": None,
        "unfinished": [],
        "log": turn.steps.log,
        "event": turn.steps.cursor,
        **turn.steps.found(),
    }
    parked = claim.run.model_copy(update={**changed, "waiting": waiting.model_dump(mode="json")})
    tasks: list[Task] = []
    now = services.clock.now()
    telling = told(paths, parked, "run.waiting", now, tasks)

    async def build(_: bool) -> Sequence[Write]:
        return [
            Merge(paths.run(claim.run.id), changed, claim.journal.known(paths.run(claim.run.id))),
            *release_writes(paths, claim.run, claim.journal.known),
            *turn.steps.unrecorded(),
            *telling,
        ]

    await claim.journal.conclude(build, OVER)
    return tasks


def _other_decisions(turn: Turn, waiting: Waiting) -> dict[str, Any]:
    """What was decided on a call counts once: where it waits again, a person decides again."""
    ids = {call.call_id for call in waiting.calls}
    return {call: dict(decision) for call, decision in turn.decisions.items() if call not in ids}


def _outcome(claim: Claim, turn: Turn | None, error: GoAgentsError | None, now: datetime) -> dict[str, Any]:
    outcome: dict[str, Any] = {"status": status_of(error), "finished_at": now}
    if turn is not None:
        turn.steps.note_end(status_of(error), str(error) if error else "")
        outcome |= {**_spent(turn), "log": turn.steps.log}
    elif claim.steps:
        done = recorded(claim.steps)
        outcome |= {"usage": asdict(done.usage), "tool_calls": done.tool_calls}
    if error is not None:
        outcome["error"] = error.problem()
    elif turn is not None and turn.final is not None:
        outcome["output"] = MESSAGE.dump_python(turn.final.message, mode="json")
        outcome["stop_reason"] = turn.final.stop_reason
    return outcome


def _spent(turn: Turn) -> dict[str, Any]:
    return {"usage": asdict(turn.usage), "tool_calls": turn.tool_calls}


def _count(paths: Paths, outcome: dict[str, Any], now: datetime, duration: float) -> Merge:
    usage = outcome.get("usage", {})
    counted = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens")
    increments: dict[str, int | float] = {
        "runs": 1,
        outcome["status"]: 1,
        "duration": duration,
        "tool_calls": outcome.get("tool_calls", 0),
        **{name: usage.get(name, 0) for name in counted},
    }
    day = now.strftime("%Y%m%d")
    shard = random.randrange(SHARDS)  # noqa: S311 - spreads load, guards nothing
    return Merge(paths.usage_shard(day, shard), {"day": day}, increments=increments)
