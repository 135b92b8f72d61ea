"""Calls that a person has to decide on: the run waits and holds nothing; what was decided is carried out once."""

import asyncio
from typing import Any

import pytest
from tests.support.desk import ALLOW, DENY, Desk
from tests.support.durable import (
    Answering,
    Shop,
    call,
    calling,
    process,
    record,
    results,
    say,
    shop_cluster,
    told,
)
from tests.support.engine import ALICE, BOB, applied
from tests.support.runs import PATHS, at_rest, conversation

from goagents.engine import clusters, controls, runs
from goagents.engine.recovery.sweep import sweep
from goagents.engine.recovery.worker import perform
from goagents.errors import (
    Conflict,
    Invalid,
    LimitExceeded,
    NotFound,
    RunTimedOut,
)
from goagents.events import Cursor
from goagents.resources import Decision, Run
from goagents.store.base import Filter, Query, Store


@pytest.mark.parametrize(
    ("approval", "gated"), [("always", ["look", "refund"]), ("unsafe", ["refund"]), ("never", None)]
)
async def test_what_a_person_has_to_approve(store: Store, approval: str, gated: list[str] | None):
    desk = Desk(store, calling([call("look"), call("refund")]))
    await applied(desk.services, shop_cluster(approval=approval))
    answer = await (await say(desk.services)).answer()
    if gated is None:
        assert not isinstance(answer, Run)
        assert desk.shop.calls("refund") == [{"order": 1}]
        return
    assert isinstance(answer, Run)
    assert answer.waiting is not None
    assert [(c.name, c.arguments, c.reason) for c in answer.waiting.calls] == [
        (name, {"order": 1}, "approval") for name in gated
    ]
    assert len(desk.shop.calls("look")) == ("look" not in gated)
    assert desk.shop.calls("refund") == []
    assert desk.queue.tasks == []


async def test_an_approved_call_is_carried_out_and_the_run_goes_on(store: Store):
    desk = Desk(store, calling([call("refund", 7)], text="it said: {result}"))
    run = await desk.waiting()
    assert run.waiting is not None
    assert (run.waiting.until - run.waiting.since).total_seconds() == 7 * 86_400
    assert [(c.call_id, c.effect) for c in run.waiting.calls] == [("call_1", "unsafe")]
    decided = await desk.decide(run.id)
    assert (decided.status, decided.waiting) == ("handed_off", None)
    assert desk.shop.calls("refund") == []
    ended = await desk.goes_on(run.id)
    assert (ended.status, ended.attempt, ended.output and ended.output.text) == ("succeeded", 2, "it said: refund 7")
    assert desk.shop.calls("refund") == [{"order": 7}]
    assert (await record(store, run.id)).give_up_at is None
    assert [message.role for message in await conversation(desk.services, "talk")] == [
        "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    await at_rest(desk.services, "talk")
    kinds = [(e.id, e.type) for e in await told(await runs.watch(desk.services, ALICE, run.id))]
    assert ("1-3", "run.waiting") in kinds
    assert kinds[3:5] == [("2-1", "attempt"), ("2-2", "tool.started")]


@pytest.mark.parametrize("reason", [None, "not on a Sunday"])
async def test_a_denied_call_is_never_made_and_the_model_is_told_why(store: Store, reason: str | None):
    desk = Desk(store, calling([call("refund")], text="it said: {result}"))
    run = await desk.waiting()
    await desk.decide(run.id, Decision(decision="deny", reason=reason))
    ended = await desk.goes_on(run.id)
    expected = f"A person did not allow this call{f': {reason}' if reason else '.'}"
    assert ended.output
    assert ended.output.text == f"it said: {expected}"
    assert desk.shop.calls("refund") == []
    (part,) = results(await conversation(desk.services, "talk"))
    assert (part.is_error, part.unknown) == (True, False)
    await at_rest(desk.services, "talk")


async def test_a_person_may_change_the_arguments(store: Store):
    desk = Desk(store, calling([call("refund", 7, amount=90)]))
    run = await desk.waiting()
    await desk.decide(run.id, Decision(decision="allow", arguments={"order": 7, "amount": 20}))
    assert (await desk.goes_on(run.id)).status == "succeeded"
    assert desk.shop.calls("refund") == [{"order": 7, "amount": 20}]
    (part,) = results(await conversation(desk.services, "talk"))
    text = "".join(getattr(content, "text", "") for content in part.content)
    assert text.startswith("refund 7")
    assert 'A person changed the arguments of this call to {"order": 7, "amount": 20}' in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"order": "seven"}, "order"),
        ({"order": 7, "amount": 1000}, "amount"),
        ({}, "order"),
        ({"order": 7, "whim": True}, "whim"),
    ],
)
@pytest.mark.parametrize("warm", [True, False])
async def test_changed_arguments_have_to_fit_the_tool(
    store: Store, arguments: dict[str, Any], said: str, *, warm: bool
):
    desk = Desk(store, calling([call("refund", 7)]))
    run = await desk.waiting()
    if not warm:
        desk.services = desk.another()
    with pytest.raises(Invalid) as refused:
        await desk.decide(run.id, Decision(call_id="call_1", decision="allow", arguments=arguments))
    (error,) = refused.value.errors
    assert error.path == "decisions.0.arguments"
    assert said in error.message
    assert (await record(store, run.id)).status == "waiting"
    assert desk.queue.tasks == []
    await desk.decide(run.id, Decision(decision="allow", arguments={"order": 7, "amount": 1}))
    assert (await desk.goes_on(run.id)).status == "succeeded"
    assert desk.shop.calls("refund") == [{"order": 7, "amount": 1}]


