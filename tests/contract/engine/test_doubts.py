"""An unsafe call that nobody knows the outcome of is never repeated silently, whatever became of its run."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.support.desk import ALLOW, DENY, Desk
from tests.support.durable import (
    Answering,
    Shop,
    call,
    calling,
    dies,
    killed,
    lapse,
    process,
    record,
    results,
    say,
    shop_cluster,
    work,
)
from tests.support.engine import ALICE, applied
from tests.support.runs import PATHS, Held, at_rest, conversation

from goagents.engine import controls, runs
from goagents.engine.execution import doubts
from goagents.engine.execution.approval import review
from goagents.engine.loaded import OpenTool, Toolbox
from goagents.engine.recovery.sweep import sweep
from goagents.engine.recovery.worker import perform
from goagents.messages import Message, TextPart, ToolCallPart
from goagents.records import SessionRecord
from goagents.resources import Decision
from goagents.store.base import Merge, Store
from goagents.telemetry.base import RunFinished
from goagents.testing.kill_points import KillPoint
from goagents.testing.tools import StaticToolset, StaticToolsets

REFUND = call("refund", 3, amount=5)
SCRIPT = calling([REFUND])
ONE_TURN = {"max_turns": 1}  # so the run fails once its tools have answered


async def left_behind(desk: Desk, agent: Mapping[str, Any] | None = None, **entry: Any) -> str:
    """Have a process die with the refund under way."""
    await applied(desk.services, shop_cluster(agent=agent, **entry))
    run_id = await dies(desk.services, KillPoint.AFTER_TOOL_CALL, tool="refund")
    await sweep(desk.services)
    return run_id


async def failed(desk: Desk) -> str:
    run_id = await left_behind(desk, ONE_TURN)
    assert (await desk.goes_on(run_id)).status == "failed"
    return run_id


async def given_up(desk: Desk) -> str:
    """`runs.max_attempts` allows no crash at all."""
    run_id = await left_behind(desk)
    assert (await desk.goes_on(run_id)).status == "failed"
    return run_id


async def cancelled_where_it_lay(desk: Desk) -> str:
    run_id = await left_behind(desk)
    assert (await controls.cancel(desk.services, ALICE, run_id)).status == "cancelled"
    return run_id


async def cancelled_in_the_call(desk: Desk) -> str:
    await applied(desk.services, shop_cluster())
    entered, refund = asyncio.Event(), desk.shop.by_name["refund"]
    answers = refund.function

    async def hang(_: Mapping[str, Any]) -> str:
        entered.set()
        await asyncio.Event().wait()
        return ""

    refund.function = hang
    watch = await say(desk.services)
    await asyncio.wait_for(entered.wait(), 60)
    refund.function = answers
    assert (await controls.cancel(desk.services, ALICE, watch.run_id)).status == "cancelled"
    return watch.run_id


async def cancelled_while_it_waits(desk: Desk) -> str:
    run_id = await left_behind(desk, unknown_outcome="wait")
    assert (await desk.goes_on(run_id)).status == "waiting"
    assert (await controls.cancel(desk.services, ALICE, run_id)).status == "cancelled"
    return run_id


async def cancelled_once_it_was_allowed(desk: Desk) -> str:
    run_id = await left_behind(desk, unknown_outcome="wait")
    assert (await desk.goes_on(run_id)).status == "waiting"
    await desk.decide(run_id, ALLOW)
    assert (await controls.cancel(desk.services, ALICE, run_id)).status == "cancelled"
    return run_id


async def denied(desk: Desk) -> str:
    run_id = await left_behind(desk, ONE_TURN, unknown_outcome="wait")
    assert (await desk.goes_on(run_id)).status == "waiting"
    await desk.decide(run_id, DENY)
    assert (await desk.goes_on(run_id)).status == "failed"
    return run_id


async def compacted(desk: Desk) -> str:
    run_id = await left_behind(desk)
    assert (await desk.goes_on(run_id)).status == "succeeded"
    session = await remembered(desk)
    await desk.store.commit([Merge(PATHS.session("talk"), {"compacted": session.head, "summary": "All went well."})])
    return run_id


WAYS = [
    failed,
    given_up,
    cancelled_where_it_lay,
    cancelled_in_the_call,
    cancelled_while_it_waits,
    cancelled_once_it_was_allowed,
    denied,
    compacted,
]


async def remembered(desk: Desk) -> SessionRecord:
    path = PATHS.session("talk")
    return SessionRecord.of((await desk.store.get_many([path])).documents[path].data)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_the_next_turn_does_not_repeat_the_call_by_itself(store: Store, way: Any):
    desk = Desk(store, SCRIPT, runs={"poll_interval": 0.05, "max_attempts": 1 if way is given_up else 5})
    await way(desk)
    await at_rest(desk.services, "talk")
    before = len(desk.shop.calls("refund"))
    run = await desk.again()
    assert run.waiting
    assert [(c.arguments, c.reason) for c in run.waiting.calls] == [(REFUND["arguments"], "outcome_unknown")]
    assert len(desk.shop.calls("refund")) == before
    await desk.decide(run.id, ALLOW)
    await desk.goes_on(run.id)
    assert len(desk.shop.calls("refund")) == before + 1
    assert (await remembered(desk)).doubts  # until the session is deleted
    assert (await desk.again()).waiting


async def test_who_asks_again_after_a_failure_is_told_what_was_done(store: Store):
    """Its result is known, so it is no doubt; but a run that failed leaves no messages, and the model did not know."""
    script = calling([call("look", 1), call("reserve", 2), REFUND])
    desk = Desk(store, script)
    await applied(desk.services, shop_cluster(agent=ONE_TURN))
    await (await say(desk.services)).finished()
    said = await conversation(desk.services, "talk")
    assert [message.role for message in said] == ["user", "assistant"]
    assert said[1].text == (
        "[This turn failed before it had an answer. It had made these calls by then:\n"
        '- refund {"order":3,"amount":5}: done\n]'
    )
    asked = Answering()
    other = process(store, asked, desk.shop)
    await (await say(other, "again")).answer()
    assert [message.text for message in asked.asked[0].messages] == ["hi", said[1].text, "again"]
    await at_rest(desk.services, "talk")


@pytest.mark.parametrize("way", WAYS[:-1], ids=lambda way: way.__name__)
async def test_what_is_in_doubt_is_told_too(store: Store, way: Any):
    desk = Desk(store, SCRIPT, runs={"poll_interval": 0.05, "max_attempts": 1 if way is given_up else 5})
    run = await record(store, await way(desk))
    (_, told) = await conversation(desk.services, "talk")
    came = "an error" if way is denied else "nobody knows what it came to"
    ended = "was cancelled" if run.status == "cancelled" else "failed"
    assert told.text.splitlines() == [
        f"[This turn {ended} before it had an answer. It had made these calls by then:",
        f'- refund {{"order":3,"amount":5}}: {came}',
        "]",
    ]


async def test_a_run_that_never_had_its_turn_tells_nothing(store: Store):
    desk, held = Desk(store, SCRIPT), Held()
    busy = process(store, held, desk.shop, desk.queue)
    await applied(busy, shop_cluster())
    first = await say(busy)
    await held.entered.wait()
    second = await say(busy, "and then", kind="background")
    await controls.cancel(busy, ALICE, second.run_id)
    held.release.set()
    await first.answer()
    assert [message.text for message in await conversation(busy, "talk")] == ["hi", "done"]


async def test_calls_that_were_answered_leave_no_doubt(store: Store):
    script = calling([call("look", 1), call("reserve", 2), REFUND])
    desk = Desk(store, script)
    await applied(desk.services, shop_cluster(agent=ONE_TURN))
    watch = await say(desk.services)
    await watch.finished()
    assert (await record(store, watch.run_id)).status == "failed"
    assert (await remembered(desk)).doubts == []


@pytest.mark.parametrize("tool", ["look", "reserve"])
async def test_a_call_that_may_be_repeated_leaves_no_doubt(store: Store, tool: str):
    desk = Desk(store, calling([call(tool, 1)]))
    await applied(desk.services, shop_cluster())
    run_id = await dies(desk.services, KillPoint.AFTER_TOOL_CALL, tool=tool)
    await controls.cancel(desk.services, ALICE, run_id)
    assert (await remembered(desk)).doubts == []


async def test_the_arguments_that_a_person_gave_are_remembered_too(store: Store):
    """What the model asked for and what was sent are two calls; neither is repeated by itself."""
    script = [
        {"turn": 1, "tool_calls": [REFUND]},
        {"turn": 2, "tool_calls": [{"name": "refund", "arguments": CHANGED}]},
        {"turn": 3, "tool_calls": [REFUND]},
    ]
    desk = Desk(store, script)
    run = await desk.waiting(approval="unsafe")
    await desk.decide(run.id, Decision(decision="allow", arguments=CHANGED))
    (task,) = desk.queue.taken()
    entered = asyncio.Event()

    async def hang(_: Mapping[str, Any]) -> str:
        entered.set()
        await asyncio.Event().wait()
        return ""

    refund = desk.shop.by_name["refund"]
    answers, refund.function = refund.function, hang
    desk.queue.tasks.append(task)
    working = asyncio.create_task(work(desk.services, desk.queue))
    await asyncio.wait_for(entered.wait(), 60)
    refund.function = answers
    assert (await controls.cancel(desk.services, ALICE, run.id)).status == "cancelled"
    await working
    await applied(desk.services, shop_cluster(approval="never"))
    for arguments in (CHANGED, REFUND["arguments"]):
        waits = await desk.again()
        assert waits.waiting
        assert [(c.arguments, c.reason) for c in waits.waiting.calls] == [(arguments, "outcome_unknown")]
        await controls.cancel(desk.services, ALICE, waits.id)


CHANGED = {"order": 3, "amount": 4}


async def allowed_with_changes(desk: Desk, **entry: Any) -> str:
    """Have a person change the refund's arguments, and a process die with that call under way."""
    run = await desk.waiting(approval="unsafe", **entry)
    await desk.decide(run.id, Decision(decision="allow", arguments=CHANGED))
    (task,) = desk.queue.taken()
    await killed(desk.services, KillPoint.AFTER_TOOL_CALL, lambda made: perform(made, task), tool="refund")
    await lapse(desk.store, run.id)
    await sweep(desk.services)
    assert desk.shop.calls("refund") == [CHANGED]
    return run.id


