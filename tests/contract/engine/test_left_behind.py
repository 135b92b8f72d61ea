"""What lies about when nobody looks after it: lost tasks, deleted clusters, older generations and versions."""

import asyncio
from datetime import timedelta

import pytest
from tests.support.durable import (
    LONG_AGO,
    STEP,
    Answering,
    Shop,
    call,
    dies,
    lapse,
    process,
    record,
    records,
    say,
    shop_cluster,
    told,
    work,
)
from tests.support.engine import ALICE, applied, manifest
from tests.support.runs import PATHS, Held, at_rest, conversation

from goagents.dispatch.base import Task
from goagents.engine import clusters, controls, runs
from goagents.engine.recovery.sweep import sweep
from goagents.engine.recovery.worker import perform
from goagents.errors import (
    NotFound,
)
from goagents.framing import noted
from goagents.records import LeaseRecord
from goagents.resources import Decision
from goagents.store.base import Merge, Put, Query, Store
from goagents.store.sqlite import SQLiteStore
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.kill_points import KillPoint
from goagents.testing.models import ScriptedModel
from goagents.webhooks.base import Delivery


async def test_queued_runs_whose_dispatch_was_lost(store: Store):
    queue = RecordingDispatch()
    services = process(store, dispatch=queue)
    await applied(services)
    watches = [await say(services, session=f"talk-{n}", kind="background") for n in range(3)]
    queue.taken()  # the queue lost them
    assert (await sweep(services)).redispatched == 0
    for watch in watches:
        await lapse(store, watch.run_id)
    queue.failures = 1
    assert (await sweep(services)).redispatched == 3
    assert len(queue.tasks) == 5
    assert await work(services, queue) == 2
    await asyncio.gather(sweep(services), sweep(process(store, dispatch=queue)))
    assert await work(services, queue) == 1
    assert {run.status for run in await records(store)} == {"succeeded"}


async def test_a_deployment_whose_queue_takes_nothing_still_answers(store: Store):
    """Who waits for the run takes it up itself, once no worker may be expected any more."""
    services = process(store, dispatch=RecordingDispatch(failures=10_000))
    await applied(services)
    watch = await say(services, kind="background")
    events = await asyncio.wait_for(told(await runs.watch(services, ALICE, watch.run_id)), 60)
    assert [event.type for event in events][-1] == "run.completed"
    await at_rest(services, "talk")


async def test_a_defect_of_the_queue_keeps_nobody_waiting(store: Store, caplog: pytest.LogCaptureFixture):
    class Broken(RecordingDispatch):
        async def enqueue(self, task: Task) -> None:
            raise ZeroDivisionError("a defect")

    services = process(store, Answering(), dispatch=Broken())
    await applied(services)
    first = await say(services, "one", webhook="https://hooks.example.com/x", kind="background")
    assert (await asyncio.wait_for(first.result(), 60)).message.text == "re: one"
    second = await say(services, "two", "other")
    assert (await asyncio.wait_for(second.result(), 60)).message.text == "re: two"
    assert "waits for the sweeper" in caplog.text
    await at_rest(services, "talk")


async def test_a_run_whose_cluster_was_deleted_is_nobodys(store: Store):
    queue, held = RecordingDispatch(), Held()
    services = process(store, held, dispatch=queue)
    await applied(services)
    watch = await say(services)
    await held.entered.wait()
    queued = await say(services, "two")
    background = await say(services, "three", "other", kind="background")
    handle = services.handles[watch.run_id]
    await clusters.delete_cluster(services, ALICE, "default", "support")
    held.release.set()
    await handle.finished()
    await work(services, queue)
    await sweep(services)
    await perform(services, Task("run", "default", background.run_id, "t"))
    for one in (watch, queued, background):
        with pytest.raises(NotFound):
            await one.answer()
        with pytest.raises(NotFound):
            await runs.get_run(services, ALICE, one.run_id)
    assert await records(store) == []
    for run_id in (watch.run_id, queued.run_id, background.run_id):
        for collection in (PATHS.steps(run_id), PATHS.events(run_id)):
            assert (await store.query(Query(collection))).documents == ()
    await applied(services)
    assert (await (await say(services)).result()).message.text == "done"


async def test_a_run_goes_on_with_the_generation_it_began_with(store: Store):
    queue, shop = RecordingDispatch(), Shop()
    model = ScriptedModel({"tool_calls": [call("refund")]}, "the old prompt's answer")
    services = process(store, model, shop, queue)
    await applied(services, shop_cluster(approval="unsafe", agent={"system_prompt": "I am the first."}))
    watch = await say(services)
    await watch.answer()
    await applied(services, manifest({"name": "another"}))
    assert [agent.name for agent in (await clusters.get_cluster(services, ALICE, "default", "support")).agents] == [
        "another"
    ]
    await controls.approve(services, ALICE, watch.run_id, [Decision(decision="allow")])
    elsewhere = process(store, model, shop, queue)
    await work(elsewhere, queue)
    run = await runs.get_run(services, ALICE, watch.run_id)
    assert (run.status, run.generation) == ("succeeded", 1)
    assert [request.system for request in model.requests] == [noted("I am the first.", frames=True)] * 2
    assert [[tool.name for tool in request.tools] for request in model.requests] == [["look", "reserve", "refund"]] * 2
    assert shop.calls("refund") == [{"order": 1}]
    await at_rest(services, "talk")


