"""Runs that their process left behind: taken up by one of many, gone on with where they were, nothing done twice."""

import asyncio
from typing import Any

import pytest
from tests.support.durable import (
    STEP,
    Shop,
    call,
    calling,
    counts,
    dies,
    killed,
    lapse,
    process,
    record,
    records,
    results,
    say,
    shop_cluster,
    steps_of,
    told,
    work,
)
from tests.support.engine import ALICE, applied
from tests.support.runs import PATHS, Held, at_rest, conversation
from tests.support.stores import UnreliableStore

from goagents.dispatch.base import Task
from goagents.engine import controls, runs, sessions
from goagents.engine.recovery.sweep import sweep
from goagents.engine.recovery.worker import perform, take_up
from goagents.errors import (
    RunError,
)
from goagents.messages import Message, TextPart, ToolResultPart
from goagents.resources import Decision, Run
from goagents.store.base import Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.faults import Fault, FaultyStore, writes_to
from goagents.testing.kill_points import KillPoint


@pytest.mark.parametrize("by", ["sweeper", "retry", "follower"])
async def test_a_run_whose_process_died_is_gone_on_with(store: Store, by: str):
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, STEP, shop, queue)
    await applied(services, shop_cluster())
    run_id = await dies(services, KillPoint.AFTER_RESULTS, key="k1")
    if by == "sweeper":
        assert (await sweep(services)).redispatched == 1
        assert (await sweep(services)).redispatched == 0
        await work(services, queue)
    elif by == "retry":
        again = await say(services, key="k1")
        assert again.run_id == run_id
        answer = await again.answer()
        assert not isinstance(answer, Run)
    else:
        events = await told(await runs.watch(services, ALICE, run_id))
        assert events[-1].type == "run.completed"
    run = await record(store, run_id)
    assert (run.status, run.attempt, run.crashes) == ("succeeded", 2, 1)
    assert counts(shop) == [1, 1, 1]
    assert [message.role for message in await conversation(services, "talk")] == [
        "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    await at_rest(services, "talk")


@pytest.mark.parametrize(
    ("point", "tool", "made"),
    [
        (KillPoint.AFTER_ADMISSION, None, [1, 1, 1]),
        (KillPoint.BEFORE_MODEL_RESULT, None, [1, 1, 1]),
        (KillPoint.AFTER_MODEL_RESULT, None, [1, 1, 0]),
        (KillPoint.BEFORE_TOOL_CALL, "refund", [2, 2, 0]),
        (KillPoint.AFTER_TOOL_CALL, "refund", [2, 2, 1]),
        (KillPoint.BEFORE_RESULTS, None, [2, 2, 1]),
        (KillPoint.AFTER_RESULTS, None, [1, 1, 1]),
        (KillPoint.BEFORE_SETTLE, None, [1, 1, 1]),
    ],
)
async def test_wherever_it_dies_nothing_unsafe_is_done_twice(
    store: Store, point: KillPoint, tool: str | None, made: list[int]
):
    """`look` and `reserve` may be repeated, `refund` may not; and what is recorded is not done again."""
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, STEP, shop, queue)
    await applied(services, shop_cluster())
    run_id = await dies(services, point, tool=tool)
    before = await steps_of(services, run_id)
    await sweep(services)
    await work(services, queue)
    assert (await record(store, run_id)).status == "succeeded"
    done = counts(shop)
    assert done[2] == made[2]
    assert all(count <= most for count, most in zip(done, [2, 2, 1], strict=True))
    assert (await steps_of(services, run_id))[: len(before)] == before
    assert len({context.idempotency_key for context in shop.contexts("reserve")}) <= 1
    (refund,) = [part for part in results(await conversation(services, "talk")) if part.name == "refund"]
    assert refund.unknown == (point in UNSURE)
    await at_rest(services, "talk")


UNSURE = {KillPoint.AFTER_MODEL_RESULT, KillPoint.BEFORE_TOOL_CALL, KillPoint.AFTER_TOOL_CALL, KillPoint.BEFORE_RESULTS}


async def test_what_is_repeated_carries_the_same_key(store: Store):
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, calling([call("look", 1), call("reserve", 2), call("reserve", 3)]), shop, queue)
    await applied(services, shop_cluster())
    run_id = await dies(services, KillPoint.BEFORE_RESULTS)
    await sweep(services)
    await work(services, queue)
    assert [args["order"] for args in shop.calls("reserve")] == [2, 3, 2, 3]
    keys = [context.idempotency_key for context in shop.contexts("reserve")]
    assert keys[:2] == keys[2:]
    assert len(set(keys)) == 2
    assert all(key.startswith(f"{run_id}/") for key in keys)


