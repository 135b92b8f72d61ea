"""What a commit does in the life of a run, told by what it writes; and the switch that kills at a point."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.parts import Parts, process_parts

from goagents.dispatch.base import Task
from goagents.errors import StoreConflict
from goagents.providers.base import ModelRequest, ModelResponse
from goagents.records import DeliveryRecord, LeaseRecord, Paths, RunRecord, SessionRecord, SignalRecord, StepRecord
from goagents.store.base import ABSENT, AtVersion, Delete, Merge, Put, Write
from goagents.testing.kill_points import Boundary, KillPoint, KillSwitch, classify
from goagents.testing.tools import function_tool
from goagents.tools.base import ToolContext, ToolResult
from goagents.webhooks.base import Delivery

PATHS = Paths("default")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = RunRecord(
    id="run_1",
    kind="chat",
    status="running",
    session="s",
    namespace="default",
    cluster="demo",
    cluster_uid="uid",
    generation=1,
    agent="helper",
    principal="alice",
    slot=0,
    instance=0,
    input={"role": "user", "parts": []},
    created_at=NOW,
)
LEASE = LeaseRecord(token="lease_1", owner="proc_1", attempt=1, renewed_at=NOW, ttl=30, commit_id="c")
SESSION = SessionRecord(
    id="s",
    namespace="default",
    cluster="demo",
    cluster_uid="uid",
    principal="alice",
    head=1,
    active_run="run_1",
    created_at=NOW,
    updated_at=NOW,
)


def run(**changed: Any) -> Merge:
    return Merge(PATHS.run("run_1"), changed)


def lease(**changed: Any) -> Put:
    return Put(PATHS.lease("run_1"), {**LEASE.data(), **changed}, AtVersion("1"), server_time=("renewed_at",))


def step(kind: Any, path: str) -> Put:
    return Put(path, StepRecord(number=1, kind=kind, created_at=NOW).data(), ABSENT)


def released() -> list[Write]:
    return [
        Merge(PATHS.slot("default", "demo", 0), {"run": None}),
        Merge(PATHS.instance("default", "demo", "helper", 0), {"run": None}),
    ]


MODEL, TOOLS = step("model", PATHS.step("run_1", 1)), step("tools", PATHS.step("run_1", 2))
EVENTS = Put(PATHS.event_batch("run_1", "1-4"), {"attempt": 1, "position": "1", "events": []}, ABSENT)
CREATED = Put(PATHS.run("run_1"), RUN.data(), ABSENT)
SIGNAL = Put(PATHS.signal("run_1", "cancel"), SignalRecord(kind="cancel", principal="bob", created_at=NOW).data())
DELIVERY = DeliveryRecord(id="d", run="run_1", event="run.completed", url="u", body="{}", next_at=NOW, created_at=NOW)
TOLD = Put(PATHS.delivery("run_1", "run.completed"), DELIVERY.data(), ABSENT)

COMMITS: dict[str, tuple[Sequence[Write], set[Boundary]]] = {
    "a run is admitted": (
        [
            CREATED,
            Put(PATHS.lease("run_1"), LEASE.data(), ABSENT),
            Merge(PATHS.session("s"), {"head": 1, "active_run": "run_1"}, AtVersion("1")),
            Put(PATHS.message("s", 1), {}, ABSENT),
            Merge(PATHS.slot("default", "demo", 0), {"run": "run_1"}, ABSENT),
            Put(PATHS.idempotency("hash"), {"run": "run_1"}, ABSENT),
        ],
        {Boundary.ADMISSION},
    ),
    "a run is admitted in a new session": (
        [CREATED, Put(PATHS.session("s"), SESSION.data(), ABSENT)],
        {Boundary.ADMISSION},
    ),
    "a run is queued": (
        [
            Put(PATHS.run("run_1"), RUN.model_copy(update={"status": "queued"}).data(), ABSENT),
            Put(PATHS.lease("run_1"), LEASE.model_copy(update={"owner": ""}).data(), ABSENT),
            Merge(PATHS.session("s"), {"queue": ["run_1"]}, AtVersion("1")),
        ],
        {Boundary.ADMISSION},
    ),
    "a worker takes a run over": (
        [run(attempt=2, crashes=1), lease(token="lease_2", attempt=2), EVENTS],
        {Boundary.TAKEOVER},
    ),
    "a worker takes a queued run": ([run(attempt=2, status="running", slot=0), lease(), EVENTS], {Boundary.TAKEOVER}),
    "a model has answered": ([MODEL, run(log=[]), EVENTS, lease()], {Boundary.MODEL_RESULT}),
    "one call has its result": ([step("result", PATHS.result("run_1", 2, 0)), lease()], {Boundary.TOOL_RESULT}),
    "all calls have": ([TOOLS, run(log=[]), lease()], {Boundary.RESULTS}),
    "a summary is made": ([step("summary", PATHS.step("run_1", 1)), lease()], {Boundary.SUMMARY}),
    "a run is handed on": ([run(status="handed_off"), lease(owner="")], {Boundary.HAND_OFF}),
    "a run waits": ([run(status="waiting", waiting={}), *released(), lease(owner="")], {Boundary.PARK}),
    "what is left is recorded as it waits": (
        [run(status="waiting"), step("result", PATHS.result("run_1", 2, 0)), lease(owner="")],
        {Boundary.PARK, Boundary.TOOL_RESULT},
    ),
    "a person decides": ([run(status="queued", decisions={"call_1": {}}), lease(owner="")], {Boundary.DECISION}),
    "a run ends": (
        [run(status="succeeded"), Merge(PATHS.session("s"), {"active_run": None}), *released(), TOLD, lease(owner="")],
        {Boundary.SETTLE},
    ),
    "a run fails": ([run(status="failed"), lease(owner="")], {Boundary.SETTLE}),
    "a run is cancelled": ([run(status="cancelled"), lease(owner="")], {Boundary.SETTLE}),
    "a run ends and the next one begins": (
        [
            run(status="succeeded"),
            Merge(PATHS.session("s"), {"active_run": "run_2", "queue": []}, AtVersion("1")),
            Merge(PATHS.run("run_2"), {"head": 3}, AtVersion("1")),
            lease(owner=""),
        ],
        {Boundary.SETTLE, Boundary.PROMOTION},
    ),
    "a lease is renewed": ([lease()], {Boundary.RENEWAL}),
    "a lease is renewed with events": ([EVENTS, lease()], {Boundary.RENEWAL}),
    "events are kept": ([EVENTS], {Boundary.EVENTS}),
    "a dead process's run is put up": ([lease(owner="", token="lease_2")], {Boundary.REDISPATCH}),
    "somebody cancels": ([SIGNAL], {Boundary.CANCEL}),
    "a webhook was delivered": ([Merge(TOLD.path, {"state": "delivered"}, AtVersion("1"))], {Boundary.DELIVERY}),
    "a pointer at a run that is over is cleared": (
        [Merge(PATHS.session("s"), {"active_run": None}, AtVersion("1")), lease(owner="")],
        set(),
    ),
    "events are deleted": ([Delete(EVENTS.path)], set()),
    "a session is deleted": ([Delete(PATHS.session("s")), Delete(PATHS.lease("run_1"))], set()),
    "a cluster is applied": ([Put(PATHS.cluster("default", "demo"), {"status": "active"}, ABSENT)], set()),
    "nothing": ([], set()),
}


@pytest.mark.parametrize("what", COMMITS)
def test_a_commit_is_told_by_what_it_writes(what: str):
    writes, expected = COMMITS[what]
    assert classify(writes) == expected


def test_every_boundary_has_its_points_and_its_example():
    for boundary in Boundary:
        before, after = KillPoint(f"before-{boundary}"), KillPoint(f"after-{boundary}")
        assert before.boundary == after.boundary == boundary
        assert any(boundary in expected for _, expected in COMMITS.values())
    others = {point for point in KillPoint if point.boundary is None}
    assert {str(point) for point in others} == {
        "in-model-stream",
        "before-tool-call",
        "in-tool-call",
        "after-tool-call",
        "before-enqueue",
        "after-enqueue",
        "before-webhook",
        "after-webhook",
    }


class Killed(Exception):
    pass


def killed() -> None:
    raise Killed


async def lives(work: Awaitable[object]) -> bool:
    """Whether `work` is done without the process being killed."""
    try:
        await work
    except Killed:
        return False
    return True


@pytest.fixture
async def parts(tmp_path: Any) -> Any:
    async with process_parts(tmp_path) as made:
        yield made


class TestCommits:
    async def test_before_it_nothing_is_written_and_after_it_all(self, parts: Parts):
        path = MODEL.path
        before = KillSwitch(KillPoint.BEFORE_MODEL_RESULT, kill=killed).services(parts.services)
        assert not await lives(before.store.commit([MODEL]))
        assert (await parts.store.get_many([path])).documents == {}
        after = KillSwitch(KillPoint.AFTER_MODEL_RESULT, kill=killed).services(parts.services)
        assert not await lives(after.store.commit([MODEL]))
        assert (await parts.store.get_many([path])).documents

    async def test_others_pass_and_reads_do(self, parts: Parts):
        switch = KillSwitch(KillPoint.BEFORE_RESULTS, kill=killed)
        store = switch.services(parts.services).store
        assert await lives(store.commit([MODEL]))
        assert (await store.get_many([MODEL.path])).documents
        assert switch.reached == 0

    async def test_the_occurrence_that_was_asked_for(self, parts: Parts):
        switch = KillSwitch(KillPoint.AFTER_RENEWAL, occurrence=3, kill=killed)
        store = switch.services(parts.services).store
        renewal = Put(PATHS.lease("run_1"), LEASE.data())
        assert [await lives(store.commit([renewal])) for _ in range(4)] == [True, True, False, True]

    async def test_one_that_failed_was_not_reached(self, parts: Parts):
        switch = KillSwitch(KillPoint.AFTER_RESULTS, kill=killed)
        store = switch.services(parts.services).store
        await parts.store.commit([TOOLS])
        with pytest.raises(StoreConflict):
            await store.commit([TOOLS])
        assert switch.reached == 0

    async def test_where_killing_returns_the_call_does_not(self, parts: Parts):
        died = asyncio.Event()
        store = KillSwitch(KillPoint.BEFORE_SETTLE, kill=died.set).services(parts.services).store
        committing = asyncio.create_task(store.commit([Put(PATHS.run("run_1"), {"status": "succeeded"})]))
        await died.wait()
        await asyncio.sleep(0.02)
        assert not committing.done()
        assert (await parts.store.get_many([PATHS.run("run_1")])).documents == {}
        committing.cancel()


class TestModels:
    async def heard(self, parts: Parts, occurrence: int) -> list[int]:
        """How many events each of two streams had before the process died."""
        switch = KillSwitch(KillPoint.IN_MODEL_STREAM, occurrence=occurrence, kill=killed)
        provider = await switch.services(parts.services).providers.get("scripted")
        counts: list[int] = []
        for _ in range(2):
            counts.append(0)
            try:
                async for event in provider.stream(ModelRequest("m", ())):
                    counts[-1] += 1
                    last = event
                assert isinstance(last, ModelResponse)
            except Killed:
                break
        return counts

    async def test_a_stream_that_has_begun(self, parts: Parts):
        parts.says("one two three four five", "six seven eight nine ten")
        assert await self.heard(parts, 1) == [0]
        parts.says("one two three four five", "six seven eight nine ten")
        whole, nothing = await self.heard(parts, 2)
        assert (whole > 2, nothing) == (True, 0)

    async def test_a_stream_that_says_nothing_is_not_in_the_middle_of_it(self, parts: Parts):
        parts.says({"tool_calls": [{"name": "now"}]}, {"tool_calls": [{"name": "now"}]})
        assert await self.heard(parts, 1) == [1, 1]


CONTEXT = ToolContext("run_1", "s", "default", "helper", "call_1", "run_1/1/call_1")


class TestTools:
    async def called(self, parts: Parts, switch: KillSwitch, *names: str) -> list[bool]:
        services = switch.services(parts.services)
        tools = {tool.definition.name: tool for tool in await parts.opened(services)}
        return [await lives(tools[name].call({}, CONTEXT)) for name in names]

    @pytest.mark.parametrize(
        ("point", "calls"),
        [(KillPoint.BEFORE_TOOL_CALL, 0), (KillPoint.IN_TOOL_CALL, 1), (KillPoint.AFTER_TOOL_CALL, 1)],
    )
    async def test_around_a_call(self, parts: Parts, point: KillPoint, calls: int):
        slow = function_tool("slow", answer_after(0.2 if point is KillPoint.IN_TOOL_CALL else 0))
        parts.offers(slow)
        switch = KillSwitch(point, kill=killed, hold=0.01)
        assert await self.called(parts, switch, "slow") == [False]
        assert len(slow.calls) == calls

    async def test_a_call_too_quick_to_die_in(self, parts: Parts):
        parts.offers(function_tool("quick", answer_after(0)))
        switch = KillSwitch(KillPoint.IN_TOOL_CALL, kill=killed, hold=5)
        assert await self.called(parts, switch, "quick") == [True]
        assert switch.reached == 0

    async def test_one_tool_among_others(self, parts: Parts):
        parts.offers(function_tool("a", answer_after(0)), function_tool("b", answer_after(0)))
        switch = KillSwitch(KillPoint.AFTER_TOOL_CALL, occurrence=2, kill=killed, tool="b")
        assert await self.called(parts, switch, "a", "b", "a", "b") == [True, True, True, False]


def answer_after(seconds: float) -> Callable[[Any], Awaitable[ToolResult | str]]:
    async def function(_: Any) -> ToolResult | str:
        await asyncio.sleep(seconds)
        return "done"

    return function


@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_task_and_a_webhook(parts: Parts, side: str):
    task = Task("run", "default", "run_1", "lease_1")
    services = KillSwitch(KillPoint(f"{side}-enqueue"), kill=killed).services(parts.services)
    assert not await lives(services.dispatch.enqueue(task))
    assert parts.dispatch.tasks == ([] if side == "before" else [task])
    delivery = Delivery("d", "http://127.0.0.1/", "{}", NOW)
    services = KillSwitch(KillPoint(f"{side}-webhook"), kill=killed).services(parts.services)
    assert not await lives(services.webhooks.deliver(delivery))
    assert parts.webhooks.deliveries == ([] if side == "before" else [delivery])
    assert await lives(services.dispatch.enqueue(task))