async def test_arguments_of_a_tool_that_cannot_be_opened_here_are_the_models_to_mend(store: Store):
    """Whoever approves may not reach the tool; then the call's own check tells the model."""
    desk = Desk(store, calling([call("refund", 7)], text="it said: {result}"))
    run = await desk.waiting()
    elsewhere = desk.another()
    broken = Shop()
    broken.failure = "no way to the shop from here"
    elsewhere.toolsets.toolsets["shop"] = broken  # type: ignore[attr-defined] # the test's own
    await controls.approve(elsewhere, ALICE, run.id, [Decision(decision="allow", arguments={"order": "seven"})])
    ended = await desk.goes_on(run.id)
    assert ended.output
    assert "do not fit the schema" in ended.output.text
    assert desk.shop.calls("refund") == []


async def test_calls_of_one_step_that_need_nobody_are_made_once(store: Store):
    step = [call("look", 1), call("refund", 2), call("reserve", 3), call("refund", 4)]
    desk = Desk(store, calling(step))
    run = await desk.waiting()
    assert [c.call_id for c in run.waiting.calls] == ["call_2", "call_4"] if run.waiting else False
    assert (desk.shop.calls("look"), desk.shop.calls("reserve")) == ([{"order": 1}], [{"order": 3}])
    steps = (await runs.get_run(desk.services, ALICE, run.id)).steps or []
    assert [s.kind for s in steps] == ["model", "result", "result"]
    await desk.decide(run.id, Decision(call_id="call_4", decision="allow"), Decision(call_id="call_2", decision="deny"))
    ended = await desk.goes_on(run.id, desk.another())
    assert ended.status == "succeeded"
    assert [desk.shop.calls(name) for name in ("look", "refund", "reserve")] == [
        [{"order": 1}], [{"order": 4}], [{"order": 3}],
    ]  # fmt: skip
    parts = results(await conversation(desk.services, "talk"))
    assert [(part.call_id, part.is_error) for part in parts] == [
        ("call_1", False), ("call_2", True), ("call_3", False), ("call_4", False),
    ]  # fmt: skip
    assert ended.tool_calls == 4


async def test_a_run_may_wait_more_than_once(store: Store):
    desk = Desk(store, calling([call("refund", 1)], [call("refund", 2)], [call("look", 3)]))
    run = await desk.waiting()
    for order in (1, 2):
        assert len(desk.shop.calls("refund")) == order - 1
        waiting = (await runs.get_run(desk.services, ALICE, run.id)).waiting
        assert waiting is not None
        assert [c.arguments for c in waiting.calls] == [{"order": order}]
        assert not (await record(store, run.id)).decisions
        await desk.decide(run.id)
        await desk.goes_on(run.id)
    ended = await runs.get_run(desk.services, ALICE, run.id)
    assert (ended.status, ended.attempt) == ("succeeded", 3)
    assert desk.shop.calls("refund") == [{"order": 1}, {"order": 2}]
    assert desk.shop.calls("look") == [{"order": 3}]