async def test_a_person_is_shown_what_was_sent_and_allows_just_that(store: Store):
    desk = Desk(store, SCRIPT)
    run_id = await allowed_with_changes(desk, unknown_outcome="wait")
    run = await desk.goes_on(run_id)
    assert run.waiting
    assert [(c.arguments, c.reason) for c in run.waiting.calls] == [(CHANGED, "outcome_unknown")]
    await desk.decide(run_id, ALLOW)
    assert (await desk.goes_on(run_id)).status == "succeeded"
    assert desk.shop.calls("refund") == [CHANGED, CHANGED]


@pytest.mark.parametrize("policy", ["tell", "wait"])
async def test_neither_what_was_asked_nor_what_was_sent_is_repeated(store: Store, policy: str):
    sent = {"name": "refund", "arguments": CHANGED}
    script = [
        {"round": 1, "turn": 1, "tool_calls": [REFUND]},
        {"round": 2, "turn": 1, "after": "*", "tool_calls": [sent, call("look", 1)]},
        {"round": 1, "turn": 2, "tool_calls": [REFUND]},
        {"after": "*", "text": "done"},
    ]
    desk = Desk(store, script)
    run_id = await allowed_with_changes(desk, unknown_outcome=policy)
    run = await desk.goes_on(run_id)
    if policy == "wait":
        await desk.decide(run_id, DENY)
        run = await desk.goes_on(run_id)
    else:
        (refund, *_) = results(await conversation_of(desk, run_id))
        assert refund.unknown
        assert json.dumps(CHANGED) in "".join(part.text for part in refund.content if isinstance(part, TextPart))
    assert run.waiting
    assert [c.arguments for c in run.waiting.calls] == [CHANGED]
    await controls.cancel(desk.services, ALICE, run_id)
    await applied(desk.services, shop_cluster())  # no tool asks for approval by itself
    waits = await desk.again()
    assert waits.waiting
    assert [(c.arguments, c.reason) for c in waits.waiting.calls] == [(REFUND["arguments"], "outcome_unknown")]
    assert desk.shop.calls("refund") == [CHANGED]


