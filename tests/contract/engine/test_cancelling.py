"""A wish to cancel, whatever the run does meanwhile: it is over, and nothing is done for it any more."""

import asyncio
from typing import Any

import pytest
from tests.support.desk import Desk
from tests.support.durable import (
    STEP,
    Answering,
    Between,
    Shop,
    call,
    calling,
    counts,
    dies,
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
from tests.support.engine import ALICE, BOB, applied
from tests.support.runs import PATHS, Held, at_rest
from tests.support.stores import UnreliableStore

from goagents.engine import controls, runs, sessions
from goagents.engine.recovery.sweep import sweep
from goagents.engine.recovery.worker import perform
from goagents.errors import (
    Conflict,
    NotFound,
    RunCancelled,
)
from goagents.records import SignalRecord
from goagents.resources import Decision, Run
from goagents.store.base import Put, Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.faults import FaultyStore
from goagents.testing.kill_points import Boundary, KillPoint, classify


@pytest.mark.parametrize("how", ["left behind", "handed_off", "queued"])
async def test_a_wish_to_cancel_outlives_the_process_it_was_meant_for(store: Store, how: str):
    """The owner died before it noticed: whoever takes the run up ends it, and does nothing else first."""
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, STEP, shop, queue)
    await applied(services, shop_cluster())
    if how == "left behind":
        run_id = await dies(services, KillPoint.AFTER_MODEL_RESULT)
        await sweep(services)
    elif how == "queued":
        run_id = (await say(services, kind="background")).run_id
    else:
        watch = await say(services)
        run_id = watch.run_id
        for task in services.tasks:
            task.cancel()
        await watch.answer()
    wish = SignalRecord(kind="cancel", principal="alice", reason="too late", created_at=services.clock.now())
    await store.commit([Put(PATHS.signal(run_id, "cancel"), wish.data())])
    await work(services, queue)
    run = await record(store, run_id)
    assert (run.status, run.error and run.error["detail"]) == ("cancelled", "The run was cancelled: too late")
    assert counts(shop) == [0, 0, 0]
    with pytest.raises(RunCancelled):
        await (await runs.watch(services, ALICE, run_id)).answer()
    await at_rest(services, "talk")


async def test_a_run_that_another_process_executes_is_cancelled_by_it(store: Store):
    held = Held()
    services, other = process(store, held), process(store, held)
    await applied(services)
    watch = await say(services)
    await held.entered.wait()
    run = await controls.cancel(other, ALICE, watch.run_id, "enough")
    assert run.status == "cancelled"
    with pytest.raises(RunCancelled, match="enough"):
        await watch.answer()
    assert held.open == 0
    assert (await controls.cancel(other, ALICE, watch.run_id)).status == "cancelled"
    await at_rest(services, "talk")


async def test_a_run_that_is_taken_up_while_it_is_cancelled(store: Store):
    queue, held = RecordingDispatch(), Held()
    services, other = process(store, held, dispatch=queue), process(store, held, dispatch=queue)
    await applied(services)
    watch = await say(services, kind="background")
    (task,) = queue.taken()
    working = asyncio.create_task(perform(services, task))
    run = await asyncio.wait_for(controls.cancel(other, ALICE, watch.run_id), 60)
    assert run.status == "cancelled"
    await working
    assert (await record(store, watch.run_id)).status == "cancelled"
    with pytest.raises(Conflict):
        await controls.approve(services, ALICE, watch.run_id, [Decision(decision="allow")])
    await at_rest(services, "talk")


async def test_who_could_not_end_a_run_does_not_hold_its_place(store: Store):
    """It knows the place as held from the moment it took the run to end it; another one was faster."""
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, STEP, shop, queue)
    cluster = shop_cluster()
    policy = cluster.spec.resource_policy.model_copy(update={"max_concurrent_agents": 1})
    cluster = cluster.model_copy(update={"spec": cluster.spec.model_copy(update={"resource_policy": policy})})
    await applied(services, cluster)
    run_id = await dies(services, KillPoint.AFTER_MODEL_RESULT)
    cable = UnreliableStore(store)
    ending = process(cable, STEP, shop, queue)

    class Cut(UnreliableStore):
        async def commit(self, writes: Any) -> Any:
            done = await super().commit(writes)
            self.unplugged = True  # after the takeover
            return done

    cut = Cut(store)
    ending = process(cut, STEP, shop, queue)
    with pytest.raises(Exception, match="unplugged"):
        await controls.cancel(ending, ALICE, run_id)
    await lapse(store, run_id)
    assert (await controls.cancel(services, ALICE, run_id)).status == "cancelled"
    cut.unplugged = False
    ending.store = store
    answer = await (await say(ending, "are you there?", "other")).result()
    assert answer.message.text == "done"


async def test_a_cancelled_run_leaves_the_queue(store: Store):
    model = Answering("one")
    services = serving(process(store, model))
    await applied(services)
    watches = [await say(services, text) for text in ("one", "two", "three", "four")]
    cancelled = await controls.cancel(services, ALICE, watches[2].run_id, "not that one")
    assert (cancelled.status, cancelled.started_at) == ("cancelled", None)
    assert await queue_of(services) == [watches[1].run_id, watches[3].run_id]
    with pytest.raises(RunCancelled, match="not that one"):
        await watches[2].answer()
    model.release()
    await watches[3].result()
    assert await texts(services) == ["one", "re: one", "two", "re: two", "four", "re: four"]
    with pytest.raises(NotFound):
        await controls.cancel(services, BOB, watches[0].run_id)
    with pytest.raises(Conflict, match="is over: it succeeded"):
        await controls.cancel(services, ALICE, watches[0].run_id)
    assert (await controls.cancel(services, ALICE, watches[2].run_id)).status == "cancelled"
    await at_rest(services, "talk")


