"""What a caller asks for, and the records that a run begins with."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from goagents.engine.execution.handle import batch_write
from goagents.engine.names import AgentId
from goagents.engine.services import Services
from goagents.events import RunEvent
from goagents.ids import new_id
from goagents.messages import MESSAGE, Message
from goagents.records import (
    ClusterRecord,
    IdempotencyRecord,
    LeaseRecord,
    MessageRecord,
    Paths,
    RunRecord,
    SessionRecord,
    SignalRecord,
)
from goagents.resources import SessionPolicy
from goagents.store.base import ABSENT, AtVersion, Document, Merge, Put, Write

KEY_RETENTION = timedelta(days=1)
INTERRUPTED = "a newer message of its session took its place"
Kind = Literal["chat", "stream", "background"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a caller asks for. `key` is the hash of the Idempotency-Key that names its record.

    `policy` is what to do with a busy session, None: as the agent says.
    """

    agent: AgentId
    message: Message
    session: str
    kind: Kind
    key: str | None
    payload_hash: str
    policy: SessionPolicy | None = None
    webhook: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """The idempotency key has been used for the same payload: this is its run."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Queued:
    """A run that is in the store and executed by nobody yet. `active`: its session is its own, so it may begin.

    `interrupts` is the run to cancel so that it comes to that.
    """

    run_id: str
    token: str
    writes: list[Write]
    active: bool
    interrupts: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """The records of a run to be."""

    services: Services
    paths: Paths
    ticket: Ticket
    principal: str
    run_id: str
    cluster: ClusterRecord
    agent: str

    def running(self, head: int, slot: int, instance: int) -> RunRecord:
        now = self.services.clock.now()
        return self._run(now, status="running", head=head, slot=slot, instance=instance, started_at=now)

    def _run(self, now: datetime, **more: Any) -> RunRecord:
        ticket = self.ticket
        return RunRecord(
            id=self.run_id,
            kind=ticket.kind,
            session=ticket.session,
            namespace=self.cluster.namespace,
            cluster=self.cluster.name,
            cluster_uid=self.cluster.uid,
            generation=self.cluster.generation,
            agent=self.agent,
            principal=self.principal,
            webhook=ticket.webhook,
            input=MESSAGE.dump_python(ticket.message, mode="json"),
            created_at=now,
            expire_at=now + timedelta(seconds=self.services.runs.retention),
            **more,
        )

    def lease(self, run: RunRecord, owner: str, ttl: float, attempt: int) -> LeaseRecord:
        return LeaseRecord(
            token=new_id("lease"),
            owner=owner,
            attempt=attempt,
            renewed_at=run.created_at,
            ttl=ttl,
            commit_id=new_id("commit"),
            expire_at=run.expire_at,
        )

    def writes(self, run: RunRecord, lease: LeaseRecord) -> list[Write]:
        """Return what makes the run, its lease and the record of its key."""
        data = {name: value for name, value in lease.data().items() if name != "renewed_at"}
        writes: list[Write] = [
            Put(self.paths.run(run.id), run.data(), ABSENT),
            Put(self.paths.lease(run.id), data, ABSENT, server_time=("renewed_at",)),
        ]
        if self.ticket.key is not None:
            key = IdempotencyRecord(
                run=run.id, payload_hash=self.ticket.payload_hash, expire_at=run.created_at + KEY_RETENTION
            )
            writes.append(Put(self.paths.idempotency(self.ticket.key), key.data(), ABSENT))
        return writes

    def message(self, run: RunRecord) -> Write:
        """Return what appends the user's message as number `run.head`."""
        seq = run.head or 0
        record = MessageRecord(seq=seq, run=run.id, agent=run.agent, message=run.input, created_at=run.created_at)
        return Put(self.paths.message(run.session, seq), record.data(), ABSENT)

    def session_write(self, document: Document | None, changed: dict[str, Any]) -> tuple[Write, dict[str, Any]]:
        """Return the write of the session, and its data as they are then."""
        now, path = self.services.clock.now(), self.paths.session(self.ticket.session)
        if document is not None:
            merged = {**changed, "updated_at": now}
            return Merge(path, merged, AtVersion(document.version)), {**document.data, **merged}
        fresh = SessionRecord(
            id=self.ticket.session,
            namespace=self.cluster.namespace,
            cluster=self.cluster.name,
            cluster_uid=self.cluster.uid,
            principal=self.principal,
            created_at=now,
            updated_at=now,
            **changed,
        )
        return Put(path, fresh.data(), ABSENT), fresh.data()

    def queued(self, document: Document | None, *, interrupt: bool) -> Queued:
        """Return a run that nobody executes: behind the session's run in progress, or its first one."""
        session = SessionRecord.of(document.data) if document else None
        active = session.active_run if session else None
        head = (session.head if session else 0) + 1 if active is None else None
        run = self._run(self.services.clock.now(), status="queued", attempt=0, head=head, event="0-1")
        lease = self.lease(run, "", self.services.runs.dispatch_grace, attempt=0)
        about = {"run_id": run.id, "session_id": run.session, "agent": str(self.ticket.agent)}
        writes = [
            *self.writes(run, lease),
            batch_write(self.paths, run.id, [RunEvent("run.queued", about, 0, 1)], run.expire_at),
        ]
        if active is None or session is None:
            writes += [self.session_write(document, {"head": head, "active_run": run.id})[0], self.message(run)]
            return Queued(run.id, lease.token, writes, active=True)
        queue = [run.id, *session.queue] if interrupt else [*session.queue, run.id]
        writes.append(self.session_write(document, {"queue": queue})[0])
        if interrupt:
            writes.append(self._cancel(active, run.expire_at))
        return Queued(run.id, lease.token, writes, active=False, interrupts=active if interrupt else None)

    def _cancel(self, run: str, expire_at: datetime | None) -> Write:
        signal = SignalRecord(
            kind="cancel",
            principal=self.principal,
            reason=INTERRUPTED,
            created_at=self.services.clock.now(),
            expire_at=expire_at,
        )
        return Put(self.paths.signal(run, signal.kind), signal.data())
