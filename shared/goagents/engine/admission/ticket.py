"""What a caller asks for, and the records that a run begins with."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from goagents.engine.execution.handle import batch_write
from goagents.engine.keeping import alive_until, expiry
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
    """The records of a run to be. `timeout` is its agent's, in seconds."""

    services: Services
    paths: Paths
    ticket: Ticket
    principal: str
    run_id: str
    cluster: ClusterRecord
    agent: str
    timeout: float | None = None

    def running(self, head: int, slot: int, instance: int) -> RunRecord:
        """Return a run that begins with its commit, whose time is the store's to say (`writes`)."""
        return self._run(self.services.clock.now(), status="running", head=head, slot=slot, instance=instance)

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
            key=ticket.key,
            input=MESSAGE.dump_python(ticket.message, mode="json"),
            created_at=now,
            expire_at=expiry(self.services.runs, now, self.timeout),
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
            Put(
                self.paths.run(run.id),
                run.data(),
                ABSENT,
                server_time=("started_at",) if run.status == "running" else (),
            ),
            Put(self.paths.lease(run.id), data, ABSENT, server_time=("renewed_at",)),
        ]
        if self.ticket.key is not None:
            key = IdempotencyRecord(
                run=run.id,
                payload_hash=self.ticket.payload_hash,
                expire_at=alive_until(self.services.runs, run.created_at, self.timeout),
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

    def queued(self, document: Document | None, overtaken: Sequence[RunRecord] | None = None) -> Queued:
        """Return a run that nobody executes: behind the session's run in progress, or its first one.

        `overtaken`: it interrupts that one, and so do these runs of the queue's head, whose turn comes before its own:
        their messages stay in the order they came in, and only the newest one is answered.
        """
        session = SessionRecord.of(document.data) if document else None
        active = session.active_run if session else None
        head = (session.head if session else 0) + 1 if active is None else None
        interrupts = True if active is not None and overtaken is not None else None
        run = self._run(
            self.services.clock.now(), status="queued", attempt=0, head=head, event="0-1", interrupts=interrupts
        )
        lease = self.lease(run, "", self.services.runs.dispatch_grace, attempt=0)
        about = {"run_id": run.id, "session_id": run.session, "agent": str(self.ticket.agent)}
        writes = [
            *self.writes(run, lease),
            batch_write(self.paths, run.id, [RunEvent("run.queued", about, 0, 1)], run.expire_at),
        ]
        if active is None or session is None:
            writes += [self.session_write(document, {"head": head, "active_run": run.id})[0], self.message(run)]
            return Queued(run.id, lease.token, writes, active=True)
        place = len(session.queue) if overtaken is None else len(overtaken)
        queue = [*session.queue[:place], run.id, *session.queue[place:]]
        writes.append(self.session_write(document, {"queue": queue})[0])
        if overtaken is None:
            return Queued(run.id, lease.token, writes, active=False)
        # of those overtaken, all but the newest one were cancelled by the one that came behind them
        stopped = [active, *(one.id for one in overtaken[-1:])]
        writes += [self._cancel(one, run.expire_at) for one in stopped]
        return Queued(run.id, lease.token, writes, active=False, interrupts=active)

    def _cancel(self, run: str, expire_at: datetime | None) -> Write:
        signal = SignalRecord(
            kind="cancel",
            principal=self.principal,
            reason=INTERRUPTED,
            created_at=self.services.clock.now(),
            expire_at=expire_at,
        )
        return Put(self.paths.signal(run, signal.kind), signal.data())