async def test_a_run_that_waits_holds_its_session_and_nothing_else(store: Store):
    script = [*({"when": "hi", **step} for step in calling([call("refund")])), {"text": "re: {user}"}]
    desk = Desk(store, script)
    await applied(desk.services, shop_cluster(approval="unsafe"))
    cluster = shop_cluster(approval="unsafe")
    policy = cluster.spec.resource_policy.model_copy(update={"max_concurrent_agents": 1})
    cluster = cluster.model_copy(update={"spec": cluster.spec.model_copy(update={"resource_policy": policy})})
    await applied(desk.services, cluster)
    run = await (await say(desk.services)).answer()
    assert isinstance(run, Run)
    for services in (desk.services, desk.another()):
        answer = await (await say(services, "someone else", "other")).result()
        assert answer.message.text == "re: someone else"
    shown = await clusters.get_cluster(desk.services, ALICE, "default", "support")
    assert shown.active_runs == 0
    session = (await store.get_many([PATHS.session("talk")])).documents[PATHS.session("talk")]
    assert session.data["active_run"] == run.id
    held = await say(desk.services, "x", "third", kind="background")
    await desk.decide(run.id)
    model = Answering("x")
    busy = process(store, model, desk.shop, desk.queue)
    (background, approved) = desk.queue.taken()
    working = asyncio.create_task(perform(busy, background))
    await asyncio.wait_for(model.entered.wait(), 60)
    with pytest.raises(LimitExceeded):  # the queue tries again
        await perform(desk.services, approved)
    assert (await record(store, run.id)).status == "handed_off"
    model.release()
    await working
    assert (await held.result()).message.text == "re: x"
    await perform(desk.services, approved)
    assert (await record(store, run.id)).status == "succeeded"
    await at_rest(desk.services, "talk")


async def test_any_process_takes_the_decision_and_any_goes_on(store: Store):
    desk = Desk(store, calling([call("look"), call("refund")]))
    run = await desk.waiting()
    await controls.approve(desk.another(), ALICE, run.id, [ALLOW])
    assert (await desk.goes_on(run.id, desk.another())).status == "succeeded"
    assert (len(desk.shop.calls("look")), len(desk.shop.calls("refund"))) == (1, 1)
    await at_rest(desk.services, "talk")


async def test_nobody_decides_in_time(store: Store):
    desk = Desk(store, calling([call("refund")]), runs={"waiting_timeout": "50ms", "poll_interval": 0.05})
    run = await desk.waiting()
    patient = desk.another()
    behind = await say(patient, "and now?")
    await asyncio.sleep(0.06)
    report = await sweep(desk.services)
    assert report.expired == 1
    ended = await record(store, run.id)
    assert (ended.status, ended.error and ended.error["code"]) == ("failed", "run_timed_out")
    with pytest.raises(RunTimedOut, match=r"runs\.waiting_timeout"):
        await (await runs.watch(desk.services, ALICE, run.id)).answer()
    with pytest.raises(Conflict):
        await desk.decide(run.id)
    assert (await sweep(desk.services)).expired == 0
    assert (await record(store, behind.run_id)).head == 2
    last = (await told(await runs.watch(desk.services, ALICE, run.id)))[-1]
    assert (last.type, last.data["error"]["code"]) == ("run.failed", "run_timed_out")
    assert desk.shop.calls("refund") == []


async def test_a_decision_counts_once(store: Store):
    desk = Desk(store, calling([call("refund")]))
    run = await desk.waiting()
    await desk.decide(run.id)
    with pytest.raises(Conflict, match="waits for nobody: it is handed_off"):
        await desk.decide(run.id, DENY)
    await desk.goes_on(run.id)
    with pytest.raises(Conflict, match="it is succeeded"):
        await desk.decide(run.id)
    assert len(desk.shop.calls("refund")) == 1


async def test_of_many_who_decide_at_once_one_does(store: Store):
    desk = Desk(store, calling([call("refund")], text="it said: {result}"))
    run = await desk.waiting()
    fleet = [desk.another() for _ in range(6)]
    choices = [Decision(decision="allow" if n % 2 else "deny", reason=f"said {n}") for n in range(6)]
    outcomes = await asyncio.gather(
        *(controls.approve(one, ALICE, run.id, [choice]) for one, choice in zip(fleet, choices, strict=True)),
        return_exceptions=True,
    )
    (winner,) = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Run)]
    assert all(isinstance(outcome, Conflict) for n, outcome in enumerate(outcomes) if n != winner)
    ended = await desk.goes_on(run.id)
    assert len(desk.shop.calls("refund")) == winner % 2
    assert ended.output
    assert (f"said {winner}" in ended.output.text) == (winner % 2 == 0)