async def test_of_many_who_take_it_up_at_once_one_does(store: Store):
    queue, shop, held = RecordingDispatch(), Shop(), Held()
    services = process(store, held, shop, queue)
    await applied(services, shop_cluster())
    dying = process(UnreliableStore(store), held, shop, queue)
    watch = await say(dying)
    await held.entered.wait()
    dying.store.unplugged = True  # type: ignore[attr-defined] # the test's own
    await lapse(store, watch.run_id)
    await sweep(services)
    (task,) = queue.taken()
    fleet = [process(store, held, shop, queue) for _ in range(6)]
    jobs = [take_up(one, PATHS, watch.run_id, seconds=60) for one in fleet]
    tokens = [take_up(one, PATHS, watch.run_id, seconds=60, token=task.token) for one in fleet]
    handles = [handle for handle in await asyncio.gather(*jobs, *tokens) if handle is not None]
    assert len(handles) == 1
    assert (await record(store, watch.run_id)).attempt == 2
    held.release.set()
    await handles[0].finished()
    run = await record(store, watch.run_id)
    assert (run.status, run.attempt) == ("succeeded", 2)
    dying.store.unplugged = False  # type: ignore[attr-defined]
    await dying.handles[watch.run_id].finished()
    await at_rest(services, "talk")


@pytest.mark.parametrize("kind", ["answer_lost", "request_lost", "late", "conflict"])
async def test_a_sweep_whose_answer_was_lost_has_the_run_gone_on_with(store: Store, kind: Any):
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, STEP, shop, queue)
    await applied(services, shop_cluster())
    run_id = await dies(services, KillPoint.AFTER_RESULTS)
    faulty = FaultyStore(store, [Fault(kind, writes_to("/lease/"))])
    await sweep(process(faulty, STEP, shop, queue))
    await faulty.flush()
    assert faulty.injected
    await work(services, queue)
    applied_at_once = kind in ("answer_lost", "late")
    assert (await record(store, run_id)).status == ("succeeded" if applied_at_once else "running")
    await sweep(services)
    await work(services, queue)
    run = await record(store, run_id)
    assert (run.status, run.attempt) == ("succeeded", 2)


async def test_a_task_of_an_older_token_does_nothing(store: Store):
    queue = RecordingDispatch()
    services = process(store, dispatch=queue)
    await applied(services)
    watch = await say(services, kind="background")
    (old,) = queue.taken()
    await lapse(store, watch.run_id)
    await sweep(services)
    (new,) = queue.taken()
    assert new.token != old.token
    await perform(services, old)
    assert (await record(store, watch.run_id)).status == "queued"
    await perform(services, new)
    for task in (old, new, Task("run", "default", "run_of_nobody", "t")):
        await perform(services, task)
    run = await record(store, watch.run_id)
    assert (run.status, run.attempt) == ("succeeded", 1)


async def test_a_run_that_kills_its_process_again_and_again_is_given_up(store: Store):
    queue, shop = RecordingDispatch(), Shop()
    config = {"runs": {"max_attempts": 3, "poll_interval": 0.05}}
    services = process(store, STEP, shop, queue, **config)
    await applied(services, shop_cluster())
    run_id = await dies(services, KillPoint.BEFORE_MODEL_RESULT)
    behind = await say(services, "and now?")
    for attempt in range(2, 4):
        await sweep(services)
        (task,) = queue.taken()
        await killed(services, KillPoint.BEFORE_MODEL_RESULT, lambda dying, task=task: perform(dying, task))  # type: ignore[misc] # of the default
        assert (await record(store, run_id)).attempt == attempt
        await lapse(store, run_id)
    await sweep(services)
    await work(services, queue)
    run = await record(store, run_id)
    assert (run.status, run.error and run.error["code"]) == ("failed", "run_failed")
    with pytest.raises(RunError, match="3 times its process died at the same step"):
        await (await runs.watch(services, ALICE, run_id)).answer()
    last = (await told(await runs.watch(services, ALICE, run_id)))[-1]
    assert last.type == "run.failed"
    assert (await record(store, behind.run_id)).status == "succeeded"
    await at_rest(services, "talk")


async def test_who_gets_further_is_not_given_up(store: Store):
    queue, shop = RecordingDispatch(), Shop()
    config = {"runs": {"max_attempts": 2, "poll_interval": 0.05}}
    script = calling(*[[call("look", n)] for n in range(4)])
    services = process(store, script, shop, queue, **config)
    await applied(services, shop_cluster())
    run_id = await dies(services, KillPoint.AFTER_RESULTS)
    for _ in range(3):
        await sweep(services)
        (task,) = queue.taken()
        await killed(services, KillPoint.AFTER_RESULTS, lambda dying, task=task: perform(dying, task))  # type: ignore[misc] # of the default
        assert (await record(store, run_id)).crashes == 1
        await lapse(store, run_id)
    await sweep(services)
    await work(services, queue)
    run = await record(store, run_id)
    assert (run.status, run.attempt) == ("succeeded", 5)
    assert [args["order"] for args in shop.calls("look")] == [0, 1, 2, 3]


