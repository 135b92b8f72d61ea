"""The queue of a session, and all that may go wrong with it: no run in it is lost, made twice, or overtaken."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.support.durable import (
    Answering,
    Shop,
    call,
    calling,
    lapse,
    process,
    record,
    records,
    say,
    serving,
    shop_cluster,
    texts,
    work,
)
from tests.support.engine import ALICE, applied
from tests.support.runs import PATHS, at_rest

from goagents.engine import sessions
from goagents.engine.recovery.sweep import sweep
from goagents.errors import (
    SessionBusy,
)
from goagents.store.base import Delete, Merge, Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.faults import Fault, FaultyStore, writes_to
from goagents.testing.kill_points import Boundary, classify
from goagents.testing.stores import PassingStore


@pytest.mark.parametrize("failures", [0, 1])
async def test_a_promoted_run_whose_task_was_lost_is_found_by_the_sweeper(store: Store, failures: int):
    """The queue took it and lost it, or did not take it at all."""
    queue, model = RecordingDispatch(), Answering("one")
    services = process(store, model, dispatch=queue)
    await applied(services)
    first, second = await say(services, "one"), await say(services, "two")
    queue.failures = failures
    model.release()
    await first.answer()
    assert [task.run for task in queue.taken()] == [second.run_id] * (1 - failures)
    if not failures:
        assert (await sweep(services)).redispatched == 0  # a worker may still come
        await lapse(store, second.run_id)
    assert (await sweep(services)).redispatched == 1
    await work(services, queue)
    assert await texts(services) == ["one", "re: one", "two", "re: two"]
    await at_rest(services, "talk")


async def test_an_interrupted_run_is_cancelled_whatever_becomes_of_who_asked(store: Store):
    """The wish is in the commit that queues the newer run: its process may die before it has done anything else."""
    queue, shop = RecordingDispatch(), Shop()
    script = [{"when": "one", **step} for step in calling([call("refund")])] + [{"text": "re: {user}"}]
    services = process(store, script, shop, queue)
    await applied(services, shop_cluster(approval="unsafe"))
    first = await say(services, "one")
    await first.answer()

    class Dying(PassingStore):
        async def around(self, method: str, subject: Any, call: Callable[[], Awaitable[Any]]) -> Any:
            done = await call()
            if method == "commit" and Boundary.ADMISSION in classify(subject):
                raise asyncio.CancelledError
            return done

    dying = process(Dying(store), script, shop, queue)
    with pytest.raises(asyncio.CancelledError):
        await say(dying, "two", policy="interrupt")
    assert (await record(store, first.run_id)).status == "waiting"
    await sweep(services)
    assert (await record(store, first.run_id)).status == "cancelled"
    await work(services, queue)
    assert await texts(services) == ["one", "two", "re: two"]


@pytest.mark.parametrize("how", ["admission", "sweeper", "deletion"])
async def test_who_waits_behind_a_run_whose_record_is_gone_goes_before_who_comes_later(store: Store, how: str):
    """Records expire; what waits in a session is not lost with the one in front, and keeps its place."""
    queue, model = RecordingDispatch(), Answering()
    services = process(store, model, dispatch=queue)
    await applied(services)
    gone = await say(services, "one", kind="background")
    waiting = await say(services, "two")
    await store.commit([Delete(PATHS.run(gone.run_id)), Delete(PATHS.lease(gone.run_id))])
    queue.taken()
    if how == "admission":
        later = await say(services, "three")
        await work(services, queue)
        assert (await later.result()).message.text == "re: three"
    elif how == "deletion":
        with pytest.raises(SessionBusy):
            await sessions.delete_session(services, ALICE, "talk")
        await work(services, queue)
    else:
        await lapse(store, waiting.run_id)
        await sweep(services)
        await work(services, queue)
    assert (await record(store, waiting.run_id)).status == "succeeded"
    expected = ["one", "two", "re: two", "three", "re: three"]
    assert await texts(services) == (expected if how == "admission" else expected[:3])
    await at_rest(services, "talk")


@pytest.mark.parametrize("kind", ["conflict", "answer_lost", "request_lost", "late", "unavailable"])
@pytest.mark.parametrize("policy", ["enqueue", "interrupt"])
async def test_a_queued_run_is_queued_once_whatever_the_store_does(store: Store, kind: Any, policy: str):
    model = Answering("one")
    serving_one = serving(process(store, model))
    await applied(serving_one)
    first = await say(serving_one, "one")
    faulty = FaultyStore(store, [Fault(kind, writes_to("/sessions/"), times=2 if kind == "answer_lost" else 1)])
    other = process(faulty, model)
    if kind == "unavailable":
        with pytest.raises(Exception, match="cannot be reached"):
            await say(other, "two", policy=policy, key="k1")
    second = await say(other, "two", policy=policy, key="k1")
    assert faulty.injected
    await faulty.flush()
    assert (await say(other, "two", policy=policy, key="k1")).run_id == second.run_id
    model.release()
    assert (await second.result()).message.text == "re: two"
    await first.finished()
    assert len(await records(store)) == 2
    assert (await texts(serving_one))[-2:] == ["two", "re: two"]
    await at_rest(serving_one, "talk")


@pytest.mark.parametrize("kind", ["conflict", "answer_lost", "request_lost", "late"])
async def test_a_run_for_the_background_is_there_once_whatever_the_store_does(store: Store, kind: Any):
    queue = RecordingDispatch()
    faulty = FaultyStore(store, [Fault(kind, writes_to("/sessions/"))])
    services = process(faulty, dispatch=queue)
    await applied(services)
    watch = await say(services, "one", kind="background", key="k1")
    assert faulty.injected
    await work(services, queue)
    assert [(run.id, run.status) for run in await records(store)] == [(watch.run_id, "succeeded")]
    assert await texts(services) == ["one", "hello"]
    await at_rest(services, "talk")


@pytest.mark.parametrize("kind", ["conflict", "answer_lost", "request_lost", "late"])
async def test_a_promotion_is_made_once_whatever_the_store_does(store: Store, kind: Any):
    model, queue = Answering("one"), RecordingDispatch()
    faulty = FaultyStore(store)
    services = process(faulty, model, dispatch=queue)
    await applied(services)
    first, second = await say(services, "one"), await say(services, "two")
    faulty.faults.append(Fault(kind, lambda writes: Boundary.PROMOTION in classify(writes)))
    model.release()
    await first.finished()
    assert faulty.injected
    await faulty.flush()
    assert {task.run for task in queue.tasks} == {second.run_id}
    await work(services, queue)
    assert (await record(store, second.run_id)).status == "succeeded"
    assert await texts(services) == ["one", "re: one", "two", "re: two"]
    assert (await sessions.get_session(services, ALICE, "talk")).messages == 4
    await at_rest(services, "talk")


async def test_a_queue_whose_session_lost_its_pointer_is_seen_to(store: Store):
    """What a process of an older version, or a hand in the store, may leave: nobody active, and somebody waiting."""
    queue, model = RecordingDispatch(), Answering("one")
    services = process(store, model, dispatch=queue)
    await applied(services)
    first, second = await say(services, "one"), await say(services, "two")
    services.handles[first.run_id].stop("lost")
    await first.handle.finished() if first.handle else None
    await store.commit([Delete(PATHS.run(first.run_id)), Delete(PATHS.lease(first.run_id))])
    await store.commit([Merge(PATHS.session("talk"), {"active_run": None})])
    third = await say(services, "three")
    await work(services, queue)
    assert (await second.result()).message.text == "re: two"
    assert (await third.result()).message.text == "re: three"
    assert await texts(services) == ["one", "two", "re: two", "three", "re: three"]