async def conversation_of(desk: Desk, run_id: str) -> list[Message]:
    steps = (await runs.get_run(desk.services, ALICE, run_id)).steps or ()
    return [step.message for step in steps if step.message is not None and step.kind == "tools"]


@pytest.mark.parametrize("entry", [{"approval": "unsafe"}, {"unknown_outcome": "wait"}], ids=["approval", "wait"])
async def test_a_tool_that_was_not_there_when_it_was_asked_for_is_no_harmless_one(store: Store, entry: Any):
    desk = Desk(store, SCRIPT)
    await applied(desk.services, shop_cluster(**entry))
    closed = desk.another()
    closed.toolsets = StaticToolsets({"shop": StaticToolset([])})
    run_id = await dies(closed, KillPoint.AFTER_MODEL_RESULT)
    await sweep(desk.services)
    run = await desk.goes_on(run_id)
    assert run.waiting
    assert [(c.name, c.effect) for c in run.waiting.calls] == [("refund", "unsafe")]
    assert desk.shop.calls("refund") == []


async def test_of_two_equal_calls_in_one_step_the_second_waits_too(store: Store):
    """The first one may have taken effect; the second one had not begun."""
    shop, doubtful = Shop(), ToolCallPart("c1", "refund", REFUND["arguments"])
    spec = shop_cluster().spec.agents[0].tools[0]
    box = Toolbox({"refund": OpenTool(shop.by_name["refund"], None, spec)})
    found = review(
        [doubtful, replace(doubtful, id="c2")],
        box,
        results={},
        effects={"c1": "unsafe", "c2": "unsafe"},
        doubts={"c1"},
        decisions={},
        unknown=(),
    )
    assert (list(found.answered), [c.call_id for c in found.waiting], found.run) == (["c1"], ["c2"], [])