async def test_a_queued_run_has_the_generation_it_was_admitted_with(store: Store):
    queue, model = RecordingDispatch(), Answering("one")
    services = process(store, model, dispatch=queue)
    await applied(services, manifest({"system_prompt": "first"}))
    await say(services, "one")
    await say(services, "two")
    await applied(services, manifest({"system_prompt": "second"}))
    await say(services, "three")
    model.release()
    await services.handles[(await records(store))[0].id].finished()
    await work(services, queue)
    assert [request.system for request in model.asked] == ["first", "first", "second"]


async def test_webhooks_that_nobody_delivered_are_dispatched_again(store: Store):
    queue = RecordingDispatch()
    services = process(store, dispatch=queue)
    await applied(services)
    watch = await say(services, kind="background", webhook="https://hooks.example.com/x")
    (task,) = queue.taken()
    await perform(services, task)
    (lost,) = queue.taken()
    assert (lost.kind, lost.delivery) == ("delivery", "run.completed")
    assert (await sweep(services)).deliveries == 0
    path = PATHS.delivery(watch.run_id, "run.completed")
    await store.commit([Merge(path, {"next_at": services.clock.now() - timedelta(minutes=5)})])
    assert (await sweep(services)).deliveries == 1
    (again,) = queue.taken()
    assert again.token != lost.token  # or the queue would refuse it
    await perform(services, again)
    delivered: list[Delivery] = services.webhooks.deliveries  # type: ignore[attr-defined] # the test's own
    assert len(delivered) == 1
    assert (await sweep(services)).deliveries == 0


async def test_a_store_that_does_not_delete_by_itself_is_purged(store: Store):
    services = process(store)
    await applied(services)
    answer = await (await say(services)).result()
    kept = await (await say(services, "stay", "other")).result()
    page = await store.query(Query(PATHS.events(answer.run_id)))
    gone = [PATHS.run(answer.run_id), PATHS.lease(answer.run_id), *(document.path for document in page.documents)]
    await store.commit([Merge(path, {"expire_at": LONG_AGO}) for path in gone])
    with pytest.raises(NotFound):
        await runs.get_run(services, ALICE, answer.run_id)
    report = await sweep(services)
    assert report.purged == (len(gone) if isinstance(store, SQLiteStore) else 0)
    assert (await sweep(services)).purged == 0
    assert (await runs.get_run(services, ALICE, kept.run_id)).status == "succeeded"


NEW = (
    "head", "event", "crashes", "crashed_step", "unfinished", "waited", "decisions", "waiting", "give_up_at", "webhook",
    "doubts",
)  # fmt: skip


async def made_older(store: Store, run_id: str) -> None:
    """Make the records of a run such as the version before durable runs wrote them."""
    paths = {"run": PATHS.run(run_id), "step": PATHS.step(run_id, 1), "session": PATHS.session("talk")}
    data = {name: (await store.get_many([path])).documents[path].data for name, path in paths.items()}
    run = {name: value for name, value in data["run"].items() if name not in NEW}
    step = {**data["step"], "intents": [{"call_id": i["call_id"], "name": i["name"]} for i in data["step"]["intents"]]}
    new = ("queue", "compacted", "summary", "doubts")
    session = {name: value for name, value in data["session"].items() if name not in new}
    records = {"run": run, "step": step, "session": session}
    await store.commit([Put(paths[name], record) for name, record in records.items()])


@pytest.mark.parametrize("how", ["goes on", "is cancelled"])
async def test_records_of_an_older_version_are_taken_up(store: Store, how: str):
    """One that knew nothing of heads, attempts and effects: its run goes on; what it may have done is not repeated."""
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, STEP, shop, queue)
    await applied(services, shop_cluster())
    await (await say(services, "before")).result()
    run_id = await dies(services, KillPoint.AFTER_MODEL_RESULT, message="hi")
    await made_older(store, run_id)
    assert (await runs.get_run(services, ALICE, run_id)).status == "running"
    if how == "goes on":
        await sweep(services)
        await work(services, queue)
        run = await record(store, run_id)
        assert (run.status, run.attempt, run.head) == ("succeeded", 2, 5)
        roles = ["user", "assistant", "tool", "assistant"]
    else:
        assert (await controls.cancel(services, ALICE, run_id)).status == "cancelled"
        roles = ["user", "assistant"]  # what may have been done is told
    assert len(shop.calls("refund")) == 1
    said = await conversation(services, "talk")
    assert [message.role for message in said] == ["user", "assistant", "tool", "assistant", *roles]
    await at_rest(services, "talk")
    await (await say(services, "after")).answer()
    assert len(await conversation(services, "talk")) > len(said)


async def test_a_lease_of_an_older_version_is_judged_as_any(store: Store):
    queue, held = RecordingDispatch(), Held()
    services = process(store, held, dispatch=queue)
    await applied(services)
    watch = await say(services)
    path = PATHS.lease(watch.run_id)
    lease = LeaseRecord.of((await store.get_many([path])).documents[path].data)
    assert lease.owner == services.owner
    assert (await sweep(process(store, dispatch=queue))).redispatched == 0  # alive
    held.release.set()
    assert (await watch.result()).message.text == "done"
