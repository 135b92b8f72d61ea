"""A message to a busy session: it waits its turn, is refused, or takes the place of the run in progress."""

import asyncio
from dataclasses import replace

import pytest
from tests.support.durable import (
    Answering,
    Shop,
    call,
    calling,
    lapse,
    process,
    queue_of,
    record,
    records,
    say,
    serving,
    shop_cluster,
    texts,
    work,
)
from tests.support.engine import ALICE, BOB, applied, manifest
from tests.support.runs import at_rest

from goagents.engine import clusters, controls, runs, sessions
from goagents.engine.recovery.worker import perform
from goagents.errors import (
    LimitExceeded,
    NotFound,
    ProviderOverloaded,
    RunCancelled,
    SessionBusy,
)
from goagents.resources import Decision, Run
from goagents.store.base import Store
from goagents.testing.dispatch import RecordingDispatch

POLICIES = ("enqueue", "reject", "interrupt")


async def test_messages_to_a_busy_session_wait_their_turn_in_order(store: Store):
    model = Answering("one")
    services = serving(process(store, model))
    await applied(services)
    watches = [await say(services, text) for text in ("one", "two", "three", "four")]
    assert await queue_of(services) == [watch.run_id for watch in watches[1:]]
    assert [(await record(store, watch.run_id)).status for watch in watches] == ["running"] + ["queued"] * 3
    assert await texts(services) == ["one"]
    model.release()
    answers = [await watch.answer() for watch in watches]
    assert [not isinstance(a, Run) and a.message.text for a in answers] == [
        "re: one", "re: two", "re: three", "re: four",
    ]  # fmt: skip
    assert await texts(services) == [
        "one", "re: one", "two", "re: two", "three", "re: three", "four", "re: four",
    ]  # fmt: skip
    assert [message.text for message in model.asked[-1].messages] == (await texts(services))[:-1]
    assert [run.head for run in await records(store)] == [1, 3, 5, 7]
    await at_rest(services, "talk")


async def test_two_processes_share_one_queue(store: Store):
    model = Answering("0")
    fleet = [serving(process(store, model)) for _ in range(2)]
    await applied(fleet[0])
    watches = [await say(fleet[n % 2], str(n)) for n in range(6)]
    model.release()
    async with asyncio.timeout(60):
        answers = [await watch.answer() for watch in watches]
    assert [not isinstance(a, Run) and a.message.text for a in answers] == [f"re: {n}" for n in range(6)]
    assert await texts(fleet[0]) == [text for n in range(6) for text in (str(n), f"re: {n}")]
    await at_rest(fleet[0], "talk")


async def test_many_at_once_are_all_answered_one_after_the_other(store: Store):
    model = Answering()
    fleet = [serving(process(store, model)) for _ in range(3)]
    await applied(fleet[0])
    async with asyncio.timeout(60):
        watches = await asyncio.gather(*(say(fleet[n % 3], str(n)) for n in range(9)))
        await asyncio.gather(*(watch.finished() for watch in watches))
    said = await texts(fleet[0])
    assert said[1::2] == [f"re: {text}" for text in said[::2]]
    assert sorted(said[::2]) == [str(n) for n in range(9)]
    assert {run.status for run in await records(store)} == {"succeeded"}
    await at_rest(fleet[0], "talk")


async def test_a_run_that_fails_gives_way_to_the_next_one(store: Store):
    queue = RecordingDispatch()
    script = [{"when": "bad", "fail": "provider_overloaded", "delay": 0.2}, {"text": "re: {user}"}]
    services = process(store, script, dispatch=queue)
    await applied(services)
    first, second = await say(services, "bad"), await say(services, "good")
    with pytest.raises(ProviderOverloaded):
        await first.answer()
    assert (await sessions.get_session(services, ALICE, "talk")).active_run == second.run_id
    assert [task.run for task in queue.tasks] == [second.run_id]
    await work(services, queue)
    assert await texts(services) == ["bad", "good", "re: good"]
    await at_rest(services, "talk")