async def test_what_a_session_remembers_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doubts, "MAX_DOUBTS", 2)
    script = [{"turn": turn, "tool_calls": [call("refund", turn)]} for turn in (1, 2, 3)]
    desk = Desk(store, script)
    await applied(desk.services, shop_cluster())
    for _ in range(3):
        run_id = await dies(desk.services, KillPoint.AFTER_TOOL_CALL, tool="refund")
        await controls.cancel(desk.services, ALICE, run_id)
    newest = [doubts.fingerprint("refund", call("refund", turn)["arguments"]) for turn in (2, 3)]
    assert (await remembered(desk)).doubts == newest


@pytest.mark.parametrize("how", ["queued", "waiting"])
async def test_a_run_that_ends_without_being_executed_is_told_of(store: Store, how: str):
    desk = Desk(store, SCRIPT)
    if how == "waiting":
        run_id = (await desk.waiting()).id
    else:
        await applied(desk.services, shop_cluster())
        run_id = (await say(desk.services, kind="background")).run_id
    await controls.cancel(desk.services, ALICE, run_id)
    told = [event for event in desk.services.seen if isinstance(event, RunFinished)]
    assert [(event.run_id, event.status, event.executed) for event in told] == [(run_id, "cancelled", False)]
    assert (await runs.get_run(desk.services, ALICE, run_id)).status == "cancelled"
