"""The processes of the simulation: the real engine, each with its own view of the store, its clock, its death."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from goagents.app import ResolverFactory, retire_services
from goagents.dispatch.base import Task
from goagents.engine.recovery.worker import perform
from goagents.engine.services import Services
from goagents.errors import DispatchFailed, LimitExceeded, StoreError
from goagents.ids import new_id
from goagents.settings import Settings
from goagents.spec.config import Config
from goagents.telemetry.base import Event, Telemetry, Unexpected
from goagents.testing.faults import FaultyStore, Kind
from goagents.testing.kill_points import never
from goagents.testing.severable import ProcessDied, Severable
from goagents.testing.stores import Method, PassingStore, Subject
from goagents.testing.webhooks import RecordingWebhooks
from goagents.testing.wrapping import Asked, wrapped

from .agents import toolsets
from .ledger import Ledger, Process
from .models import Models
from .times import MachineClock

if TYPE_CHECKING:
    from .world import World

T = TypeVar("T")


@dataclass(frozen=True)
class Weather:
    """How likely each fault is, at each call of the store or of the queue."""

    store: Mapping[Kind, float] = field(default_factory=dict)
    refused: float = 0.0
    lost: float = 0.0
    doubled: float = 0.0
    latency: float = 0.01


class _Line(PassingStore):
    """The way from one process to the store: it takes time, there and back."""

    def __init__(self, ledger: Ledger, process: Process, dice: Random, latency: float) -> None:
        super().__init__(ledger.store)
        self._ledger = ledger
        self._process = process
        self._dice = dice
        self._latency = latency

    async def around(self, method: Method, subject: Subject, call: Callable[[], Awaitable[T]]) -> T:
        await asyncio.sleep(self._dice.uniform(0.1, 1.0) * self._latency)
        try:
            return self._ledger.ask(method, subject, self._process)  # type: ignore[no-any-return]
        finally:
            await asyncio.sleep(self._dice.uniform(0.1, 1.0) * self._latency)

    async def commit(self, writes: Any) -> Any:
        return await self.around("commit", writes, never)

    async def purge(self, limit: int = 500) -> int:
        return await self.around("purge", limit, never)  # type: ignore[arg-type]


@dataclass
class _Countdown:
    """Kills the process before or after the call of a port at which `left` comes to 0."""

    kill: Callable[[], None]
    left: int | None = None
    after: bool = False

    async def around(self, asked: Asked, call: Callable[[], Awaitable[T]]) -> T:
        due = asked.port != "clock" and self._count()
        if due and not self.after:
            self.kill()
            await never()
        answer = await call()
        if due and self.left is not None:  # it may have been called off meanwhile
            self.kill()
            await never()
        return answer

    def _count(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left == 0


class Worker:
    """One process. `leaving`: it was asked to end, and gets no more work."""

    def __init__(self, world: "World", number: int) -> None:
        self.name = f"w{number}"
        self.owner = new_id("proc")
        self.clock = MachineClock(world.loop, world.dice.choice((0.0, 0.0, -30.0, 45.0)))
        self.process = Severable()
        self.countdown = _Countdown(self.process.sever)
        self.leaving = False
        self._world = world
        line = _Line(world.ledger, self, world.dice, world.weather.latency)
        self.store = FaultyStore.random(line, world.dice, world.weather.store, seconds=5.0, clock=self.clock)
        self.store.calm = world.calm
        bare = Services(
            store=self.store,
            clock=self.clock,
            config=world.config,
            settings=Settings(),
            telemetry=Telemetry([self._observe]),
            providers=Models(world.work, self, lambda run: self.services.handles[run].attempt),
            toolsets=toolsets(world.work, self),
            resolvers=ResolverFactory(world.config, {}),
            dispatch=_Dispatch(world.queue),
            webhooks=world.webhooks,
            owner=self.owner,
        )
        self.services = self.process.services(wrapped(bare, self.countdown.around))

    @property
    def dead(self) -> bool:
        return self.process.dead

    async def stop(self, grace: float) -> None:
        """Ask it to end, as SIGTERM does: it hands on what it has not finished."""
        self.leaving = True
        await asyncio.sleep(grace)
        while self.services.tasks and not self.dead:
            for task in sorted(self.services.tasks, key=asyncio.Task.get_name):
                task.cancel()
            await asyncio.sleep(3.0)
        try:
            await self.process.run(retire_services(self.services))
        except ProcessDied:
            return
        self.process.sever()

    def _observe(self, event: Event) -> None:
        if isinstance(event, Unexpected) and not self.dead:
            self._world.ledger.fault(f"{self.name}: {event.where}: {event.error}\n{event.traceback}")


class _Dispatch:
    def __init__(self, queue: "Queue") -> None:
        self._queue = queue

    async def enqueue(self, task: Task) -> None:
        await self._queue.enqueue(task)

    def stop(self) -> None:
        """Others carry the tasks out."""

    async def aclose(self) -> None:
        """It lives on: it is no part of the process."""


class Queue:
    """A queue outside the processes. It refuses, loses and doubles tasks, and knows each name once."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._names: set[tuple[Any, ...]] = set()
        self.busy = 0

    async def enqueue(self, task: Task) -> None:
        world, weather = self._world, self._world.weather
        await asyncio.sleep(world.dice.uniform(0.001, 0.02))
        if not world.calm and world.dice.random() < weather.refused:
            raise DispatchFailed("the simulated queue takes no task")
        name = (task.kind, task.run, task.token, task.delivery)
        if name in self._names:
            return
        self._names.add(name)
        if not world.calm and world.dice.random() < weather.lost:
            return
        for _ in range(2 if world.dice.random() < weather.doubled else 1):
            self.busy += 1
            world.spawn(self._deliver(task))

    async def _deliver(self, task: Task) -> None:
        dice = self._world.dice
        try:
            await asyncio.sleep(task.delay + dice.uniform(0.01, 0.3))
            for attempt in range(8):
                worker = await self._world.reachable()
                try:
                    return await worker.process.run(perform(worker.services, task))
                except (ProcessDied, LimitExceeded, StoreError, DispatchFailed) as error:
                    self._world.ledger.note(f"{worker.name} could not perform {task.kind}: {type(error).__name__}")
                    await asyncio.sleep(dice.uniform(0.5, 1.0) * 0.2 * 2**attempt)
        finally:
            self.busy -= 1


def config(*, background: bool) -> Config:
    return Config.model_validate(
        {
            "server": {"timeout": "15s", "background": background},
            "runs": {
                "timeout": "10m",
                "worker_timeout": "40s",
                "lease_ttl": "9s",
                "dispatch_grace": "9s",
                "poll_interval": "1s",
                "max_attempts": 3,
                "max_queue": 6,
                "waiting_timeout": "4m",
            },
        }
    )


__all__ = ["Queue", "RecordingWebhooks", "Weather", "Worker", "config"]
