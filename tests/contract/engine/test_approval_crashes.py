"""Decisions, and processes and stores that fail around them: nothing is carried out that nobody allowed, or twice."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from tests.support.desk import ALLOW, Desk
from tests.support.durable import (
    Shop,
    call,
    calling,
    killed,
    lapse,
    process,
    record,
    records,
    results,
    say,
    shop_cluster,
    work,
)
from tests.support.engine import ALICE, applied
from tests.support.runs import Held, at_rest, conversation

from goagents.engine import controls, runs
from goagents.engine.recovery.sweep import sweep
from goagents.engine.recovery.worker import perform
from goagents.messages import Message, TextPart, ToolCallPart, Usage
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse
from goagents.resources import Decision, Run
from goagents.store.base import Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.faults import Fault, FaultyStore
from goagents.testing.kill_points import Boundary, KillPoint, classify


async def test_a_decision_whose_task_was_lost_is_found_by_the_sweeper(store: Store):
    desk = Desk(store, calling([call("refund")]))
    run = await desk.waiting()
    desk.queue.failures = 1
    await desk.decide(run.id)
    assert desk.queue.tasks == []
    await lapse(store, run.id)
    assert (await sweep(desk.services)).redispatched == 1
    assert (await desk.goes_on(run.id)).status == "succeeded"
    assert desk.shop.calls("refund") == [{"order": 1}]


@pytest.mark.parametrize("policy", ["tell", "wait"])
async def test_an_approved_call_in_which_its_process_died_is_not_repeated(store: Store, policy: str):
    desk = Desk(store, calling([call("refund", 7)], text="it said: {result}"))
    run = await desk.waiting(unknown_outcome=policy)
    await desk.decide(run.id)
    (task,) = desk.queue.taken()
    await killed(desk.services, KillPoint.AFTER_TOOL_CALL, lambda dying: perform(dying, task), tool="refund")
    assert desk.shop.calls("refund") == [{"order": 7}]
    await lapse(store, run.id)
    await sweep(desk.services)
    after = await desk.goes_on(run.id)
    assert len(desk.shop.calls("refund")) == 1
    if policy == "tell":
        assert after.output
        assert "Nobody knows what this call came to" in after.output.text
        return
    assert after.waiting is not None
    assert [(c.call_id, c.reason) for c in after.waiting.calls] == [("call_1", "outcome_unknown")]
    await desk.decide(run.id)
    assert (await desk.goes_on(run.id)).status == "succeeded"
    assert len(desk.shop.calls("refund")) == 2  # as a person decided


@pytest.mark.parametrize(
    "point",
    [KillPoint.BEFORE_PARK, KillPoint.AFTER_MODEL_RESULT, KillPoint.AFTER_PARK, KillPoint.BEFORE_DECISION],
)
async def test_a_process_that_dies_around_the_wait(store: Store, point: KillPoint):
    desk = Desk(store, calling([call("look", 1), call("refund", 2)]))
    await applied(desk.services, shop_cluster(approval="unsafe"))

    async def job(made: Any) -> None:
        watch = await say(made)
        run = await watch.answer()
        assert isinstance(run, Run)
        await controls.approve(made, ALICE, run.id, [ALLOW])

    await killed(desk.services, point, job)
    (run,) = await records(store)
    if run.status == "running":
        await lapse(store, run.id)
        await sweep(desk.services)
        await desk.goes_on(run.id)
    assert (await record(store, run.id)).status == "waiting"
    assert desk.shop.calls("refund") == []
    await desk.decide(run.id)
    assert (await desk.goes_on(run.id)).status == "succeeded"
    assert desk.shop.calls("refund") == [{"order": 2}]


@pytest.mark.parametrize("kind", ["conflict", "answer_lost", "request_lost", "late"])
@pytest.mark.parametrize("boundary", [Boundary.PARK, Boundary.DECISION])
async def test_a_wait_and_a_decision_are_written_once_whatever_the_store_does(
    store: Store, boundary: Boundary, kind: Any
):
    desk = Desk(store, calling([call("look"), call("refund")]))
    faulty = FaultyStore(store, [Fault(kind, lambda writes: boundary in classify(writes))])
    desk.services = desk.another(faulty)
    run = await desk.waiting()
    decided = await desk.decide(run.id)
    assert faulty.injected
    await faulty.flush()
    assert decided.status == "handed_off"
    ended = await desk.goes_on(run.id)
    assert (ended.status, ended.attempt) == ("succeeded", 2)
    assert (len(desk.shop.calls("look")), len(desk.shop.calls("refund"))) == (1, 1)
    await at_rest(desk.services, "talk")


class Repetitive(Held):
    """A model of a server that numbers the calls of each answer anew: `call_0` is in all of them."""

    def __init__(self, *answers: Sequence[tuple[str, int]]) -> None:
        super().__init__()
        self.answers = answers

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        number = sum(message.role == "assistant" for message in request.messages)
        calls = self.answers[number] if number < len(self.answers) else ()
        parts = [ToolCallPart(f"call_{i // 2}", name, {"order": order}) for i, (name, order) in enumerate(calls)]
        answer = Message("assistant", tuple(parts) or (TextPart("done"),))
        yield ModelResponse(answer, "tool_use" if parts else "end_turn", Usage(1, 1), request.model)


async def test_a_decision_is_about_its_call_and_not_about_a_later_one_of_the_same_id(store: Store):
    shop, queue = Shop(), RecordingDispatch()
    services = process(store, Repetitive([("refund", 1)], [("refund", 2)]), shop, queue)
    await applied(services, shop_cluster(approval="unsafe"))
    watch = await say(services)
    await watch.answer()
    await controls.approve(services, ALICE, watch.run_id, [ALLOW])
    (task,) = queue.taken()
    await killed(services, KillPoint.BEFORE_PARK, lambda dying: perform(dying, task))
    assert shop.calls("refund") == [{"order": 1}]
    await lapse(store, watch.run_id)
    await sweep(services)
    await work(services, queue)
    assert shop.calls("refund") == [{"order": 1}]
    run = await runs.get_run(services, ALICE, watch.run_id)
    assert run.waiting
    assert [(c.arguments, c.reason) for c in run.waiting.calls] == [({"order": 2}, "approval")]


async def test_calls_of_one_answer_that_have_the_same_id_are_told_apart(store: Store):
    shop, queue = Shop(), RecordingDispatch()
    services = process(store, Repetitive([("refund", 1), ("refund", 2)], [("look", 3), ("reserve", 4)]), shop, queue)
    await applied(services, shop_cluster(approval="unsafe"))
    watch = await say(services)
    run = await watch.answer()
    assert isinstance(run, Run)
    assert run.waiting
    first, second = run.waiting.calls
    assert first.call_id != second.call_id
    await controls.approve(
        services,
        ALICE,
        run.id,
        [Decision(call_id=first.call_id, decision="deny"), Decision(call_id=second.call_id, decision="allow")],
    )
    await work(services, queue)
    assert (await runs.get_run(services, ALICE, run.id)).status == "succeeded"
    assert [shop.calls(name) for name in ("refund", "look", "reserve")] == [[{"order": n}] for n in (2, 3, 4)]
    keys = [context.idempotency_key for name in ("refund", "look", "reserve") for context in shop.contexts(name)]
    assert len(set(keys)) == 3
    said = await conversation(services, "talk")
    asked = [part.id for message in said for part in message.tool_calls]
    assert [part.call_id for part in results(said)] == asked