async def test_a_run_that_is_cancelled_gives_way_to_the_next_one(store: Store):
    model = Answering("one")
    services = serving(process(store, model))
    await applied(services)
    first, second = await say(services, "one"), await say(services, "two")
    assert (await controls.cancel(services, ALICE, first.run_id, "enough")).status == "cancelled"
    with pytest.raises(RunCancelled, match="enough"):
        await first.answer()
    assert (await second.result()).message.text == "re: two"
    assert await texts(services) == ["one", "two", "re: two"]
    await at_rest(services, "talk")


async def test_a_run_that_waits_for_a_person_keeps_the_others_waiting(store: Store):
    shop, queue = Shop(), RecordingDispatch()
    script = [{"when": "refund", **step} for step in calling([call("refund")])] + [{"text": "re: {user}"}]
    services = process(store, script, shop, queue)
    await applied(services, shop_cluster(approval="unsafe"))
    first = await say(services, "refund it")
    second = await say(services, "and now?")
    assert isinstance(waiting := await first.answer(), Run)
    assert waiting.status == "waiting"
    assert await queue_of(services) == [second.run_id]
    assert await work(services, queue) == 0
    await controls.approve(services, ALICE, first.run_id, [Decision(decision="allow")])
    await work(services, queue)
    assert (await second.result()).message.text == "re: and now?"
    assert [t for t in await texts(services) if t] == ["refund it", "done", "and now?", "re: and now?"]
    await at_rest(services, "talk")


async def test_a_busy_session_refuses_where_it_is_told_to(store: Store):
    model, queue = Answering("one"), RecordingDispatch()
    services = process(store, model, dispatch=queue)
    await applied(services)
    first = await say(services, "one", kind="background")
    with pytest.raises(SessionBusy, match=first.run_id) as busy:  # queued, for a worker
        await say(services, "two", policy="reject")
    assert busy.value.retry_after
    working = asyncio.create_task(work(services, queue))
    await asyncio.wait_for(model.entered.wait(), 60)
    for kind in ("chat", "stream", "background"):  # running
        with pytest.raises(SessionBusy):
            await say(services, "two", policy="reject", kind=kind)
    model.release()
    await working
    assert [run.id for run in await records(store)] == [first.run_id]
    assert await queue_of(services) == []


async def test_a_waiting_session_refuses_where_it_is_told_to(store: Store):
    services = process(store, calling([call("refund")]), Shop())
    await applied(services, shop_cluster(approval="always"))
    await (await say(services)).answer()
    with pytest.raises(SessionBusy):
        await say(services, "two", policy="reject")
    assert len(await records(store)) == 1


@pytest.mark.parametrize("here", [True, False])
async def test_a_newer_message_takes_the_place_of_the_run_in_progress(store: Store, here: bool):
    model = Answering("one")
    services = serving(process(store, model))
    other = services if here else serving(process(store, model))
    await applied(services)
    first, waiting = await say(services, "one"), await say(services, "two")
    newest = await say(other, "three", policy="interrupt")
    with pytest.raises(RunCancelled, match="a newer message"):
        await first.answer()
    async with asyncio.timeout(60):
        assert (await newest.result()).message.text == "re: three"
        assert (await waiting.result()).message.text == "re: two"
    assert await texts(services) == ["one", "three", "re: three", "two", "re: two"]
    assert [run.status for run in await records(store)] == ["cancelled", "succeeded", "succeeded"]
    await at_rest(services, "talk")


