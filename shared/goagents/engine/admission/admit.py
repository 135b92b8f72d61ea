"""Admission: one round of reads issued together, then one commit that makes the run and takes all it needs.

The run and its lease are created, the session, a slot of the cluster and an instance of the agent point at the run,
and the user's message is appended: all of it or nothing. Where the session is busy the run is queued behind the one in
progress, which promotes it as it ends; a run for the background takes no place yet, and is dispatched.
"""

import asyncio
import hashlib
import random
from dataclasses import dataclass, replace

from goagents.access.principal import Principal
from goagents.engine.deletion import ADMITTING, delete_runs_and_sessions
from goagents.engine.execution.claim import Claim
from goagents.engine.execution.context import History, newest_messages, read_history
from goagents.engine.execution.journal import Journal
from goagents.engine.loaded import LoadedCluster
from goagents.engine.names import AgentId
from goagents.engine.recovery.pointers import DELETING, Pointer, recover
from goagents.engine.recovery.turns import advance
from goagents.engine.services import Services
from goagents.engine.specs import check_living, cluster_not_found, living, load_generation, load_with_agent
from goagents.errors import Conflict, LimitExceeded, NotFound, OutcomeUnknown, SessionBusy, StoreConflict
from goagents.events import Cursor
from goagents.ids import new_id
from goagents.records import IdempotencyRecord, LeaseRecord, Paths, RunRecord, SessionRecord
from goagents.spec.cluster import AgentSpec
from goagents.store.base import MAX_PAGE, Document, Page, Snapshot

from .places import Places, free_places, slot_pool, take_places
from .ticket import Draft, Queued, Replay, Ticket

MAX_CONFLICTS = 12
POLL = 0.25  # seconds between looks at slots that other processes hold


