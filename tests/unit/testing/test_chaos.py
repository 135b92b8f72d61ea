"""Everything at once, at random: processes die anywhere, the store fails anyhow, and the run comes to its end.

One seed is one story: where processes die, what the store does, and how long things take.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from goagents.errors import GoAgentsError
from goagents.messages import MESSAGE, Message, ToolResultPart
from goagents.providers.base import ModelEvent, ModelRequest, Provider
from goagents.providers.scripted import ScriptedProvider
from goagents.records import Paths
from goagents.store.base import Query, Store
from goagents.store.sqlite import SQLiteStore
from goagents.testing.clocks import VirtualClock
from goagents.testing.cluster import LocalCluster
from goagents.testing.faults import FaultyStore, Kind
from goagents.testing.kill_points import Boundary, KillPoint
from goagents.testing.severable import ProcessDied
from goagents.testing.tools import FunctionTool, function_tool

SEEDS = 25
CUT_OFF = 10
PROCESSES = 8  # the last of them lives, on a store that works
PATHS = Paths("default")
POINTS = [
    point
    for point in KillPoint
    if point.boundary
    in {
        None,
        Boundary.ADMISSION,
        Boundary.TAKEOVER,
        Boundary.MODEL_RESULT,
        Boundary.TOOL_RESULT,
        Boundary.RESULTS,
        Boundary.SETTLE,
        Boundary.RENEWAL,
    }
    and "enqueue" not in point
    and "webhook" not in point
]  # where such a run gets to
RATES: dict[Kind, float] = {
    "conflict": 0.04,
    "unavailable": 0.04,
    "timeout": 0.02,
    "request_lost": 0.04,
    "answer_lost": 0.06,
    "late": 0.06,
    "unreadable": 0.04,
}
TOOLS = {"look": "read", "reserve": "idempotent", "refund": "unsafe"}
SCRIPT = [
    {"after": "refund", "failed": True, "text": "Nobody knows."},
    {"after": "refund", "text": "It is refunded."},
    {"after": "*", "text": "Now the money.", "tool_calls": [{"name": "refund"}, {"name": "look"}]},
    {"text": "First things first.", "tool_calls": [{"name": "look"}, {"name": "reserve"}], "delay": "2s"},
]
MANIFEST = {
    "apiVersion": "goagents.dev/v1",
    "kind": "AgentCluster",
    "metadata": {"name": "shop"},
    "spec": {
        "agents": [
            {
                "name": "clerk",
                "provider": "scripted",
                "model": "clerk",
                "tools": [{"type": "http", "name": name, "url": "https://shop.example/"} for name in TOOLS],
            }
        ]
    },
}


@dataclass
class OnceRecorded:
    """A model that is asked for nothing that the store already knows."""

    store: Store
    model: ScriptedProvider
    name: str = "scripted"
    asked: list[int] = field(default_factory=list)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        number = 1 + 2 * sum(message.role == "assistant" for message in request.messages)
        steps = await self.store.query(Query(PATHS.runs()))
        for run in steps.documents:
            assert (await self.store.get_many([PATHS.step(run.id, number)])).documents == {}, "it was recorded"
        self.asked.append(number)
        async for event in self.model.stream(request):
            yield event

    async def aclose(self) -> None:
        """Nothing to close."""


@dataclass
class Story:
    """One run, the processes that take it up one after the other, and the dice."""

    dice: random.Random
    clock: VirtualClock
    database: Store
    tools: dict[str, FunctionTool]
    model: OnceRecorded
    stores: list[FaultyStore] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)
    answer: str | None = None

    def local(self, store: Store, model: Provider, **more: Any) -> LocalCluster:
        tools = {name: [tool] for name, tool in self.tools.items()}
        config = {"runs": {"max_attempts": 100}}
        return LocalCluster(MANIFEST, store, model=model, tools=tools, config=config, clock=self.clock, **more)

    async def process(self, *, last: bool) -> None:
        rates = {} if last else RATES
        store = FaultyStore.random(self.database, self.dice, rates, seconds=5, clock=self.clock)
        self.stores.append(store)
        point = None if last or self.dice.random() < 0.1 else self.dice.choice(POINTS)
        local = self.local(store, self.model, dies_at=point, occurrence=self.dice.choice((1, 1, 1, 2)))
        store.calm = True
        async with local:
            store.calm = False
            try:
                answer = await local.chat("clerk", "hi", session_id="s", idempotency_key="k")
                self.answer = answer.message.text
            except ProcessDied:
                self.deaths[str(point)] += 1
            except GoAgentsError:
                assert not last
            store.calm = True
        with suppress(GoAgentsError):
            await store.flush()


@pytest.fixture
async def story(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Story]:
    dice = random.Random(request.param)  # noqa: S311 - the same story each time
    random.seed(request.param)  # the engine's jitter
    clock = VirtualClock()
    made = SQLiteStore(str(tmp_path / "chaos.db"), clock=clock)
    database = clock.watch(made)
    model = OnceRecorded(database, ScriptedProvider(models={"clerk": SCRIPT}, clock=clock))

    async def takes_its_time(_: Mapping[str, Any]) -> str:
        await clock.sleep(dice.choice((0, 1, 5)))
        return "done"

    tools = {name: function_tool(name, takes_its_time, effect=effect) for name, effect in TOOLS.items()}
    yield Story(dice, clock, database, tools, model)
    await made.aclose()


@pytest.mark.parametrize("story", range(SEEDS), indirect=True)
async def test_processes_die(story: Story):
    for number in range(PROCESSES):
        await story.process(last=number == PROCESSES - 1)
    await has_its_end(story)


@pytest.mark.parametrize("story", range(CUT_OFF), indirect=True)
async def test_processes_are_cut_off(story: Story):
    """Two processes lose the store for longer than their lease, again and again, and go on where it comes back.

    Each still believes in the run, until it is told that another one has it. A third one comes later.
    """
    stores = [FaultyStore(story.database, clock=story.clock) for _ in range(3)]
    async with AsyncExitStack() as stack:
        locals_ = [await stack.enter_async_context(story.local(store, story.model.model)) for store in stores]
        starts = (0.0, story.dice.uniform(0, 5), story.dice.uniform(60, 120))
        tasks = [
            *(asyncio.create_task(insist(story, local, start)) for local, start in zip(locals_, starts, strict=True)),
            *(asyncio.create_task(cut_off(story, store)) for store in stores[:2]),
        ]
        await story.clock.run_until(lambda: all(task.done() for task in tasks))
        answers = {task.result() for task in tasks} - {None}
    assert answers == {story.answer}
    await has_its_end(story)


async def insist(story: Story, local: LocalCluster, start: float) -> str | None:
    """Send the request, again and again where the store is away."""
    await story.clock.sleep(start)
    for _ in range(8):
        try:
            story.answer = (await local.chat("clerk", "hi", session_id="s", idempotency_key="k")).message.text
        except GoAgentsError:
            await story.clock.sleep(10)
        else:
            return story.answer
    return None


async def cut_off(story: Story, store: FaultyStore) -> None:
    for _ in range(3):
        await story.clock.sleep(story.dice.uniform(0, 4))
        store.unplugged = True
        await story.clock.sleep(story.dice.uniform(20, 60))
        store.unplugged = False


async def has_its_end(story: Story) -> None:
    """Whatever happened: one run, one whole conversation, at most one refund, nothing held, and counted once."""
    (run,) = (await story.database.query(Query(PATHS.runs()))).documents
    assert run.data["status"] == "succeeded"
    said = await conversation(story.database)
    assert [message.role for message in said] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert story.answer == said[-1].text
    refunds = story.tools["refund"].calls
    (refund, _) = (part for part in said[4].parts if isinstance(part, ToolResultPart))
    expected = "Nobody knows." if refund.unknown else "It is refunded."
    assert (refund.is_error, said[-1].text) == (refund.unknown, expected)
    assert len(refunds) <= 1
    assert refund.unknown or len(refunds) == 1
    assert len({context.idempotency_key for _, context in story.tools["reserve"].calls}) == 1
    await nothing_is_held(story.database)
    counted = (await story.database.query(Query(PATHS.usage()))).documents
    assert sum(shard.data.get("runs", 0) for shard in counted) == 1
    assert sum(shard.data.get("succeeded", 0) for shard in counted) == 1


async def conversation(store: Store) -> list[Message]:
    page = await store.query(Query(PATHS.messages("s")))
    return [MESSAGE.validate_python(document.data["message"]) for document in page.documents]


async def nothing_is_held(store: Store) -> None:
    session = (await store.get_many([PATHS.session("s")])).documents[PATHS.session("s")]
    assert session.data.get("active_run") is None
    for collection in (PATHS.slots("default", "shop"), PATHS.instances("default", "shop")):
        found = (await store.query(Query(collection))).documents
        assert [document.data.get("run") for document in found] == [None] * len(found)