async def test_decisions_of_others_and_decisions_that_do_not_fit(store: Store):
    desk = Desk(store, calling([call("refund", 1), call("refund", 2)]))
    run = await desk.waiting()
    with pytest.raises(NotFound):
        await controls.approve(desk.services, BOB, run.id, [ALLOW])
    with pytest.raises(NotFound):
        await controls.approve(desk.services, ALICE, "run_of_nobody", [ALLOW])
    wrong: list[tuple[list[Decision], str, str]] = [
        ([Decision(call_id="call_1", decision="allow")], "decisions", "'call_2' has no decision"),
        ([Decision(call_id="call_9", decision="allow"), ALLOW], "decisions.0.call_id", "no call 'call_9' waits"),
        ([ALLOW, Decision(call_id="call_1", decision="deny")], "decisions.1.call_id", "decided twice"),
        ([ALLOW, DENY], "decisions.1.call_id", "decided twice"),
        ([Decision(decision="allow", arguments={"order": 1})], "decisions.0.arguments", "several calls wait"),
        (
            [
                Decision(call_id="call_1", decision="deny", arguments={"order": 1}),
                Decision(call_id="call_2", decision="allow"),
            ],
            "decisions.0.arguments",
            "of no use",
        ),
    ]
    for decisions, path, message in wrong:
        with pytest.raises(Invalid) as refused:
            await desk.decide(run.id, *decisions)
        assert path in [error.path for error in refused.value.errors]
        assert message in str([error.message for error in refused.value.errors])
    assert (await record(store, run.id)).status == "waiting"
    assert desk.shop.calls("refund") == []


async def test_the_time_a_run_waits_is_not_its_own(store: Store):
    desk = Desk(store, [{"tool_calls": [call("refund")]}, {"after": "*", "text": "done", "delay": 0.2}])
    run = await desk.waiting(agent={"timeout": "2s"})
    await asyncio.sleep(2.1)
    await desk.decide(run.id)
    assert (await desk.goes_on(run.id)).status == "succeeded"
    assert (await record(store, run.id)).waited >= 2.0


async def test_the_time_a_run_does_not_wait_is_its_own(store: Store):
    desk = Desk(store, [{"tool_calls": [call("refund")]}, {"after": "*", "text": "done", "delay": 30}])
    run = await desk.waiting(agent={"timeout": "1s"})
    await asyncio.sleep(0.5)
    await desk.decide(run.id)
    began = asyncio.get_running_loop().time()
    ended = await desk.goes_on(run.id)
    assert (ended.status, ended.error and ended.error["code"]) == ("failed", "run_timed_out")
    assert asyncio.get_running_loop().time() - began < 5


async def test_a_webhook_is_told_that_somebody_has_to_decide(store: Store):
    desk = Desk(store, calling([call("refund", 1)], [call("refund", 2)]))
    await applied(desk.services, shop_cluster(approval="unsafe"))
    watch = await say(desk.services, kind="background", webhook="https://hooks.example.com/x")
    await desk.goes_on(watch.run_id)
    await desk.decide(watch.run_id)
    await desk.goes_on(watch.run_id)
    await desk.decide(watch.run_id)
    await desk.goes_on(watch.run_id)
    deliveries = desk.services.webhooks.deliveries  # type: ignore[attr-defined] # the test's own
    assert [d.body.partition('"type":"')[2].partition('"')[0] for d in deliveries] == [
        "run.waiting", "run.waiting", "run.completed",
    ]  # fmt: skip
    assert len({delivery.id for delivery in deliveries}) == 3
    assert '"order":2' in deliveries[1].body
    pending = await store.query(Query(PATHS.deliveries(), (Filter("state", "==", "pending"),), "next_at"))
    assert pending.documents == ()


async def test_a_follower_sees_through_the_wait(store: Store):
    desk = Desk(store, calling([call("refund")]))
    run = await desk.waiting()
    following = asyncio.create_task(told(await runs.watch(desk.another(), ALICE, run.id), Cursor(1, 2)))
    await asyncio.sleep(0.2)
    assert not following.done()
    await desk.decide(run.id)
    await desk.goes_on(run.id)
    events = await asyncio.wait_for(following, 60)
    assert [event.type for event in events] == [
        "run.waiting", "attempt", "tool.started", "tool.finished", "message.delta", "message.completed",
        "run.completed",
    ]  # fmt: skip
