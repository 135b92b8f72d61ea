"""What happens in the simulated world, as hypothesis draws it: a schedule is a list of these."""

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from hypothesis import strategies as st

from goagents.records import TERMINAL
from goagents.testing.faults import Fault, Kind

from .agents import EFFECTS, SHORT_OF_MEMORY, Plan
from .workers import Weather, Worker
from .world import BUSY, Request, World


class Act(Protocol):
    """`pause` is how many seconds pass until the next one."""

    pause: float

    def do(self, world: World) -> None:
        """Have it happen; what takes time goes on beside what comes next."""


@dataclass(frozen=True)
class Ask:
    """A client sends a message."""

    worker: int
    session: int
    kind: str
    agent: str
    policy: Any
    plan: Plan
    key: bool
    webhook: bool
    followed: bool
    patience: int
    pause: float

    def do(self, world: World) -> None:
        number = len(world.requests)
        session = None if self.session == 3 else f"session-{self.session}"
        # A client that repeats its request names the session itself: without, each would be another payload.
        key = f"key-{number}" if self.key and session else None
        request = Request(
            number, self.agent, session, self.kind, self.policy, self.plan, key, self.webhook, self.followed
        )
        world.requests.append(request)
        if worker := world.worker(self.worker):
            world.spawn(world.send(worker, request, self.patience))


@dataclass(frozen=True)
class Again:
    """A client that has a key repeats its request, to another process."""

    worker: int
    which: int
    pause: float

    def do(self, world: World) -> None:
        keyed = [request for request in world.requests if request.key]
        worker = world.worker(self.worker)
        if keyed and worker:
            world.spawn(world.send(worker, keyed[-1 - self.which % len(keyed)], 1000))


@dataclass(frozen=True)
class Follow:
    which: int
    pause: float

    def do(self, world: World) -> None:
        runs = list(world.ledger.run_of.values())
        if runs:
            world.spawn(world.follow(runs[-1 - self.which % len(runs)]))


@dataclass(frozen=True)
class Cancel:
    worker: int
    which: int
    pause: float

    def do(self, world: World) -> None:
        runs = [id for id, run in world.ledger.runs().items() if run["status"] not in TERMINAL]
        worker = world.worker(self.worker)
        if runs and worker:
            runs.sort(key=lambda id: world.ledger.run(id)["created_at"])
            world.spawn(world.cancel(worker, runs[-1 - self.which % len(runs)]))


@dataclass(frozen=True)
class Decide:
    worker: int
    pause: float

    def do(self, world: World) -> None:
        if worker := world.worker(self.worker):
            for run in world.waiting():
                world.spawn(world.decide(worker, run))


@dataclass(frozen=True)
class Sweep:
    worker: int
    pause: float

    def do(self, world: World) -> None:
        if worker := world.worker(self.worker):
            world.spawn(world.sweep(worker))


@dataclass(frozen=True)
class Kill:
    """A process dies, at once or at the call of a port that comes after `calls` others; a new one starts after `back`.

    What it had sent and the store had not taken yet arrives later, or not at all.
    """

    worker: int
    calls: int
    after: bool
    back: float
    pause: float

    def do(self, world: World) -> None:
        worker = world.worker(self.worker)
        if worker is None or worker.countdown.left is not None:
            return
        world.spawn(self._die(world, worker))

    async def _die(self, world: World, worker: Worker) -> None:
        worker.countdown.after = self.after
        worker.countdown.left = self.calls or None
        if not self.calls:
            worker.process.sever()
        for _ in range(60):
            if worker.dead:
                break
            await asyncio.sleep(0.25)
        else:
            worker.countdown.left = None
            return
        world.ledger.note(f"{worker.name} died")
        await asyncio.sleep(self.back)
        world.restart(worker)
        await worker.store.flush()


@dataclass(frozen=True)
class Stop:
    """A process is asked to end."""

    worker: int
    grace: float
    back: float
    pause: float

    def do(self, world: World) -> None:
        if worker := world.worker(self.worker):
            world.spawn(self._end(world, worker))

    async def _end(self, world: World, worker: Worker) -> None:
        world.ledger.note(f"{worker.name} is asked to end")
        await worker.stop(self.grace)
        world.ledger.note(f"{worker.name} ended")
        await asyncio.sleep(self.back)
        world.restart(worker)


@dataclass(frozen=True)
class Break:
    """Something goes wrong with the next calls that a process makes of the store."""

    worker: int
    kind: Kind
    nth: int
    times: int
    pause: float

    def do(self, world: World) -> None:
        if worker := world.worker(self.worker):
            worker.store.faults.append(Fault(self.kind, nth=self.nth, times=self.times, seconds=5.0))