@pytest.mark.parametrize("state", ["waiting", "queued", "handed_off", "left behind"])
async def test_a_run_that_nobody_executes_is_interrupted_at_once(store: Store, state: str):
    queue, shop, model = RecordingDispatch(), Shop(), Answering("one")
    script = [{"when": "one", **step} for step in calling([call("refund")])] + [{"text": "re: {user}"}]
    services = process(store, script if state == "waiting" else model, shop, queue)
    await applied(services, shop_cluster(approval="unsafe"))
    kind = "background" if state == "queued" else "chat"
    first = await say(services, "one", kind=kind)
    if state == "waiting":
        await first.answer()
    elif state == "handed_off":
        for task in services.tasks:
            task.cancel()
        await first.answer()
    elif state == "left behind":
        services.handles[first.run_id].stop("lost")
        await services.handles[first.run_id].finished()
        await lapse(store, first.run_id)
    assert (await record(store, first.run_id)).status == state.replace("left behind", "running")
    old = queue.taken()
    newest = await say(services, "two", policy="interrupt")
    assert (await record(store, first.run_id)).status == "cancelled"
    await work(services, queue)
    for task in old:
        await perform(services, task)  # which came too late
    assert (await newest.result()).message.text == "re: two"
    assert await texts(services) == ["one", "two", "re: two"]
    assert shop.calls("refund") == []
    await at_rest(services, "talk")


async def test_the_agent_says_what_is_done_and_a_request_may_say_otherwise(store: Store):
    model = Answering("one")
    services = serving(process(store, model))
    agents = [{"name": f"agent-{policy}", "session_policy": policy} for policy in POLICIES]
    await applied(services, manifest(*agents))
    for policy in POLICIES:
        agent = f"support.agent-{policy}"
        first = await say(services, "one", policy, agent=agent)
        if policy == "reject":
            with pytest.raises(SessionBusy):
                await say(services, "two", policy, agent=agent)
        else:
            second = await say(services, "two", policy, agent=agent)
            assert (policy == "enqueue") == ((await record(store, first.run_id)).status == "running")
            if policy == "interrupt":
                assert (await second.result()).message.text == "re: two"
    busy = await say(services, "one", "mixed", agent="support.agent-reject")
    waiting = await say(services, "two", "mixed", agent="support.agent-reject", policy="enqueue")
    with pytest.raises(SessionBusy):
        await say(services, "three", "mixed", agent="support.agent-interrupt", policy="reject")
    await say(services, "four", "mixed", agent="support.agent-enqueue", policy="interrupt")
    with pytest.raises(RunCancelled):
        await busy.answer()
    model.release()
    await asyncio.wait_for(waiting.finished(), 60)
    assert await texts(services, "mixed") == ["one", "four", "re: four", "two", "re: two"]


async def test_two_agents_take_turns_in_one_session(store: Store):
    model = Answering("one")
    services = serving(process(store, model))
    await applied(services, manifest({}, {"name": "second", "system_prompt": "I am the second."}))
    first = await say(services, "one")
    second = await say(services, "two", agent="support.second")
    third = await say(services, "three")
    model.release()
    answers = [await watch.result() for watch in (first, second, third)]
    assert [answer.agent for answer in answers] == ["support.helper", "support.second", "support.helper"]
    items = (await sessions.list_messages(services, ALICE, "talk", 100, None)).items
    assert [item.agent for item in items] == ["helper"] * 2 + ["second"] * 2 + ["helper"] * 2
    assert model.asked[1].system == "I am the second."
    assert [message.text for message in model.asked[2].messages] == ["one", "re: one", "two", "re: two", "three"]


async def test_a_queue_has_a_bound(store: Store):
    model = Answering("one")
    services = process(store, model, runs={"max_queue": 2, "poll_interval": 0.05})
    await applied(services)
    first = await say(services, "one")
    await say(services, "two")
    await say(services, "three", kind="background")
    for policy in ("enqueue", "interrupt"):
        with pytest.raises(LimitExceeded, match=r"2 runs wait .*runs\.max_queue"):
            await say(services, "four", policy=policy)
    assert len(await records(store)) == 3
    assert (await record(store, first.run_id)).status == "running"
    model.release()
    await first.answer()


