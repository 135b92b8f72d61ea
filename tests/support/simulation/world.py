"""The simulated world: a few processes on one store, a queue, clients, followers, people who decide."""

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goagents.access.principal import Principal
from goagents.engine import clusters, controls, runs
from goagents.engine.recovery.sweep import sweep
from goagents.engine.watching import Watch
from goagents.errors import (
    Conflict,
    DispatchFailed,
    GoAgentsError,
    Invalid,
    LeaseLost,
    LimitExceeded,
    ProviderError,
    RunError,
    StoreError,
)
from goagents.records import TERMINAL
from goagents.resources import ChatRequest, ChatResponse, Decision, RunRequest, SessionPolicy, Webhook
from goagents.spec.cluster import AgentCluster
from goagents.store.sqlite import SQLiteStore
from goagents.testing.severable import ProcessDied
from goagents.testing.webhooks import RecordingWebhooks

from .agents import SHORT_OF_MEMORY, Plan, Work, tools_of_agent
from .followers import Follower
from .ledger import CLUSTER, PATHS, Ledger
from .times import MachineClock, VirtualTimeLoop
from .workers import Queue, Weather, Worker, config

USER = Principal("user")
BUSY = 3
SLOTS, INSTANCES = 3, {"clerk": 3, "aide": 1, SHORT_OF_MEMORY: 2}
MEMORY = {"strategy": "summarize", "max_tokens": 1500, "keep_tokens": 400}
CLUSTER_SPEC = {
    "apiVersion": "goagents.dev/v1",
    "kind": "AgentCluster",
    "metadata": {"name": CLUSTER},
    "spec": {
        "resource_policy": {"max_concurrent_agents": SLOTS, "queue_timeout": "2s"},
        "agents": [
            {
                "name": name,
                "provider": "scripted",
                "model": "planned",
                "max_instances": most,
                "tools": tools_of_agent(),
                "context": MEMORY if name == SHORT_OF_MEMORY else {},
            }
            for name, most in INSTANCES.items()
        ],
    },
}


@dataclass(eq=False)
class Request:
    """What a client asks for, once or several times. With a key, all of them are one run."""

    number: int
    agent: str
    session: str | None
    kind: Any
    policy: SessionPolicy | None
    plan: Plan
    key: str | None
    webhook: bool
    followed: bool
    runs: set[str] = field(default_factory=set)
    answers: list[tuple[str, ChatResponse | GoAgentsError]] = field(default_factory=list)