@dataclass(frozen=True)
class Unplug:
    """A process reaches the store no more, for a while."""

    worker: int
    seconds: float
    pause: float

    def do(self, world: World) -> None:
        worker = world.worker(self.worker)
        if worker and not worker.store.unplugged:
            world.spawn(self._away(world, worker))

    async def _away(self, world: World, worker: Worker) -> None:
        world.ledger.note(f"{worker.name} is unplugged")
        worker.store.unplugged = True
        await asyncio.sleep(self.seconds)
        worker.store.unplugged = False
        world.ledger.note(f"{worker.name} is plugged in again")


@dataclass(frozen=True)
class Jump:
    """The wall clock of a machine jumps; that of the store, where `worker` is None."""

    worker: int | None
    seconds: float
    pause: float

    def do(self, world: World) -> None:
        worker = None if self.worker is None else world.worker(self.worker)
        clock = worker.clock if worker else world.ledger.clock
        clock.offset += self.seconds
        world.ledger.note(f"the clock of {worker.name if worker else 'the store'} jumps by {self.seconds} s")


WORKERS = st.integers(0, 2)
VICTIMS = st.sampled_from([0, 1, 2, BUSY, BUSY, BUSY])
RECENT = st.integers(0, 3)
PAUSES = st.sampled_from([0.0, 0.02, 0.1, 0.3, 1.0, 2.5, 6.0, 11.0])
BACK = st.sampled_from([0.0, 0.5, 4.0, 15.0])
KINDS: list[Kind] = ["conflict", "unavailable", "timeout", "request_lost", "answer_lost", "late", "unreadable"]
ROUND = st.lists(st.sampled_from(list(EFFECTS)), min_size=1, max_size=3).map(tuple)
PLANS = st.builds(
    Plan,
    st.lists(ROUND, min_size=1, max_size=3).map(tuple) | st.just(()),
    st.sampled_from(["quick", "quick", "steady", "steady", "slow", "endless"]),
    st.booleans(),
    st.sampled_from([None, None, None, None, None, 0, 1]),
)
ASKS = st.builds(
    Ask,
    WORKERS,
    st.sampled_from([0, 0, 0, 1, 2, 3]),
    st.sampled_from(["chat", "stream", "background"]),
    st.sampled_from(["clerk", "clerk", "aide", SHORT_OF_MEMORY, SHORT_OF_MEMORY]),
    st.sampled_from([None, None, "enqueue", "interrupt", "reject"]),
    PLANS,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([0.0, 0.0, 0.02, 0.1, 0.3, 1.0, 4.0]),
)
JUMPS = st.builds(Jump, WORKERS, st.sampled_from([-300.0, -40.0, 12.0, 300.0]), PAUSES) | st.builds(
    Jump, st.none(), st.sampled_from([-40.0, -2.0, 2.0, 12.0, 3600.0]), PAUSES
)  # that of the store goes back by little: a lease lives as much longer
WEIGHTS: list[tuple[int, st.SearchStrategy[Act]]] = [
    (9, ASKS),
    (2, st.builds(Again, WORKERS, RECENT, PAUSES)),
    (1, st.builds(Follow, RECENT, PAUSES)),
    (2, st.builds(Cancel, WORKERS, RECENT, PAUSES)),
    (2, st.builds(Decide, WORKERS, PAUSES)),
    (2, st.builds(Sweep, WORKERS, PAUSES)),
    (4, st.builds(Kill, VICTIMS, st.integers(0, 25), st.booleans(), BACK, PAUSES)),
    (3, st.builds(Stop, VICTIMS, st.sampled_from([0.0, 0.5, 6.0]), BACK, PAUSES)),
    (4, st.builds(Break, VICTIMS, st.sampled_from(KINDS), st.integers(1, 5), st.integers(1, 8), PAUSES)),
    (2, st.builds(Unplug, VICTIMS, st.sampled_from([0.5, 3.0, 12.0, 25.0]), PAUSES)),
    (1, JUMPS),
]
ACTS = st.sampled_from([acts for weight, acts in WEIGHTS for _ in range(weight)]).flatmap(lambda acts: acts)
# In pieces, because a plain list is short on average, and one that must be long cannot be made shorter.
SCHEDULES = st.lists(st.lists(ACTS, min_size=1, max_size=9), min_size=1, max_size=9).map(lambda parts: sum(parts, []))


def rates(most: float) -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, 0.0, 0.02, most])


WEATHERS = st.builds(
    Weather,
    st.fixed_dictionaries({kind: rates(0.1) for kind in KINDS}),
    refused=rates(0.3),
    lost=rates(0.3),
    doubled=rates(0.3),
    latency=st.sampled_from([0.002, 0.01, 0.2]),
)
