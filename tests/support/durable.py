"""What tests of durable runs need: processes that die, tools that count, leases that lapse without anybody waiting."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.support.engine import ALICE, Engine, engine, manifest, scripted
from tests.support.runs import PATHS, conversation

from goagents.access.principal import Principal
from goagents.dispatch.local import LocalDispatch
from goagents.engine import runs, sessions
from goagents.engine.admission.capacity import Capacity
from goagents.engine.recovery.worker import perform
from goagents.engine.services import Services
from goagents.engine.watching import START, Watch
from goagents.events import TERMINAL_EVENTS, Cursor, RunEvent
from goagents.ids import new_id
from goagents.messages import Message, TextPart, ToolResultPart, Usage
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, Provider, TextDelta
from goagents.records import RunRecord
from goagents.resources import ChatRequest, RunRequest
from goagents.spec.cluster import AgentCluster
from goagents.spec.config import Config
from goagents.store.base import Merge, Query, Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.kill_points import Boundary, KillPoint, KillSwitch, classify
from goagents.testing.severable import ProcessDied, Severable
from goagents.testing.stores import PassingStore
from goagents.testing.tools import FunctionTool, StaticToolset, function_tool
from goagents.tools.base import ToolContext

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
ORDER: Mapping[str, Any] = {
    "type": "object",
    "properties": {"order": {"type": "integer"}, "amount": {"type": "integer", "maximum": 100}},
    "required": ["order"],
    "additionalProperties": False,
}


class Shop(StaticToolset):
    """`look` (read), `reserve` (idempotent) and `refund` (unsafe), which keep their calls."""

    def __init__(self) -> None:
        effects = {"look": "read", "reserve": "idempotent", "refund": "unsafe"}
        self.by_name: dict[str, FunctionTool] = {
            name: function_tool(name, self._does(name), ORDER, effect=effect) for name, effect in effects.items()
        }
        super().__init__(list(self.by_name.values()))

    def _does(self, name: str) -> Any:
        async def answer(arguments: Mapping[str, Any]) -> str:
            return f"{name} {arguments['order']}"

        return answer

    def calls(self, name: str) -> list[dict[str, Any]]:
        """Return the arguments of each call of the tool."""
        return [arguments for arguments, _ in self.by_name[name].calls]

    def contexts(self, name: str) -> list[ToolContext]:
        return [context for _, context in self.by_name[name].calls]


def shop_cluster(*, agent: Mapping[str, Any] | None = None, **entry: Any) -> AgentCluster:
    """A cluster whose agent `helper` has the tools of a `Shop`; `entry` is more of the tools' entry."""
    tools = [{"type": "http", "name": "shop", "url": "https://shop.example", **entry}]
    return manifest({"tools": tools, **(agent or {})})


def call(name: str, order: int = 1, **more: Any) -> dict[str, Any]:
    return {"name": name, "arguments": {"order": order, **more}}


def calling(*steps: Sequence[Mapping[str, Any]], text: str = "done") -> list[Mapping[str, Any]]:
    """A script: one answer with tool calls after the other, then `text`."""
    made: list[Mapping[str, Any]] = []
    for number, calls in enumerate(steps, 1):
        made.append({"round": number, "tool_calls": list(calls)} | ({"after": "*"} if number > 1 else {}))
    return [*made, {"after": "*", "text": text}]


EACH = [call("look", 1), call("reserve", 2), call("refund", 3)]
STEP = calling(EACH)
TALE = calling([call("look", 1), call("reserve", 2)], [call("look", 3)], text="the answer, in several pieces")


class Answering:
    """Answers each message with `re: …`; those in `held` wait for `release`. `asked` keeps what it was given."""

    name = "scripted"

    def __init__(self, *held: str) -> None:
        self.asked: list[ModelRequest] = []
        self.entered = asyncio.Event()
        self._gates = {text: asyncio.Event() for text in held}

    def release(self, *texts: str) -> None:
        """Let those answers be given; all of them, where none is named."""
        for text in texts or self._gates:
            self._gates[text].set()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.asked.append(request)
        last = request.messages[-1].text
        if last in self._gates:
            self.entered.set()
            await self._gates[last].wait()
        yield TextDelta(f"re: {last}")
        yield ModelResponse(Message("assistant", (TextPart(f"re: {last}"),)), "end_turn", Usage(3, 1), request.model)

    async def aclose(self) -> None:
        """Nothing to close."""


def process(
    store: Store,
    model: Provider | Sequence[Mapping[str, Any]] = (),
    shop: Shop | None = None,
    dispatch: RecordingDispatch | None = None,
    **config: Any,
) -> Engine:
    """A process of a deployment whose queue is `dispatch`; `config` are sections of the configuration."""
    made = Config.model_validate({"runs": {"poll_interval": 0.05}, **config})
    provider = scripted(echo=model or [{"text": "hello"}]) if isinstance(model, Sequence) else model
    toolsets = {"shop": shop} if shop else None
    return engine(store, provider, toolsets, made, made.runs.lease_ttl, dispatch=dispatch or RecordingDispatch())