class World:
    def __init__(self, folder: Path, loop: VirtualTimeLoop, seed: int, weather: Weather, *, background: bool) -> None:
        random.seed(seed)  # the engine's jitter
        self.loop = loop
        self.dice = random.Random(seed)
        self.weather = weather
        self.calm = True
        self.config = config(background=background)
        clock = MachineClock(loop)
        self.ledger = Ledger(
            SQLiteStore(str(folder / "store.db"), clock=clock), clock, slots=SLOTS, instances=INSTANCES
        )
        self.work = Work(self.ledger, self.dice)
        self.queue = Queue(self)
        self.webhooks = RecordingWebhooks()
        self.requests: list[Request] = []
        self.followers: list[Follower] = []
        self.all_workers: list[Worker] = []
        self.workers = [self._started() for _ in range(3)]
        self.tasks: set[asyncio.Task[None]] = set()

    def _started(self) -> Worker:
        worker = Worker(self, len(self.all_workers))
        self.all_workers.append(worker)
        return worker

    async def begin(self) -> None:
        self.loop.set_exception_handler(lambda _, about: self.ledger.fault(f"unhandled: {about}"))
        await clusters.apply(self.workers[0].services, USER, AgentCluster.model_validate(CLUSTER_SPEC), trusted=True)
        self.calm = False
        for worker in self.workers:
            worker.store.calm = False

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ledger.fault(f"nobody expects {error!r} of {task.get_coro()!r}")

    def worker(self, number: int) -> Worker | None:
        """Return that worker, or another one that can be reached, if any can; of `BUSY`, one that executes runs."""
        order = [*self.workers[number % 3 :], *self.workers[: number % 3]]
        if number == BUSY:
            order.sort(key=lambda worker: -len(worker.services.handles))
        return next((worker for worker in order if not worker.dead and not worker.leaving), None)

    async def reachable(self) -> Worker:
        while (worker := self.worker(self.dice.randrange(3))) is None:
            await asyncio.sleep(0.5)
        return worker

    def restart(self, worker: Worker) -> None:
        """Start a new process in the place of one that is gone."""
        if worker in self.workers:
            self.workers[self.workers.index(worker)] = self._started()

    async def send(self, worker: Worker, request: Request, patience: int) -> None:
        """Ask for it, and wait for the answer; of a stream, for at most `patience` events."""
        padding = 2400 if request.agent == SHORT_OF_MEMORY else 0  # characters: some turns, and a summary is due
        options = {"message": request.plan.text(request.number, padding), "session_id": request.session}
        body = ChatRequest(**options, session_policy=request.policy)
        if request.kind == "background":
            hook = Webhook(url="https://simulated.example/hook") if request.webhook else None
            body = RunRequest(**options, session_policy=request.policy, webhook=hook)
        agent = f"{CLUSTER}.{request.agent}"
        started = runs.start(worker.services, USER, agent, body, kind=request.kind, idempotency_key=request.key)
        try:
            watch = await worker.process.run(started)
        except (ProcessDied, LimitExceeded, StoreError, Conflict) as error:
            self.ledger.note(f"{worker.name} did not start #{request.number}: {type(error).__name__}: {error}")
            return
        if request.followed and not request.runs:
            self.spawn(self.follow(watch.run_id))
        request.runs.add(watch.run_id)
        await self._attend(worker, request, watch, patience)

    async def _attend(self, worker: Worker, request: Request, watch: Watch, patience: int) -> None:
        try:
            if request.kind == "chat":
                answer = await worker.process.run(watch.answer())
                if isinstance(answer, ChatResponse):
                    request.answers.append((watch.run_id, answer))
            elif request.kind == "stream":
                follower = Follower(watch.run_id)
                self.followers.append(follower)
                await worker.process.run(follower.listen(worker.process, watch, patience, until_rest=True))
                await self._go_on(follower)
        except ProcessDied:
            if request.kind == "stream":
                await self._go_on(follower)
        except StoreError as error:
            self.ledger.note(f"{worker.name} did not answer #{request.number}: {type(error).__name__}")
            if request.kind == "stream":
                await self._go_on(follower)
        except (RunError, ProviderError) as error:
            if isinstance(error, LeaseLost):
                raise
            request.answers.append((watch.run_id, error))

    async def follow(self, run: str) -> None:
        follower = Follower(run)
        self.followers.append(follower)
        await self._go_on(follower)

    async def _go_on(self, follower: Follower) -> None:
        """Follow to the end: each connection to another process, for a while."""
        while not follower.over and not follower.wrong:
            worker, most = await self.reachable(), self.dice.choice((1, 2, 5, 1000))
            try:
                await worker.process.run(self._listen(worker, follower, most))
            except (ProcessDied, StoreError) as error:
                self.ledger.note(f"{worker.name} lost a follower: {type(error).__name__}")
            await asyncio.sleep(self.dice.choice((0.05, 0.4, 3.0)))

    async def _listen(self, worker: Worker, follower: Follower, most: int) -> None:
        watch = await runs.watch(worker.services, USER, follower.run)
        await follower.listen(worker.process, watch, most)

    async def cancel(self, worker: Worker, run: str) -> None:
        try:
            await worker.process.run(controls.cancel(worker.services, USER, run, "the test says so"))
        except (ProcessDied, Conflict, StoreError) as error:
            self.ledger.note(f"{worker.name} did not cancel: {type(error).__name__}")

    async def decide(self, worker: Worker, run: str) -> None:
        """A person decides on each call that the run waits for."""
        waiting = self.ledger.run(run).get("waiting") or {"calls": []}
        decisions = [self._decision(call) for call in waiting["calls"]] or [Decision(decision="allow")]
        try:
            await worker.process.run(controls.approve(worker.services, USER, run, decisions))
        except (ProcessDied, Conflict, StoreError, Invalid) as error:
            self.ledger.note(f"{worker.name} did not approve: {type(error).__name__}")

    def _decision(self, call: dict[str, Any]) -> Decision:
        what = self.dice.choice(("allow", "allow", "edit", "deny"))
        if what == "edit":
            arguments = {**call["arguments"], "edited": True}
            return Decision(call_id=call["call_id"], decision="allow", arguments=arguments)
        return Decision(call_id=call["call_id"], decision=what)  # type: ignore[arg-type]

    async def sweep(self, worker: Worker) -> None:
        try:
            report = await worker.process.run(sweep(worker.services))
        except (ProcessDied, StoreError, DispatchFailed) as error:
            self.ledger.note(f"{worker.name} did not sweep: {type(error).__name__}")
        else:
            self.ledger.note(f"{worker.name} swept: {report.model_dump(exclude_defaults=True)}")

    def waiting(self) -> list[str]:
        """Return the runs that wait for a person, unless somebody has cancelled them meanwhile."""
        return [
            id
            for id, run in self.ledger.runs().items()
            if run["status"] == "waiting" and PATHS.signal(id, "cancel") not in self.ledger.documents
        ]

    async def heal(self) -> None:
        """Have everything work again, and sweep until nothing is left to do; that must not take for ever."""
        self.ledger.note("all is well again")
        self.calm = self.work.calm = True
        for worker in self.all_workers:
            worker.store.calm, worker.store.unplugged, worker.store.faults = True, False, []
            worker.countdown.left = None
            await worker.store.flush()
        for worker in list(self.workers):
            if worker.dead or worker.leaving:
                self.restart(worker)
        for _ in range(150):
            if not self._busy():
                await self._repeat()
                return
            await self.sweep(await self.reachable())
            for run in self.waiting():
                await self.decide(await self.reachable(), run)
            await asyncio.sleep(10.0)
        self.ledger.fault(f"it does not come to rest: {self._busy()}")

    async def _repeat(self) -> None:
        """A key that has had a run names it still, whoever is asked."""
        for request in self.requests:
            if request.key and request.number in self.ledger.run_of:
                before = len(request.answers)
                request.runs.add(self.ledger.run_of[request.number])
                await self.send(await self.reachable(), request, 1000)
                if request.kind == "chat" and len(request.answers) == before:
                    self.ledger.fault(f"#{request.number} is asked for again, and not answered")

    def _busy(self) -> list[str]:
        ledger = self.ledger
        going = {ledger.called(id): run["status"] for id, run in ledger.runs().items() if run["status"] not in TERMINAL}
        unsent = [d for d in ledger.under(PATHS.deliveries()).values() if d["state"] == "pending"]
        tasks = [str(task.get_coro()) for task in self.tasks]
        return [str(what) for what in (going, unsent, tasks) if what]

    async def end(self) -> None:
        """End what is left of every process."""
        for task in list(self.tasks):
            task.cancel()
        for worker in self.all_workers:
            await worker.process.bury()
