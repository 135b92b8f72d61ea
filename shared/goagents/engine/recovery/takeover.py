"""Taking up a run that no process executes: queued, handed on, decided upon, or left behind by a process that died.

The lease decides: a new token is written at the version that was read, so one of many who try gets the run.
"""

import asyncio
import random
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from goagents.engine.admission.places import Places, take_places
from goagents.engine.execution.claim import Claim
from goagents.engine.execution.context import History, newest_messages, read_history
from goagents.engine.execution.handle import batch_write
from goagents.engine.execution.journal import Journal
from goagents.engine.execution.steps import read_steps
from goagents.engine.keeping import expiry, is_short, put_off_parts
from goagents.engine.loaded import LoadedCluster
from goagents.engine.names import AgentId
from goagents.engine.services import Services
from goagents.engine.specs import check_living, load_pinned
from goagents.errors import LimitExceeded, OutcomeUnknown, StoreConflict
from goagents.events import Cursor, EventType, RunEvent
from goagents.ids import new_id
from goagents.records import TERMINAL, LeaseRecord, Paths, RunRecord, SessionRecord, SignalRecord, StepRecord
from goagents.spec.cluster import AgentSpec
from goagents.store.base import AtVersion, Document, Merge, Page, Put, Snapshot, Write

from .pointers import lease_is_over, recover

ATTEMPTS = 12


class Poisoned(Exception):
    """The run ended its process too often at the same step; `claim` is there to settle it."""

    def __init__(self, claim: Claim) -> None:
        super().__init__()
        self.claim = claim


@dataclass(frozen=True, slots=True)
class Found:
    """A run as it was read, with its lease."""

    run: RunRecord
    document: Document
    lease: LeaseRecord
    lease_document: Document
    read_at: datetime

    @property
    def is_held(self) -> bool:
        """A living process has its lease: it executes the run, or is about to end it."""
        return bool(self.lease.owner) and not lease_is_over(self.lease, self.read_at)

    @property
    def is_left_behind(self) -> bool:
        """A process had it, and its lease is over (or was taken from it so that a worker may go on)."""
        return self.run.status == "running" and not self.is_held

    @property
    def is_free(self) -> bool:
        """Nobody executes it, and somebody may."""
        return self.run.status in ("queued", "running", "handed_off") and not self.is_held

    @property
    def is_behind(self) -> bool:
        """It waits for another run of its session. (Those of an older version have no `head` at all.)"""
        return self.run.status == "queued" and self.run.head is None

    @property
    def is_stale(self) -> bool:
        """Whoever was to take it up has had the time to."""
        return (
            self.run.status not in TERMINAL and self.run.status != "waiting" and lease_is_over(self.lease, self.read_at)
        )


async def find_run(services: Services, paths: Paths, run_id: str) -> Found | None:
    """Read a run and its lease; None where one of them is gone."""
    keys = [paths.run(run_id), paths.lease(run_id)]
    return found_in(await services.store.get_many(keys), paths, run_id)


def found_in(snapshot: Snapshot, paths: Paths, run_id: str) -> Found | None:
    document, lease = snapshot.get(paths.run(run_id)), snapshot.get(paths.lease(run_id))
    if document is None or lease is None:
        return None
    return Found(RunRecord.of(document.data), document, LeaseRecord.of(lease.data), lease, snapshot.read_at)