async def test_a_session_with_a_queue_is_not_deleted(store: Store):
    model = Answering("one")
    services = serving(process(store, model))
    await applied(services)
    first, second = await say(services, "one"), await say(services, "two")
    with pytest.raises(SessionBusy):
        await sessions.delete_session(services, ALICE, "talk")
    with pytest.raises(NotFound):
        await sessions.delete_session(services, BOB, "talk")
    model.release()
    assert (await second.result()).message.text == "re: two"
    assert (await first.result()).message.text == "re: one"
    await sessions.delete_session(services, ALICE, "talk")
    with pytest.raises(NotFound):
        await sessions.get_session(services, ALICE, "talk")


async def test_a_run_in_the_background_begins_a_session(store: Store):
    queue, model = RecordingDispatch(), Answering()
    services, worker = process(store, model, dispatch=queue), process(store, model, dispatch=queue)
    await applied(services)
    watch = await say(services, "one", None, kind="background")
    run = await runs.get_run(services, ALICE, watch.run_id)
    assert (run.status, run.kind, run.attempt, run.started_at) == ("queued", "background", 0, None)
    session = await sessions.get_session(services, ALICE, watch.session_id)
    assert (session.messages, session.active_run, session.queued_runs) == (1, watch.run_id, [])
    assert (await clusters.get_cluster(services, ALICE, "default", "support")).active_runs == 0
    await work(worker, queue)
    run = await runs.get_run(services, ALICE, watch.run_id)
    assert (run.status, run.attempt, run.output and run.output.text) == ("succeeded", 1, "re: one")
    assert run.started_at is not None
    assert await texts(services, watch.session_id) == ["one", "re: one"]
    events = [event async for event in (await runs.watch(services, ALICE, watch.run_id)).events()]
    assert [(event.id, event.type) for event in events][:2] == [("0-1", "run.queued"), ("1-1", "run.started")]
    await at_rest(services, watch.session_id)


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("busy", ["two", "one"])
async def test_a_chat_that_waits_too_long_is_told_where_its_run_is(store: Store, here: bool, busy: str):
    """It waits behind `one`; or its own turn, which began when `one` was over, takes too long."""
    model = Answering("one", "two")
    services = serving(process(store, model))
    asked = replace(services, config=process(store, server={"timeout": "1s"}).config)
    if not here:
        asked = process(store, model, server={"timeout": "1s"})
    await applied(services)
    first = await say(services, "one")
    chat = await say(asked, "two")
    if busy == "two":
        model.release("one")
    began = asyncio.get_running_loop().time()
    answer = await asyncio.wait_for(chat.answer(), 60)
    assert isinstance(answer, Run)
    assert asyncio.get_running_loop().time() - began < 5
    assert (answer.id, answer.status) == (chat.run_id, "queued" if busy == "one" else "running")
    model.release()
    await first.finished()
    assert (await chat.result()).message.text == "re: two"
    await at_rest(services, "talk")


async def test_of_several_interruptions_the_newest_is_answered_and_all_keep_their_order(store: Store):
    """They come while the run in progress is another process's, which has not noticed yet."""
    model = Answering("one")
    services, other = (serving(process(store, model, runs={"poll_interval": 1.0})) for _ in range(2))
    await applied(services)
    first = await say(services, "one")
    await model.entered.wait()
    behind = await say(other, "behind", policy="enqueue")
    coming = []
    async with asyncio.timeout(60):
        for text in ("two", "three", "four"):
            coming.append(asyncio.create_task(say(other, text, policy="interrupt")))
            while len(await queue_of(services)) < 1 + len(coming):  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.01)
        newest = await asyncio.gather(*coming)
        for watch in (first, *newest[:2]):
            with pytest.raises(RunCancelled, match="newer message"):
                await watch.answer()
        assert (await newest[2].result()).message.text == "re: four"
        assert (await behind.result()).message.text == "re: behind"
    said = [text for text in await texts(services) if not text.startswith("re: ")]
    assert said == ["one", "two", "three", "four", "behind"]
    await at_rest(services, "talk")
