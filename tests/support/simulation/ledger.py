"""The store that all processes share, which checks each commit as it is applied.

It keeps a copy of every document, so it can tell what a commit changes; what must hold at any moment is checked here,
whoever wrote and whatever the writer was told.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from goagents.ids import sequence
from goagents.messages import MESSAGE
from goagents.records import TERMINAL, Paths
from goagents.store.base import AtVersion, Commit, Delete, Put, Store, Write
from goagents.testing.kill_points import Boundary, classify
from goagents.testing.stores import Method

from .times import MachineClock

T = TypeVar("T")
PATHS = Paths("default")
NAMESPACE, CLUSTER = "default", "office"
MOVES = {
    None: {"queued", "running"},
    "queued": {"running", *TERMINAL},
    "running": {"running", "handed_off", "waiting", *TERMINAL},
    "handed_off": {"running", *TERMINAL},
    "waiting": {"handed_off", *TERMINAL},
}


class Process(Protocol):
    """Who writes. `owner` is its name in leases."""

    @property
    def name(self) -> str: ...

    @property
    def owner(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Change:
    write: Write
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @property
    def path(self) -> str:
        return self.write.path

    @property
    def run(self) -> str | None:
        """The run that the document belongs to."""
        parts = self.path.split("/")
        return parts[3] if parts[2:3] == ["runs"] else None


class Ledger:
    """Every call blocks the event loop until the store has answered, so the same calls are the same history.

    `wrong` is what must not be, as it was found; `history` what happened; `recorded` in which attempt of its run each
    step was; `allowed` how often people allowed a call.
    """

    def __init__(self, store: Store, clock: MachineClock, *, slots: int, instances: dict[str, int]) -> None:
        self.store = store
        self.clock = clock
        self.slots = slots
        self.instances = instances
        self.documents: dict[str, dict[str, Any]] = {}
        self.wrong: list[str] = []
        self.history: list[str] = []
        self.met: Counter[Boundary] = Counter()
        self.recorded: dict[str, int] = {}
        self.answered: dict[tuple[str, str], int] = {}
        self.allowed: Counter[tuple[str, str]] = Counter()
        self.run_of: dict[int, str] = {}
        self._latest = clock.now()
        self._thread = _StoreThread()

    def close(self) -> None:
        self._thread.do(self.store.aclose())
        self._thread.close()

    def ask(self, method: Method, subject: Any, by: Process) -> Any:
        """Do what a process asks of the store, at once."""
        self._latest = max(self._latest, self.clock.now())
        if method == "commit":
            return self._commit(subject, by)
        given = () if subject is None else (subject,)
        return self._thread.do(getattr(self.store, method)(*given))

    def note(self, text: str) -> None:
        self.history.append(f"{self.clock.monotonic():10.3f} {text}")

    def fault(self, text: str) -> None:
        self.note(f"WRONG: {text}")
        self.wrong.append(f"at {self.clock.monotonic():.3f}: {text}")

    def run(self, run_id: str) -> dict[str, Any]:
        return self.documents[PATHS.run(run_id)]

    def runs(self) -> dict[str, dict[str, Any]]:
        return {data["id"]: data for path, data in self.under(PATHS.runs()).items()}

    def under(self, collection: str) -> dict[str, dict[str, Any]]:
        """Return the documents of a collection, in the order of their ids."""
        depth = collection.count("/") + 1
        found = (path for path in self.documents if path.startswith(collection + "/") and path.count("/") == depth)
        return {path: self.documents[path] for path in sorted(found)}

    def called(self, run_id: str) -> str:
        """Return a name for people: the number of the request, and the run's id."""
        number = next((number for number, run in self.run_of.items() if run == run_id), "?")
        return f"#{number}"

    def _commit(self, writes: Sequence[Write], by: Process) -> Commit:
        kinds = classify(writes)
        name = "+".join(sorted(kinds)) or "other"
        runs = sorted({self.called(parts[3]) for w in writes if (parts := w.path.split("/"))[2:3] == ["runs"]})
        try:
            done = self._thread.do(self.store.commit(writes))
        except Exception as error:
            self.note(f"{by.name} {name} {' '.join(runs)}: {type(error).__name__}")
            raise
        changes = [self._apply(write, done.committed_at) for write in writes]
        self._index(changes)
        runs = sorted({self.called(run) for change in changes if (run := change.run)})
        self.note(f"{by.name} {name} {' '.join(runs)}")
        self.met.update(kinds)
        self._check(changes, by)
        return done

    def _apply(self, write: Write, now: datetime) -> Change:
        before = self.documents.get(write.path)
        if isinstance(write, Delete):
            self.documents.pop(write.path, None)
            return Change(write, before, None)
        after = {} if isinstance(write, Put) else dict(before or {})
        after |= write.data
        for name, amount in ({} if isinstance(write, Put) else write.increments).items():
            after[name] = after.get(name, 0) + amount
        after |= dict.fromkeys(write.server_time, now)
        self.documents[write.path] = after
        return Change(write, before, after)

    def _index(self, changes: list[Change]) -> None:
        for change in changes:
            if change.before is None and change.after is not None and change.path == PATHS.run(change.run or ""):
                number = int(MESSAGE.validate_python(change.after["input"]).text.split()[0][1:])
                if number in self.run_of:
                    self.fault(f"the request #{number} made two runs")
                self.run_of[number] = change.after["id"]

    def _check(self, changes: list[Change], by: Process) -> None:
        by_run: dict[str, list[Change]] = {}
        for change in changes:
            if change.run is not None:
                by_run.setdefault(change.run, []).append(change)
        sessions = {path.split("/")[3] for path in (c.path for c in changes) if path.split("/")[2:3] == ["sessions"]}
        for run, its in by_run.items():
            sessions.add(self.run(run)["session"])
            self._check_lease(run, its, by)
            for change in its:
                self._check_record(run, change)
        for change in changes:
            before, after = change.before or {}, change.after or {}
            if "/messages/" in change.path and before:
                self.fault(f"{by.name} overwrote the message {change.path}")
            elif "/sessions/" in change.path and after.get("compacted", 0) < before.get("compacted", 0):
                self.fault(f"{by.name} takes a summary back: {change.path}")
        for session in sessions:
            self._check_session(session)
        self._check_places()

    def _check_lease(self, run: str, changes: list[Change], by: Process) -> None:
        """Whoever writes below a run must have its lease; one that is over, or nobody's, may be taken."""
        name = self.called(run)
        if all("/signals/" in change.path for change in changes):
            return
        lease = next((change for change in changes if change.path == PATHS.lease(run)), None)
        if lease is None or lease.after is None:
            self.fault(f"{by.name} wrote {[change.path for change in changes]} without the lease of {name}")
            return
        if lease.before is None:
            return
        old, new = lease.before, lease.after
        if not isinstance(lease.write, Delete) and not isinstance(lease.write.precondition, AtVersion):
            self.fault(f"{by.name} wrote the lease of {name} without knowing what it replaces")
        if old["token"] == new["token"]:
            if old["owner"] and old["owner"] != by.owner:
                self.fault(f"{by.name} wrote {name} with the token of another process")
            unheld = len(changes) == 1 and not new["owner"]  # no worker comes for it: it need not be waited for
            if not old["owner"] and not unheld and not _promotes(run, changes):
                self.fault(f"{by.name} wrote {name}, whose lease it had given up")
            return
        over = self._latest > old["renewed_at"] + timedelta(seconds=old["ttl"])
        if old["owner"] and not over and not _overtakes_an_end(run, changes):
            self.fault(f"{by.name} took the lease of {name} from a process that is alive")

    def _check_record(self, run: str, change: Change) -> None:
        """The run itself, its steps, its events."""
        name, before, after = self.called(run), change.before, change.after
        if change.path == PATHS.run(run) and after is not None:
            old = before["status"] if before else None
            if old in TERMINAL and after != before:
                self.fault(f"{name} was over ({old}), and was written again: {after['status']}")
            elif old not in TERMINAL and after["status"] != old and after["status"] not in MOVES[old]:
                self.fault(f"{name} went from {old} to {after['status']}")
            self._note_decisions(run, before or {}, after)
        elif "/steps/" in change.path or "/events/" in change.path:
            if before is not None:
                self.fault(f"{change.path} of {name} was overwritten")
            if "/steps/" in change.path and after is not None:
                self._note_step(run, change.path, after)

    def _note_decisions(self, run: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        known = before.get("decisions") or {}
        for call, decision in (after.get("decisions") or {}).items():
            if known.get(call) != decision and decision["decision"] == "allow":
                self.allowed[run, call] += 1

    def _note_step(self, run: str, path: str, step: dict[str, Any]) -> None:
        attempt = self.documents[PATHS.lease(run)]["attempt"]
        self.recorded[path] = attempt
        for part in MESSAGE.validate_python(step["message"]).parts if step.get("message") else ():
            if part.type == "tool_result":
                self.answered.setdefault((run, part.call_id), attempt)

    def _check_session(self, session: str) -> None:
        """One run at a time, and messages without a gap."""
        record = self.documents.get(PATHS.session(session))
        runs = [run for run in self.runs().values() if run["session"] == session and run["status"] not in TERMINAL]
        admitted = [run["id"] for run in runs if run.get("head") is not None]
        active = record and record.get("active_run")
        if admitted != ([active] if active else []):
            self.fault(
                f"the session {session} points at {active and self.called(active)}, and in progress are "
                f"{[self.called(run) for run in admitted]}"
            )
        numbers = [message["seq"] for message in self.under(PATHS.messages(session)).values()]
        if record and numbers != list(range(1, record["head"] + 1)):
            self.fault(f"the session {session} ends at {record['head']} and has the messages {numbers}")

    def _check_places(self) -> None:
        """A run in progress holds one slot and one instance, which point at it and at nothing else.

        One that was decided upon, and is not taken up yet, has none.
        """
        going = [run for run in self.runs().values() if run["status"] in ("running", "handed_off")]
        holding = [run for run in going if run.get("slot") is not None]
        if any(run not in holding and run["status"] == "running" for run in going):
            self.fault("a run is executed without a slot")
        slots = self._holders(PATHS.slots(NAMESPACE, CLUSTER))
        said = sorted((sequence(run["slot"]), self.called(run["id"])) for run in holding)
        if slots != said:
            self.fault(f"the slots are held by {slots}, and the runs say {said}")
        instances = self._holders(PATHS.instances(NAMESPACE, CLUSTER))
        said = sorted((f"{run['agent']}.{sequence(run['instance'])}", self.called(run["id"])) for run in holding)
        if instances != said:
            self.fault(f"the instances are held by {instances}, and the runs say {said}")
        if len(slots) > self.slots:
            self.fault(f"{len(slots)} slots are taken, of {self.slots}")
        for agent, most in self.instances.items():
            taken = [name for name, _ in instances if name.startswith(f"{agent}.")]
            if len(taken) > most:
                self.fault(f"{len(taken)} instances of {agent} are taken, of {most}")

    def _holders(self, collection: str) -> list[tuple[str, str]]:
        """Return the places that are taken, with the names of the runs that they point at."""
        documents = self.under(collection).items()
        return [(path.rpartition("/")[2], self.called(data["run"])) for path, data in documents if data.get("run")]


def _promotes(run: str, changes: list[Change]) -> bool:
    """Whether the run before it in its session has it go next."""
    its = next((change for change in changes if change.path == PATHS.run(run)), None)
    return its is not None and its.before is not None and its.before.get("head") is None


def _overtakes_an_end(run: str, changes: list[Change]) -> bool:
    """Whether it takes the run from a process that was about to end it, which executes nothing: by a decision, or
    because it is the run's turn."""
    its = next((change for change in changes if change.path == PATHS.run(run)), None)
    return its is not None and (_promotes(run, changes) or bool(its.before and its.before["status"] == "waiting"))


class _StoreThread:
    """An event loop of its own for the store, whose answers the simulation waits for without going on."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulated-store", daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