@dataclass
class Takeover:
    """One attempt to take up one run, with its retries. `to_end`: it is only to be settled, and needs no place.

    `waiting`: it is of interest only while it waits for a person.
    """

    services: Services
    paths: Paths
    run_id: str
    token: str | None = None
    to_end: bool = False
    waiting: bool = False
    wide: bool = False
    _mine: dict[str, Claim] = field(default_factory=dict)

    async def claim(self) -> Claim | None:
        """Return the claim on the run; None where it is over, waits, is another's, or `token` is an older one.

        Raises LimitExceeded where there is no free place, Poisoned, NotFound where its agent is gone, StoreError.
        """
        for attempt in range(ATTEMPTS):
            try:
                return await self._try()
            except (StoreConflict, OutcomeUnknown):
                if attempt == ATTEMPTS - 1:
                    raise
                await self.services.clock.sleep(random.uniform(0, 0.01) * 2**attempt)  # noqa: S311 - jitter
            except LimitExceeded:
                if self.wide:
                    raise
                self.wide = True  # a first look probes few; the second one, at once, probes many
        return None

    async def _try(self) -> Claim | None:
        found = await find_run(self.services, self.paths, self.run_id)
        if found is None:
            return None
        if (mine := self._mine.get(found.lease.token)) is not None:  # the answer was lost
            take_places(self.services, self.paths, mine.run)
            mine.journal.begin(found.lease_document.version, found.lease.renewed_at)
            return _begun(mine, found.run.started_at) if found.run.started_at else mine
        if not self._may(found):
            return None
        return await self._take(found)

    def _may(self, found: Found) -> bool:
        if found.run.status in TERMINAL or (self.token is not None and found.lease.token != self.token):
            return False
        waits = found.run.status == "waiting" and not found.is_held
        if self.to_end:
            return waits or (found.is_free and not self.waiting)
        return found.is_free and not found.is_behind

    async def _take(self, found: Found) -> Claim | None:
        run = found.run
        cluster = await load_pinned(self.services, self.paths, run)
        agent = cluster.agent(run.agent)
        places: Places | None = None
        if run.slot is None and not self.to_end:
            places = Places.reserve(self.services, self.paths, cluster, agent, wide=self.wide)
        claim: Claim | None = None
        try:
            claim = await self._with(found, cluster, agent, places)
        finally:
            if claim is None and places is not None:
                places.give_back()
        if claim is not None and claim.run.crashes >= self.services.runs.max_attempts and not self.to_end:
            raise Poisoned(claim)
        return claim

    async def _with(
        self, found: Found, cluster: LoadedCluster, agent: AgentSpec, places: Places | None
    ) -> Claim | None:
        """Read the rest, decide, commit. None: the run's turn in its session has not come."""
        run = found.run
        snapshot, page, steps = await self._read(run, places)
        check_living(snapshot.get(self.paths.cluster(run.namespace, run.cluster)), run)
        session = snapshot.get(self.paths.session(run.session))
        if not self.to_end and (session is None or session.data.get("active_run") != run.id):
            return None
        if places is not None:
            await self._choose(places, snapshot)
        record = SessionRecord.of(session.data) if session else None
        if run.head is None and record is not None and record.active_run == run.id:
            found = replace(found, run=run.model_copy(update={"head": record.head}))  # an older version's
        history = await read_history(self.services.store, self.paths, record, page) if page else History()
        taken = self._made(found, agent, places, steps)
        if taken.expire_at is not None and taken.expire_at != run.expire_at:
            await put_off_parts(self.services.store, self.paths, run, self.services.runs, taken.expire_at)
        signal = snapshot.get(self.paths.signal(run.id, "cancel"))
        claim = Claim(
            run=taken,
            cluster=cluster,
            agent=agent,
            journal=self._journal(found, taken),
            history=_before(history, taken.head or 0),
            first=_first(taken),
            starts_after=Cursor(taken.attempt, 0),
            session=session if record is not None and not record.queue else None,
            steps=tuple(steps),
            crashed=found.is_left_behind,
            unknown=frozenset(record.doubts if record else ()),
            first_kept=not self.to_end,
            wish=SignalRecord.of(signal.data) if signal else None,
        )
        return await self._commit(found, claim, places, snapshot)

    async def _choose(self, places: Places, snapshot: Snapshot) -> None:
        taken = places.choose(snapshot)
        if taken is None:
            return
        if await recover(self.services, self.paths, taken[0]):
            raise StoreConflict("A pointer was cleared; read again.")
        raise LimitExceeded(taken[1], retry_after=1)

    async def _read(self, run: RunRecord, places: Places | None) -> tuple[Snapshot, Page | None, list[StepRecord]]:
        """Read what else there is to know, together."""
        store, paths = self.services.store, self.paths
        keys = [paths.cluster(run.namespace, run.cluster), paths.session(run.session), paths.signal(run.id, "cancel")]
        keys += places.paths if places else ()
        if self.to_end:
            snapshot, steps = await asyncio.gather(store.get_many(keys), read_steps(store, paths, run.id))
            return snapshot, None, steps
        snapshot, page, steps = await asyncio.gather(
            store.get_many(keys), store.query(newest_messages(paths, run.session)), read_steps(store, paths, run.id)
        )
        return snapshot, page, steps

    def _is_short(self, run: RunRecord, agent: AgentSpec) -> bool:
        return is_short(self.services.runs, run, self.services.clock.now(), agent.timeout)

    def _made(self, found: Found, agent: AgentSpec, places: Places | None, steps: list[StepRecord]) -> RunRecord:
        """Return the run as this attempt makes it."""
        run = found.run
        done = max((step.number for step in steps), default=0)
        crashes = 0
        if found.is_left_behind:
            crashes = run.crashes + 1 if run.crashed_step == done else 1
        elif run.crashed_step == done:
            crashes = run.crashes
        changed: dict[str, Any] = {"attempt": run.attempt + 1, "crashes": crashes, "crashed_step": done}
        if not self.to_end:
            changed["status"] = "running"
        if self._is_short(run, agent):
            changed["expire_at"] = expiry(self.services.runs, self.services.clock.now(), agent.timeout)
        if places is not None:
            changed |= {"slot": places.slot.number, "instance": places.instance.number}
        return run.model_copy(update=changed)

    def _journal(self, found: Found, run: RunRecord) -> Journal:
        lease = LeaseRecord(
            token=new_id("lease"),
            owner=self.services.owner,
            attempt=run.attempt,
            renewed_at=found.read_at,
            ttl=self.services.runs.lease_ttl,
            commit_id=new_id("commit"),
            expire_at=run.expire_at,
        )
        return Journal(self.services.store, self.services.clock, self.paths.lease(run.id), lease)

    async def _commit(self, found: Found, claim: Claim, places: Places | None, snapshot: Snapshot) -> Claim:
        """Commit the claim; return it as it is then."""
        run, lease = claim.run, claim.journal.lease
        data = {name: value for name, value in lease.data().items() if name != "renewed_at"}
        changed = {
            name: getattr(run, name)
            for name in ("status", "attempt", "head", "crashes", "crashed_step", "slot", "instance", "expire_at")
            if getattr(run, name) != found.document.data.get(name)
        }
        begins = ("started_at",) if run.started_at is None and not self.to_end else ()
        writes: list[Write] = [
            Put(found.lease_document.path, data, AtVersion(found.lease_document.version), server_time=("renewed_at",)),
            Merge(found.document.path, changed, AtVersion(found.document.version), server_time=begins),
        ]
        if places is not None:
            writes += places.writes(snapshot, run.id)
        if claim.first_kept:
            kind, about = claim.first
            event = RunEvent(kind, about, run.attempt, 1)
            writes.append(batch_write(self.paths, run.id, [event], run.expire_at))
        self._mine[lease.token] = claim
        done = await self.services.store.commit(writes)
        known = {path: version for path, version in done.versions.items() if path == found.document.path}
        if places is not None:
            known |= {path: done.versions[path] for path in (places.slot.path, places.instance.path)}
        else:
            take_places(self.services, self.paths, run)
        claim.journal.begin(done.versions[found.lease_document.path], done.committed_at, known)
        return _begun(claim, done.committed_at) if begins else claim


def _begun(claim: Claim, at: datetime) -> Claim:
    return replace(claim, run=claim.run.model_copy(update={"started_at": at}))


def _before(history: History, head: int) -> History:
    """Leave out the run's own message, and whatever came into the session behind it."""
    entries = tuple(entry for entry in history.entries if entry[0] < head)
    return History(entries, history.summary, history.compacted)


def _first(run: RunRecord) -> tuple[EventType, dict[str, object]]:
    """The first event of an attempt says what still holds; that of the first one, that the run begins."""
    about: dict[str, object] = {
        "run_id": run.id,
        "session_id": run.session,
        "agent": str(AgentId(run.namespace, run.cluster, run.agent)),
        "attempt": run.attempt,
    }
    if run.attempt == 1:
        return "run.started", about
    return "attempt", {**about, "resumed_after": run.event}