@pytest.mark.parametrize("policy", ["tell", "wait"])
@pytest.mark.parametrize("again", ["same turn", "later turn", "other order"])
async def test_the_same_call_again_needs_a_person_where_nobody_knows_what_it_came_to(
    store: Store, policy: str, again: str
):
    queue, shop = RecordingDispatch(), Shop()
    first, same = call("refund", 3, amount=5), {"name": "refund", "arguments": {"amount": 5, "order": 3}}
    other = call("refund", 4, amount=5)
    if again == "later turn":
        script: list[Any] = [
            {"turn": 1, "tool_calls": [first]},
            {"turn": 1, "after": "*", "text": "one"},
            {"turn": 2, "tool_calls": [other, same]},
            {"turn": 2, "after": "*", "text": "done"},
        ]
    else:
        script = calling([first], [other], [same if again == "other order" else first])
    services = process(store, script, shop, queue)
    await applied(services, shop_cluster(unknown_outcome=policy))
    run_id = await dies(services, KillPoint.AFTER_TOOL_CALL, tool="refund")
    await sweep(services)
    await work(services, queue)
    if policy == "wait":
        waiting = (await runs.get_run(services, ALICE, run_id)).waiting
        assert waiting is not None
        assert [(c.arguments, c.reason) for c in waiting.calls] == [(first["arguments"], "outcome_unknown")]
        await controls.approve(services, ALICE, run_id, [Decision(decision="deny", reason="it was paid")])
        await work(services, queue)
    if again == "later turn":
        assert (await record(store, run_id)).status == "succeeded"
        second = await say(services, "again")
        await second.answer()
        run_id = second.run_id
    waiting = (await runs.get_run(services, ALICE, run_id)).waiting
    assert waiting is not None
    assert [(c.arguments, c.reason) for c in waiting.calls] == [(first["arguments"], "outcome_unknown")]
    assert [args["order"] for args in shop.calls("refund")] == [3, 4]
    await controls.approve(services, ALICE, run_id, [Decision(decision="allow")])
    await work(services, queue)
    assert (await runs.get_run(services, ALICE, run_id)).status == "succeeded"
    assert [args["order"] for args in shop.calls("refund")] == [3, 4, 3]


@pytest.mark.parametrize("policy", ["tell", "wait"])
@pytest.mark.parametrize("how", ["while it opens its tools", "while another call is under way"])
async def test_a_doubt_outlives_the_process_that_hands_the_run_on(store: Store, policy: str, how: str):
    """Whoever took the run up after the crash is stopped before it has dealt with the call; the next one must."""
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, STEP, shop, queue)
    await applied(services, shop_cluster(unknown_outcome=policy))
    run_id = await dies(services, KillPoint.BEFORE_RESULTS)
    assert counts(shop)[2] == 1
    await sweep(services)
    (task,) = queue.taken()
    entered, slow = asyncio.Event(), Shop()

    async def hang(*_: Any) -> Any:
        entered.set()
        await asyncio.Event().wait()

    if how == "while it opens its tools":
        slow.open = hang  # type: ignore[method-assign] # the test's own
    else:
        slow.by_name["look"].function = hang
    second = process(store, STEP, slow, queue)
    working = asyncio.create_task(perform(second, task))
    await asyncio.wait_for(entered.wait(), 60)
    for running in second.tasks:
        running.cancel()
    await working
    assert (await record(store, run_id)).status == "handed_off"
    await work(services, queue)
    assert (counts(shop)[2], counts(slow)[2]) == (1, 0)
    run = await runs.get_run(services, ALICE, run_id)
    if policy == "wait":
        assert run.waiting
        assert [(c.name, c.reason) for c in run.waiting.calls] == [("refund", "outcome_unknown")]
    else:
        (refund,) = [part for part in results(await conversation(services, "talk")) if part.name == "refund"]
        assert refund.unknown


async def test_a_session_stays_usable_after_all_of_this(store: Store):
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, [*STEP], shop, queue)
    await applied(services, shop_cluster())
    for point in (KillPoint.BEFORE_MODEL_RESULT, KillPoint.AFTER_RESULTS, KillPoint.BEFORE_SETTLE):
        await dies(services, point)
        await sweep(services)
        await work(services, queue)
    assert {run.status for run in await records(store)} == {"succeeded"}
    said = await conversation(services, "talk")
    assert [message.role for message in said] == ["user", "assistant", "tool", "assistant"] * 3
    assert (await sessions.get_session(services, ALICE, "talk")).messages == 12
    answered = [part.call_id for message in said for part in message.parts if isinstance(part, ToolResultPart)]
    assert answered == [part.id for message in said for part in message.tool_calls]
    assert isinstance(said[-1], Message)
    assert said[-1].parts == (TextPart("done"),)
    await at_rest(services, "talk")