@pytest.mark.parametrize("boundary", [Boundary.TAKEOVER, Boundary.SETTLE])
@pytest.mark.parametrize("others", [True, False])
async def test_a_run_that_is_promoted_while_it_is_cancelled(store: Store, boundary: Boundary, others: bool):
    model, queue = Answering("one"), RecordingDispatch()
    services = process(store, model, dispatch=queue)
    await applied(services)
    first, second = [await say(services, text) for text in ("one", "two")]
    third = await say(services, "three") if others else None

    async def first_ends() -> None:
        model.release()
        await first.answer()

    other = process(between := Between(store, boundary, first_ends), model, dispatch=queue)
    assert (await controls.cancel(other, ALICE, second.run_id)).status == "cancelled"
    assert between.done
    await work(services, queue)
    third = third or await say(services, "three")
    assert (await third.result()).message.text == "re: three"
    said = await texts(services)
    assert [text for text in said if text != "two"] == ["one", "re: one", "three", "re: three"]
    assert (await sessions.get_session(services, ALICE, "talk")).messages == len(said)
    assert [run.status for run in await records(store)] == ["succeeded", "cancelled", "succeeded"]
    await at_rest(services, "talk")
    assert (await (await say(services, "four")).result()).message.text == "re: four"


async def test_a_run_that_is_cancelled_while_it_is_promoted(store: Store):
    model, queue = Answering("one"), RecordingDispatch()
    other = process(store, model, dispatch=queue)
    await applied(other)
    cancelled: list[Run] = []

    async def cancel() -> None:
        cancelled.append(await controls.cancel(other, ALICE, second.run_id))

    services = process(between := Between(store, Boundary.SETTLE, cancel), model, dispatch=queue)
    first, second, third = [await say(services, text) for text in ("one", "two", "three")]
    model.release()
    await first.answer()
    assert between.done
    assert [run.status for run in cancelled] == ["cancelled"]
    await work(services, queue)
    assert (await third.result()).message.text == "re: three"
    assert await texts(services) == ["one", "re: one", "three", "re: three"]
    await at_rest(services, "talk")


async def test_a_run_that_waits_is_cancelled_at_once(store: Store):
    desk = Desk(store, calling([call("refund")]))
    run = await desk.waiting()
    assert (await controls.cancel(desk.another(), ALICE, run.id, "never mind")).status == "cancelled"
    with pytest.raises(Conflict):
        await desk.decide(run.id)
    with pytest.raises(RunCancelled, match="never mind"):
        await (await runs.watch(desk.services, ALICE, run.id)).answer()
    assert (await runs.get_run(desk.services, ALICE, run.id)).waiting is None
    await work(desk.services, desk.queue)
    assert desk.shop.calls("refund") == []
    await at_rest(desk.services, "talk")


@pytest.mark.parametrize("point", [Boundary.PARK, Boundary.CANCEL])
@pytest.mark.parametrize("patient", [True, False])
async def test_a_run_that_begins_to_wait_while_it_is_cancelled(store: Store, point: Boundary, patient: bool):
    """Whether it waits before the wish comes, or after: it is cancelled, not left to wait for a week."""
    desk = Desk(store, calling([call("refund")]), runs={"poll_interval": 1.0 if patient else 0.01})
    await applied(desk.services, shop_cluster(approval="unsafe"))
    arrived, go = asyncio.Event(), asyncio.Event()

    class Slow(FaultyStore):
        async def commit(self, writes: Any) -> Any:
            if point in classify(writes) and not go.is_set():
                arrived.set()
                await go.wait()
            return await super().commit(writes)

    owner, other = desk.another(Slow(store)), desk.another(Slow(store))
    if point is Boundary.PARK:
        watch = await say(owner)
        await asyncio.wait_for(arrived.wait(), 60)
        cancelling = asyncio.create_task(controls.cancel(other, ALICE, watch.run_id))
        await asyncio.sleep(0.1)  # the wish is written, and its author waits for it to be noticed
        go.set()
    else:
        held = Held()
        owner = process(store, held, desk.shop, desk.queue)
        watch = await say(owner)
        await held.entered.wait()
        cancelling = asyncio.create_task(controls.cancel(other, ALICE, watch.run_id))
        await asyncio.wait_for(arrived.wait(), 60)
        for task in owner.tasks:
            task.cancel()
        await owner.handles[watch.run_id].finished()
        go.set()
    run = await asyncio.wait_for(cancelling, 60)
    assert run.status == "cancelled" or not patient
    await owner.handles[watch.run_id].finished() if watch.run_id in owner.handles else None
    await sweep(desk.services)
    await work(desk.services, desk.queue)
    assert (await record(store, watch.run_id)).status == "cancelled"
    await work(desk.services, desk.queue)
    assert desk.shop.calls("refund") == []
