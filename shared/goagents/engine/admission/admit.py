"""Admission: one round of reads issued together, then one commit that makes the run and takes all it needs.

The run and its lease are created, the session, a slot of the cluster and an instance of the agent point at the run,
and the user's message is appended: all of it or nothing.
"""

import asyncio
import hashlib
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from goagents.access.principal import Principal
from goagents.engine.execution.history import HISTORY_LIMIT, conversation
from goagents.engine.execution.journal import Journal
from goagents.engine.loaded import LoadedCluster
from goagents.engine.names import AgentId
from goagents.engine.recovery.pointers import DELETING, Pointer, release_dead
from goagents.engine.services import Services
from goagents.engine.specs import cached, living, load, load_generation
from goagents.errors import Conflict, LimitExceeded, NotFound, OutcomeUnknown, SessionBusy, StoreConflict
from goagents.ids import new_id
from goagents.messages import MESSAGE, Message
from goagents.records import (
    IdempotencyRecord,
    LeaseRecord,
    MessageRecord,
    Paths,
    RunRecord,
    SessionRecord,
)
from goagents.spec.cluster import AgentSpec
from goagents.store.base import ABSENT, AtVersion, Document, Merge, Page, Put, Query, Snapshot, Write

from .capacity import Pool
from .places import Place