async def say(
    services: Services,
    message: str = "hi",
    session: str | None = "talk",
    *,
    kind: Any = "chat",
    agent: str = "support.helper",
    key: str | None = None,
    policy: Any = None,
    principal: Principal = ALICE,
    webhook: str | None = None,
) -> Watch:
    """Start a run, as a caller does."""
    body = {"message": message, "session_id": session, "session_policy": policy}
    request = RunRequest.model_validate({**body, "webhook": {"url": webhook}}) if webhook else ChatRequest(**body)  # type: ignore[arg-type] # of the parameters
    return await runs.start(services, principal, agent, request, kind=kind, idempotency_key=key)


async def record(store: Store, run_id: str) -> RunRecord:
    path = PATHS.run(run_id)
    return RunRecord.of((await store.get_many([path])).documents[path].data)


async def records(store: Store) -> list[RunRecord]:
    """Return all runs, the oldest first."""
    found = [RunRecord.of(document.data) for document in (await store.query(Query(PATHS.runs()))).documents]
    return sorted(found, key=lambda run: run.created_at)


async def lapse(store: Store, run_id: str) -> None:
    """Let the run's lease be over, as if its time had passed."""
    await store.commit([Merge(PATHS.lease(run_id), {"renewed_at": LONG_AGO})])


async def work(services: Services, queue: RecordingDispatch) -> int:
    """Carry out what is in the queue, and what comes of that; return how many tasks there were."""
    count = 0
    while tasks := queue.taken():
        for task in tasks:
            await perform(services, task)
            count += 1
    return count


async def killed(
    services: Services,
    point: KillPoint,
    job: Callable[[Services], Coroutine[Any, Any, Any]],
    occurrence: int = 1,
    tool: str | None = None,
) -> None:
    """Do `job` in a process that is started like `services`, dies at `point`, and never comes back."""
    dying = Severable()
    switch = KillSwitch(point, occurrence, dying.sever, tool)
    fresh = replace(
        services, owner=new_id("proc"), specs=OrderedDict(), capacity=Capacity(), handles={}, tasks=set(), closing=set()
    )
    with suppress(ProcessDied):
        await dying.run(job(dying.services(switch.services(fresh))))
    await dying.bury()
    assert switch.reached >= occurrence, f"the process did not die {point}"


async def dies(
    services: Services, point: KillPoint, occurrence: int = 1, *, tool: str | None = None, **asked: Any
) -> str:
    """Start a run in a process that dies at `point`; return the run's id. Its lease is over."""

    async def job(made: Services) -> None:
        await (await say(made, **asked)).finished()

    await killed(services, point, job, occurrence, tool)
    run = (await records(services.store))[-1]
    await lapse(services.store, run.id)
    return run.id


async def told(watch: Watch, after: Cursor = START) -> list[RunEvent]:
    """Return the events behind `after` up to the run's last one, or until the watch's time is up."""
    return [event async for event in watch.events(after)]


def results(messages: Sequence[Message]) -> list[ToolResultPart]:
    return [part for message in messages for part in message.parts if isinstance(part, ToolResultPart)]


def serving(services: Services) -> Services:
    """Have the process carry out its own tasks, as `goagents run` does."""
    services.dispatch = LocalDispatch(lambda task: perform(services, task))
    return services


async def texts(services: Services, session: str = "talk") -> list[str]:
    return [message.text for message in await conversation(services, session)]


async def queue_of(services: Services, session: str = "talk") -> list[str]:
    return (await sessions.get_session(services, ALICE, session)).queued_runs


class Between(PassingStore):
    """Does `then` once, right before the first commit that is at `boundary`."""

    def __init__(self, store: Store, boundary: Boundary, then: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(store)
        self.boundary, self.then, self.done = boundary, then, False

    async def around(self, method: str, subject: Any, call: Callable[[], Awaitable[Any]]) -> Any:
        if method == "commit" and not self.done and self.boundary in classify(subject):
            self.done = True
            await self.then()
        return await call()


async def steps_of(services: Services, run_id: str) -> list[str]:
    """Return the kinds of the steps that the run's journal has."""
    return [step.kind for step in (await runs.get_run(services, ALICE, run_id)).steps or []]


def counts(shop: Shop) -> list[int]:
    """How often each of the shop's tools was called: look, reserve, refund."""
    return [len(shop.calls(name)) for name in ("look", "reserve", "refund")]


def holding(events: Sequence[RunEvent]) -> list[RunEvent]:
    """Return the events that hold: without those that a later attempt made void."""
    kept: list[RunEvent] = []
    for event in events:
        if event.type == "attempt":
            after = event.data["resumed_after"]
            limit = Cursor.parse(after) if after else START
            kept = [one for one in kept if one.cursor <= limit]
        kept.append(event)
    return kept


def assert_whole(events: Sequence[RunEvent], after: Cursor = START) -> None:
    """Nothing twice, nothing left out: each follows the one before, and the last one is the run's."""
    place = after
    for event in events:
        follows = Cursor(place.attempt, place.seq + 1) if event.attempt == place.attempt else Cursor(event.attempt, 1)
        assert event.cursor == follows, f"{event.id} came after {place}"
        place = event.cursor
    assert events[-1].type in TERMINAL_EVENTS
    assert sum(event.type in TERMINAL_EVENTS for event in events) == 1


async def follow(services: Engine, run_id: str, after: Cursor = START) -> list[RunEvent]:
    return await asyncio.wait_for(told(await runs.watch(services, ALICE, run_id), after), 60)
