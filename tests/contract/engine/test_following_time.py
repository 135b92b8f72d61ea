"""How long a follower waits, and what it does with a run that it finds left behind."""

import asyncio

import pytest
from tests.support.durable import (
    TALE,
    Shop,
    assert_whole,
    call,
    dies,
    follow,
    process,
    record,
    say,
    shop_cluster,
    told,
)
from tests.support.engine import ALICE, applied
from tests.support.runs import PATHS, Held

from goagents.engine import runs
from goagents.engine.recovery.worker import perform
from goagents.errors import NotFound
from goagents.events import TERMINAL_EVENTS
from goagents.resources import Run
from goagents.store.base import Delete, Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.kill_points import KillPoint


async def test_a_run_that_is_deleted_under_its_follower(store: Store):
    services = process(store, Held())
    await applied(services)
    watch = await say(services)
    other = await runs.watch(process(store), ALICE, watch.run_id)
    following = asyncio.create_task(told(other))
    await asyncio.sleep(0.1)
    await store.commit([Delete(PATHS.run(watch.run_id)), Delete(PATHS.lease(watch.run_id))])
    with pytest.raises(NotFound):
        await asyncio.wait_for(following, 60)
    services.handles[watch.run_id].stop("lost")
    await services.tasks.copy().pop()


async def test_a_follower_that_takes_a_run_up_ends_with_its_time(store: Store):
    """What is left behind goes on with a follower, for as long as its request may take; then it is handed on."""
    queue, shop = RecordingDispatch(), Shop()
    slow = [{"tool_calls": [call("look")], "delay": 0.1}, {"after": "*", "text": "done", "delay": 30}]
    services = process(store, slow, shop, queue, server={"timeout": "1s"})
    await applied(services, shop_cluster())
    run_id = await dies(services, KillPoint.AFTER_MODEL_RESULT)
    began = asyncio.get_running_loop().time()
    events = await follow(services, run_id)
    assert asyncio.get_running_loop().time() - began < 10
    assert events[-1].type == "run.handed_off"
    run = await record(store, run_id)
    assert (run.status, run.attempt) == ("handed_off", 2)
    assert [task.run for task in queue.tasks] == [run_id]


async def test_a_follower_with_little_time_left_has_a_worker_take_the_run_up(store: Store):
    """It would have to leave it in the middle of what it began."""
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, TALE, shop, queue, server={"timeout": "10s"})
    await applied(services, shop_cluster())
    run_id = await dies(services, KillPoint.AFTER_MODEL_RESULT)
    watch = await runs.watch(services, ALICE, run_id)
    watch.until = services.clock.monotonic() + 0.5
    events = await asyncio.wait_for(told(watch), 60)
    assert events[-1].type not in TERMINAL_EVENTS
    run = await record(store, run_id)
    assert (run.status, run.attempt) == ("running", 1)
    (task,) = queue.taken()
    await perform(services, task)
    assert_whole([*events, *await follow(services, run_id, events[-1].cursor)])
    assert (await record(store, run_id)).attempt == 2


async def test_a_follower_waits_no_longer_than_it_may_though_the_run_is_executed_here(store: Store):
    held, queue = Held(), RecordingDispatch()
    services = process(store, held, dispatch=queue, server={"timeout": "600ms"})
    await applied(services)
    watch = await say(services, kind="background")
    (task,) = queue.taken()
    working = asyncio.create_task(perform(services, task))
    await held.entered.wait()
    follower = await runs.watch(services, ALICE, watch.run_id)
    events = await asyncio.wait_for(told(follower), 60)
    assert [event.type for event in events] == ["run.queued", "run.started"]
    answer = await asyncio.wait_for((await runs.watch(services, ALICE, watch.run_id)).answer(), 60)
    assert isinstance(answer, Run)
    assert answer.status == "running"
    held.release.set()
    await working
    assert (await watch.result()).message.text == "done"