RUN_RETENTION = timedelta(days=30)
KEY_RETENTION = timedelta(days=1)
MAX_CONFLICTS = 12
POLL = 0.25  # seconds between looks at slots that other processes hold


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a caller asks for. `key` is the hash of the Idempotency-Key that names its record."""

    agent: AgentId
    message: Message
    session: str
    kind: Literal["chat", "stream"]
    key: str | None
    payload_hash: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """A run that may start. `head` is the number of its user message, the last one in the session."""

    run: RunRecord
    cluster: LoadedCluster
    agent: AgentSpec
    journal: Journal
    history: tuple[Message, ...]
    head: int


@dataclass(frozen=True, slots=True)
class Replay:
    """The idempotency key has been used for the same payload: this is its run."""

    run_id: str


def key_hash(principal: Principal, agent: AgentId, key: str) -> str:
    return hashlib.sha256("\0".join((principal.id, str(agent), key)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _View:
    """What one round of reads found."""

    snapshot: Snapshot
    messages: Page


class Admission:
    """One attempt to start one run, with its retries."""

    def __init__(self, services: Services, principal: Principal, ticket: Ticket) -> None:
        self._services = services
        self._principal = principal
        self._ticket = ticket
        self._paths = Paths(principal.tenant)
        self._run_id = new_id("run")
        self._tried: dict[str, Admitted] = {}
        self._unsure = False
        self._wide = False

    async def admit(self) -> Admitted | Replay:
        """Raises NotFound, Conflict, SessionBusy, LimitExceeded, StoreError."""
        ticket, services = self._ticket, self._services
        cluster = cached(services, self._paths, ticket.agent.namespace, ticket.agent.cluster) or await load(
            services, self._paths, ticket.agent.namespace, ticket.agent.cluster
        )
        give_up = services.clock.monotonic() + cluster.manifest.spec.resource_policy.queue_timeout
        conflicts = 0
        while True:
            agent = cluster.agent(ticket.agent.agent)
            try:
                outcome = await self._attempt(cluster, agent)
            except (LimitExceeded, SessionBusy):
                if not self._wide:
                    self._wide = True  # a first look probes few; the second one, at once, probes many
                    continue
                if services.clock.monotonic() >= give_up:
                    raise
                await self._slots(cluster).wait_released(POLL * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
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
            return outcome

    async def _attempt(self, cluster: LoadedCluster, agent: AgentSpec) -> Admitted | Replay | LoadedCluster:
        """Read, decide, commit. A LoadedCluster: there is a newer generation; decide again on that one."""
        if self._unsure and (found := await self._find_applied()):
            return found
        try:
            slot, instance = self._reserve(cluster, agent)
        except LimitExceeded:
            if replay := await self._find_replay():  # which needs no place
                return replay
            raise
        try:
            outcome = await self._decide(cluster, agent, slot, instance)
        except BaseException:
            slot.give_back()
            instance.give_back()
            raise
        if not isinstance(outcome, Admitted):
            slot.give_back()
            instance.give_back()
        return outcome

    async def _decide(
        self, cluster: LoadedCluster, agent: AgentSpec, slot: Place, instance: Place
    ) -> Admitted | Replay | LoadedCluster:
        view = await self._read(slot, instance)
        record = living(view.snapshot.get(self._cluster_path()), cluster.record.namespace, cluster.record.name)
        if (record.uid, record.generation) != (cluster.record.uid, cluster.record.generation):
            return await load_generation(self._services, self._paths, record)
        if replay := self._replay(view.snapshot):
            return replay
        session = await self._session(view, cluster)
        for place in (slot, instance):
            holders = place.choose(view.snapshot)
            if holders is not None:
                await self._all_taken(holders, place.full)
        return await self._commit(view, cluster, agent, session, slot, instance)

    def _cluster_path(self) -> str:
        return self._paths.cluster(self._ticket.agent.namespace, self._ticket.agent.cluster)

    def _slots(self, cluster: LoadedCluster) -> Pool:
        return self._services.capacity.pool(self._paths.slots(cluster.record.namespace, cluster.record.name))

    def _reserve(self, cluster: LoadedCluster, agent: AgentSpec) -> tuple[Place, Place]:
        """Return a slot and an instance that nobody in this process holds. Raises LimitExceeded."""
        slot = self._slot(cluster)
        try:
            return slot, self._instance(cluster, agent)
        except LimitExceeded:
            slot.give_back()
            raise

    def _slot(self, cluster: LoadedCluster) -> Place:
        record, size = cluster.record, cluster.manifest.spec.resource_policy.max_concurrent_agents
        return Place.reserve(
            self._slots(cluster),
            size,
            lambda number: self._paths.slot(record.namespace, record.name, number),
            f"All {size} concurrent runs of the cluster {record.name!r} are in use (max_concurrent_agents).",
            wide=self._wide,
        )

    def _instance(self, cluster: LoadedCluster, agent: AgentSpec) -> Place:
        record, size = cluster.record, cluster.manifest.max_instances(agent)
        return Place.reserve(
            instance_pool(self._services, self._paths, record.namespace, record.name, agent.name),
            size,
            lambda number: self._paths.instance(record.namespace, record.name, agent.name, number),
            f"All {size} instances of the agent {agent.name!r} are in use (max_instances).",
            wide=self._wide,
        )

    async def _read(self, slot: Place, instance: Place) -> _View:
        ticket = self._ticket
        keys = [self._cluster_path(), self._paths.session(ticket.session)]
        keys += [*slot.paths.values(), *instance.paths.values()]
        if ticket.key is not None:
            keys.append(self._paths.idempotency(ticket.key))
        last = Query(self._paths.messages(ticket.session), descending=True, limit=HISTORY_LIMIT)
        snapshot, messages = await asyncio.gather(self._services.store.get_many(keys), self._services.store.query(last))
        return _View(snapshot, messages)

    async def _find_replay(self) -> Replay | None:
        if self._ticket.key is None:
            return None
        return self._replay(await self._services.store.get_many([self._paths.idempotency(self._ticket.key)]))

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
        """Return the session's document if it is there and free. Raises SessionBusy, NotFound, Conflict."""
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
            if await release_dead(self._services, self._paths, [pointer]):
                raise StoreConflict("The session was freed of a dead run; read again.")
            raise SessionBusy(
                f"The session {session.id!r} is busy with the run {session.active_run}; wait for it to end.",
                retry_after=1,
            )
        newest = view.messages.documents[0].data["seq"] if view.messages.documents else 0
        if newest != session.head:
            raise StoreConflict("The session changed between two reads; read again.")
        return document

    async def _all_taken(self, holders: list[Pointer], full: str) -> None:
        if await release_dead(self._services, self._paths, holders):
            raise StoreConflict("A dead run was cleared away; read again.")
        raise LimitExceeded(full, retry_after=1)

    async def _commit(
        self,
        view: _View,
        cluster: LoadedCluster,
        agent: AgentSpec,
        session: Document | None,
        slot: Place,
        instance: Place,
    ) -> Admitted:
        head = (SessionRecord.of(session.data).head if session else 0) + 1
        run = self._run(cluster, agent, slot.number, instance.number)
        lease = LeaseRecord(
            token=new_id("lease"),
            owner=self._services.owner,
            attempt=1,
            renewed_at=run.created_at,
            ttl=self._services.lease_ttl,
            commit_id=new_id("commit"),
            expire_at=run.expire_at,
        )
        history = (*(conversation(view.messages.documents) if session else ()), self._ticket.message)
        path = self._paths.lease(run.id)
        admitted = Admitted(
            run, cluster, agent, Journal(self._services.store, self._services.clock, path, lease), history, head
        )
        self._tried[lease.commit_id] = admitted
        held = {"run": run.id}
        done = await self._services.store.commit(
            [
                Put(self._paths.run(run.id), run.data(), ABSENT),
                Put(path, _without(lease.data(), "renewed_at"), ABSENT, server_time=("renewed_at",)),
                self._session_write(run, session, head),
                Put(self._paths.message(run.session, head), self._message(run, head).data(), ABSENT),
                Merge(slot.path, held, slot.precondition(view.snapshot)),
                Merge(
                    instance.path,
                    {**held, "agent": agent.name, "number": instance.number},
                    instance.precondition(view.snapshot),
                    server_time=("last_active_at",),
                ),
                *self._key_write(run),
            ]
        )
        admitted.journal.begin(done.versions[path], done.committed_at)
        return admitted

    def _run(self, cluster: LoadedCluster, agent: AgentSpec, slot: int, instance: int) -> RunRecord:
        now, ticket = self._services.clock.now(), self._ticket
        return RunRecord(
            id=self._run_id,
            kind=ticket.kind,
            status="running",
            session=ticket.session,
            namespace=cluster.record.namespace,
            cluster=cluster.record.name,
            cluster_uid=cluster.record.uid,
            generation=cluster.record.generation,
            agent=agent.name,
            principal=self._principal.id,
            slot=slot,
            instance=instance,
            input=MESSAGE.dump_python(ticket.message, mode="json"),
            created_at=now,
            started_at=now,
            expire_at=now + RUN_RETENTION,
        )

    def _session_write(self, run: RunRecord, session: Document | None, head: int) -> Write:
        path = self._paths.session(run.session)
        moving = {"head": head, "active_run": run.id, "updated_at": run.created_at}
        if session is not None:
            return Merge(path, moving, AtVersion(session.version))
        fresh = SessionRecord(
            id=run.session,
            namespace=run.namespace,
            cluster=run.cluster,
            cluster_uid=run.cluster_uid,
            principal=run.principal,
            created_at=run.created_at,
            **moving,
        )
        return Put(path, fresh.data(), ABSENT)

    def _message(self, run: RunRecord, seq: int) -> MessageRecord:
        return MessageRecord(seq=seq, run=run.id, agent=run.agent, message=run.input, created_at=run.created_at)

    def _key_write(self, run: RunRecord) -> list[Write]:
        ticket = self._ticket
        if ticket.key is None:
            return []
        record = IdempotencyRecord(
            run=run.id, payload_hash=ticket.payload_hash, expire_at=run.created_at + KEY_RETENTION
        )
        return [Put(self._paths.idempotency(ticket.key), record.data(), ABSENT)]

    async def _find_applied(self) -> Admitted | None:
        """After a lost answer: return the admission that the store holds after all, if one of ours is there."""
        path = self._paths.lease(self._run_id)
        document = (await self._services.store.get_many([path])).get(path)
        if document is None:
            return None
        lease = LeaseRecord.of(document.data)
        admitted = self._tried[lease.commit_id]
        take_places(self._services, self._paths, admitted.run)
        admitted.journal.begin(document.version, lease.renewed_at)
        return admitted


def take_places(services: Services, paths: Paths, run: RunRecord) -> None:
    """Note in this process that `run` holds its slot and its instance."""
    for pool, number in _held(services, paths, run):
        pool.take(number)


def free_places(services: Services, paths: Paths, run: RunRecord) -> None:
    """Note in this process that `run` has released its slot and its instance."""
    for pool, number in _held(services, paths, run):
        pool.free(number)


def _held(services: Services, paths: Paths, run: RunRecord) -> list[tuple[Pool, int]]:
    slots = services.capacity.pool(paths.slots(run.namespace, run.cluster))
    instances = instance_pool(services, paths, run.namespace, run.cluster, run.agent)
    return [(pool, n) for pool, n in ((slots, run.slot), (instances, run.instance)) if n is not None]


def instance_pool(services: Services, paths: Paths, namespace: str, cluster: str, agent: str) -> Pool:
    return services.capacity.pool(f"{paths.instances(namespace, cluster)}/{agent}")


def _without(data: dict[str, Any], field: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != field}