def key_hash(principal: Principal, agent: AgentId, key: str) -> str:
    return hashlib.sha256("\0".join((principal.id, str(agent), key)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _View:
    """What one round of reads found."""

    snapshot: Snapshot
    messages: Page


Outcome = Claim | Queued | Replay


class Admission:
    """One attempt to start one run, with its retries."""

    def __init__(self, services: Services, principal: Principal, ticket: Ticket) -> None:
        self._services = services
        self._principal = principal
        self._ticket = ticket
        self._paths = Paths(principal.tenant)
        self._run_id = new_id("run")
        self._tried: dict[str, Claim | Queued] = {}
        self._unsure = False
        self._wide = False
        self._read_at = 0.0

    async def admit(self) -> Outcome:
        """Raises NotFound, Conflict, SessionBusy, LimitExceeded, StoreError."""
        ticket, services = self._ticket, self._services
        cluster = await load_with_agent(services, self._paths, ticket.agent)
        give_up = services.clock.monotonic() + cluster.manifest.spec.resource_policy.queue_timeout
        conflicts = 0
        while True:
            agent = cluster.agent(ticket.agent.agent)
            try:
                outcome = await self._attempt(cluster, agent)
            except LimitExceeded as full:
                if full.retry_after is None:
                    raise  # no place to wait for
                if not self._wide:
                    self._wide = True  # a first look probes few; the second one, at once, probes many
                    continue
                if services.ending or services.clock.monotonic() >= give_up:
                    raise
                await self._wait(cluster)
                continue
            except (StoreConflict, OutcomeUnknown) as error:
                conflicts += 1
                if conflicts >= MAX_CONFLICTS:
                    raise
                self._unsure = self._unsure or isinstance(error, OutcomeUnknown)
                await services.clock.sleep(random.uniform(0, 0.01) * 2 ** min(conflicts, 6))  # noqa: S311 - jitter
                continue
            if isinstance(outcome, LoadedCluster):
                cluster = outcome
                continue
            if not isinstance(outcome, Replay):
                await self._look_back(outcome)
            return outcome

    async def _look_back(self, outcome: Claim | Queued) -> None:
        """After an admission that took long: what deletes its cluster may have missed the run. Raises NotFound."""
        services = self._services
        if not self._unsure and services.clock.monotonic() - self._read_at < ADMITTING:
            return
        try:
            await self._check_there()
        except BaseException:
            if isinstance(outcome, Claim):
                free_places(services, self._paths, outcome.run, idle=False)
            raise

    async def _check_there(self) -> None:
        """Raises NotFound where the cluster that the run was admitted to is deleted; the run is, too, then."""
        store, keys = self._services.store, [self._cluster_path(), self._paths.run(self._run_id)]
        snapshot = await store.get_many(keys)
        cluster, run = (snapshot.get(key) for key in keys)
        if run is None:  # what deletes the cluster has found it
            raise cluster_not_found(self._ticket.agent.namespace, self._ticket.agent.cluster)
        try:
            check_living(cluster, RunRecord.of(run.data))
        except NotFound:
            await delete_runs_and_sessions(store, self._paths, run.data["cluster_uid"])
            raise

    async def _wait(self, cluster: LoadedCluster) -> None:
        slots = slot_pool(self._services, self._paths, cluster.record.namespace, cluster.record.name)
        await slots.wait_released(POLL * random.uniform(0.5, 1.5))  # noqa: S311 - jitter

    async def _attempt(self, cluster: LoadedCluster, agent: AgentSpec) -> Outcome | LoadedCluster:
        """Read, decide, commit. A LoadedCluster: there is a newer generation; decide again on that one."""
        if self._unsure and (found := await self._find_applied()):
            return found
        if self._ticket.kind == "background":
            return await self._decide(cluster, agent, None)
        try:
            places = Places.reserve(self._services, self._paths, cluster, agent, wide=self._wide)
        except LimitExceeded:
            # A used key needs no place, and neither does a run that is queued.
            if outcome := await self._without_place(cluster, agent):
                return outcome
            raise
        try:
            outcome = await self._decide(cluster, agent, places)
        except BaseException:
            places.give_back()
            raise
        if not isinstance(outcome, Claim):
            places.give_back()
        return outcome

    async def _without_place(self, cluster: LoadedCluster, agent: AgentSpec) -> Outcome | LoadedCluster | None:
        view = await self._read(None)
        record = living(view.snapshot.get(self._cluster_path()), cluster.record.namespace, cluster.record.name)
        if replay := self._replay(view.snapshot):
            return replay
        if (record.uid, record.generation) != (cluster.record.uid, cluster.record.generation):
            return await load_generation(self._services, self._paths, record)
        session = await self._session(view, cluster)
        return await self._queue(cluster, agent, session) if _is_busy(session) else None

    async def _decide(self, cluster: LoadedCluster, agent: AgentSpec, places: Places | None) -> Outcome | LoadedCluster:
        view = await self._read(places)
        record = living(view.snapshot.get(self._cluster_path()), cluster.record.namespace, cluster.record.name)
        if (record.uid, record.generation) != (cluster.record.uid, cluster.record.generation):
            return await load_generation(self._services, self._paths, record)
        if replay := self._replay(view.snapshot):
            return replay
        session = await self._session(view, cluster)
        if _is_busy(session) or places is None:
            return await self._queue(cluster, agent, session)
        if (taken := places.choose(view.snapshot)) is not None:
            await self._all_taken(*taken)
        return await self._commit(view, cluster, agent, session, places)

    def _cluster_path(self) -> str:
        return self._paths.cluster(self._ticket.agent.namespace, self._ticket.agent.cluster)

    async def _read(self, places: Places | None) -> _View:
        ticket = self._ticket
        keys = [self._cluster_path(), self._paths.session(ticket.session), *(places.paths if places else ())]
        if ticket.key is not None:
            keys.append(self._paths.idempotency(ticket.key))
        store = self._services.store
        self._read_at = self._services.clock.monotonic()
        snapshot, messages = await asyncio.gather(
            store.get_many(keys), store.query(newest_messages(self._paths, ticket.session))
        )
        return _View(snapshot, messages)

    def _replay(self, snapshot: Snapshot) -> Replay | None:
        ticket = self._ticket
        document = snapshot.get(self._paths.idempotency(ticket.key)) if ticket.key else None
        if document is None:
            return None
        record = IdempotencyRecord.of(document.data)
        if record.payload_hash != ticket.payload_hash:
            raise Conflict("This Idempotency-Key was used for another request; use a fresh key.")
        return Replay(record.run)

    async def _session(self, view: _View, cluster: LoadedCluster) -> Document | None:
        """Return the session's document if it is there and may be used. Raises NotFound, Conflict."""
        document = view.snapshot.get(self._paths.session(self._ticket.session))
        if document is None:
            return None
        session = SessionRecord.of(document.data)
        if session.principal != self._principal.id:
            raise NotFound(f"There is no session {session.id!r}.")
        if session.cluster_uid != cluster.record.uid:
            raise Conflict(f"The session {session.id!r} belongs to the cluster {session.cluster!r}; start another one.")
        if session.active_run == DELETING:
            raise Conflict(f"The session {session.id!r} is being deleted; start another one.")
        if session.active_run is not None:
            pointer = Pointer(document.path, "active_run", session.active_run)
            if await recover(self._services, self._paths, [pointer]):
                raise StoreConflict("The session was freed of a run that is over; read again.")
            return document
        if session.queue:  # nobody gave the next one its turn, and it goes before this one
            await advance(self._services, self._paths, document)
            raise StoreConflict("A run that waited got its turn; read again.")
        newest = view.messages.documents[0].data["seq"] if view.messages.documents else 0
        if newest != session.head:
            raise StoreConflict("The session changed between two reads; read again.")
        return document

    async def _all_taken(self, holders: list[Pointer], full: str) -> None:
        if await recover(self._services, self._paths, holders):
            raise StoreConflict("A pointer was cleared; read again.")
        raise LimitExceeded(full, retry_after=1)

    async def _queue(self, cluster: LoadedCluster, agent: AgentSpec, document: Document | None) -> Queued:
        """Commit a run that takes no place yet: behind the one in progress, or for a worker. Raises SessionBusy."""
        session = SessionRecord.of(document.data) if document else None
        busy = session is not None and session.active_run is not None
        policy = self._ticket.policy or agent.session_policy
        if session is not None and busy and policy == "reject":
            raise SessionBusy(
                f"The session {session.id!r} is busy with the run {session.active_run}; wait for it to end.",
                retry_after=1,
            )
        most = self._services.runs.max_queue
        if session is not None and len(session.queue) >= most:
            raise LimitExceeded(f"{most} runs wait in the session {session.id!r} (runs.max_queue).")
        draft = self._draft(cluster, agent)
        overtaken = await self._overtaken(session) if policy == "interrupt" else None
        queued = draft.queued(document, overtaken)
        self._tried[queued.token] = queued
        await self._services.store.commit(queued.writes)
        return queued

    async def _overtaken(self, session: SessionRecord | None) -> list[RunRecord]:
        """Return the runs at the head of the session's queue that interrupt the one in progress, too."""
        queue, found = session.queue if session else [], list[RunRecord]()
        for start in range(0, len(queue), MAX_PAGE):
            paths = [self._paths.run(run) for run in queue[start : start + MAX_PAGE]]
            snapshot = await self._services.store.get_many(paths)
            for path in paths:
                document = snapshot.get(path)
                run = RunRecord.of(document.data) if document is not None else None
                if run is None or not run.interrupts:
                    return found
                found.append(run)
        return found

    def _draft(self, cluster: LoadedCluster, agent: AgentSpec) -> Draft:
        return Draft(
            self._services,
            self._paths,
            self._ticket,
            self._principal.id,
            self._run_id,
            cluster.record,
            agent.name,
            agent.timeout,
        )

    async def _commit(
        self, view: _View, cluster: LoadedCluster, agent: AgentSpec, session: Document | None, places: Places
    ) -> Claim:
        draft = self._draft(cluster, agent)
        head = (SessionRecord.of(session.data).head if session else 0) + 1
        run = draft.running(head, places.slot.number, places.instance.number)
        lease = draft.lease(run, self._services.owner, self._services.runs.lease_ttl, attempt=1)
        record = SessionRecord.of(session.data) if session else None
        history = await read_history(self._services.store, self._paths, record, view.messages) if record else History()
        journal = Journal(self._services.store, self._services.clock, self._paths.lease(run.id), lease)
        session_write, after = draft.session_write(session, {"head": head, "active_run": run.id})
        about = {"run_id": run.id, "session_id": run.session, "agent": str(self._ticket.agent), "attempt": 1}
        claim = Claim(
            run,
            cluster,
            agent,
            journal,
            history,
            ("run.started", about),
            Cursor(0, 0),
            unknown=frozenset(record.doubts if record else ()),
        )
        self._tried[lease.token] = claim
        done = await self._services.store.commit(
            [*draft.writes(run, lease), session_write, draft.message(run), *places.writes(view.snapshot, run.id)]
        )
        own = (self._paths.run(run.id), places.slot.path, places.instance.path)
        journal.begin(
            done.versions[self._paths.lease(run.id)], done.committed_at, {path: done.versions[path] for path in own}
        )
        return replace(
            claim,
            run=run.model_copy(update={"started_at": done.committed_at}),
            session=Document(session_write.path, after, done.versions[session_write.path]),
        )

    async def _find_applied(self) -> Outcome | None:
        """After a lost answer: return the admission that the store holds after all, if one of ours is there."""
        path = self._paths.lease(self._run_id)
        document = (await self._services.store.get_many([path])).get(path)
        if document is None:
            return None
        lease = LeaseRecord.of(document.data)
        admitted = self._tried.get(lease.token)
        if not isinstance(admitted, Claim):
            return admitted or Replay(self._run_id)  # somebody has taken it up already
        take_places(self._services, self._paths, admitted.run)
        admitted.journal.begin(document.version, lease.renewed_at)
        # one commit wrote both times, unless the lease was renewed since, which only its owner does
        return replace(admitted, run=admitted.run.model_copy(update={"started_at": lease.renewed_at}))


def _is_busy(session: Document | None) -> bool:
    return session is not None and session.data.get("active_run") is not None
