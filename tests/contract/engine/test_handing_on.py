"""The time of a run, and that of the process that executes it: handed on between steps, ended when its own is up."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.support.durable import (
    LONG_AGO,
    STEP,
    Shop,
    call,
    calling,
    counts,
    dies,
    process,
    record,
    results,
    say,
    shop_cluster,
    steps_of,
    work,
)
from tests.support.engine import ALICE, applied, manifest
from tests.support.runs import PATHS, at_rest, conversation

from goagents.clock import SystemClock
from goagents.engine import clusters, runs
from goagents.engine.recovery.sweep import sweep
from goagents.errors import (
    NotFound,
    RunTimedOut,
)
from goagents.resources import Run
from goagents.store.base import Merge, Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.kill_points import KillPoint


async def test_the_time_of_a_run_is_that_of_all_its_attempts(store: Store):
    queue = RecordingDispatch()
    script = [{"text": "late", "delay": 30}]
    services = process(store, script, dispatch=queue)
    await applied(services, manifest({"timeout": "5s"}))
    run_id = await dies(services, KillPoint.AFTER_ADMISSION)
    started = (await record(store, run_id)).started_at
    assert started
    await store.commit([Merge(PATHS.run(run_id), {"started_at": started - timedelta(seconds=4.5)})])
    await sweep(services)
    began = asyncio.get_running_loop().time()
    await work(services, queue)
    assert asyncio.get_running_loop().time() - began < 4
    run = await record(store, run_id)
    assert (run.status, run.error and run.error["code"]) == ("failed", "run_timed_out")
    with pytest.raises(RunTimedOut, match="5 s"):
        await (await runs.watch(services, ALICE, run_id)).answer()
    await at_rest(services, "talk")


async def test_a_run_that_is_found_after_its_time_is_up_fails_without_another_call(store: Store):
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, STEP, shop, queue)
    await applied(services, shop_cluster(agent={"timeout": "60s"}))
    run_id = await dies(services, KillPoint.AFTER_MODEL_RESULT)
    await store.commit([Merge(PATHS.run(run_id), {"started_at": LONG_AGO})])
    await sweep(services)
    await work(services, queue)
    assert (await record(store, run_id)).error["code"] == "run_timed_out"  # type: ignore[index] # a failed run has one
    assert counts(shop) == [0, 0, 0]
    await at_rest(services, "talk")


async def test_a_run_is_handed_on_between_two_steps_before_its_process_runs_out_of_time(store: Store):
    queue, shop = RecordingDispatch(), Shop()
    script = [
        {"round": 1, "tool_calls": [call("refund", 1)], "delay": 0.7},
        {"round": 2, "after": "*", "tool_calls": [call("refund", 2)], "delay": 0.7},
        {"round": 3, "after": "*", "text": "done", "delay": 0.7},
    ]
    services = process(store, script, shop, queue, server={"timeout": "1s"})
    await applied(services, shop_cluster())
    watch = await say(services)
    answer = await watch.answer()
    assert isinstance(answer, Run)
    assert (answer.status, answer.attempt) == ("handed_off", 1)
    session = (await store.get_many([PATHS.session("talk")])).documents[PATHS.session("talk")]
    assert session.data["active_run"] == watch.run_id
    assert (await clusters.get_cluster(services, ALICE, "default", "support")).active_runs == 1  # it keeps its place
    await work(process(store, script, shop, queue), queue)
    run = await record(store, watch.run_id)
    assert (run.status, run.crashes) == ("succeeded", 0)
    assert [args["order"] for args in shop.calls("refund")] == [1, 2]
    assert not any(part.unknown for part in results(await conversation(services, "talk")))
    await at_rest(services, "talk")


async def test_a_tool_is_not_begun_where_its_process_would_cut_it(store: Store):
    """The model took most of the time; what the tool may take is another process's to give."""
    queue, shop = RecordingDispatch(), Shop()
    script = [{"round": 1, "tool_calls": [call("refund", 1)], "delay": 0.8}, {"after": "*", "text": "done"}]
    services = process(store, script, shop, queue, server={"timeout": "1.2s"})
    await applied(services, shop_cluster())
    watch = await say(services)
    answer = await watch.answer()
    assert isinstance(answer, Run)
    assert (answer.status, counts(shop)) == ("handed_off", [0, 0, 0])
    assert await steps_of(services, watch.run_id) == ["model"]
    await work(process(store, script, shop, queue), queue)
    assert (await record(store, watch.run_id)).status == "succeeded"
    assert counts(shop) == [0, 0, 1]
    await at_rest(services, "talk")


async def test_a_run_is_handed_on_when_that_is_wished_and_no_sooner_than_a_step_is_whole(store: Store):
    queue, shop = RecordingDispatch(), Shop()
    go, entered = asyncio.Event(), asyncio.Event()

    async def refund(arguments: Any) -> str:
        entered.set()
        await go.wait()
        return "refunded"

    shop.by_name["refund"].function = refund
    services = process(store, calling([call("refund")]), shop, queue)
    await applied(services, shop_cluster())
    watch = await say(services)
    await asyncio.wait_for(entered.wait(), 60)
    services.handles[watch.run_id].stop("hand_off")
    await asyncio.sleep(0.05)
    assert (await record(store, watch.run_id)).status == "running"
    go.set()
    answer = await watch.answer()
    assert isinstance(answer, Run)
    assert answer.status == "handed_off"
    assert await steps_of(services, watch.run_id) == ["model", "tools"]
    await work(services, queue)
    assert (await record(store, watch.run_id)).status == "succeeded"
    assert len(shop.calls("refund")) == 1
    await at_rest(services, "talk")


async def test_a_call_that_its_process_had_to_leave_is_not_repeated(store: Store):
    """The server's patience is over in the middle of an unsafe call: what it came to is not known."""
    queue, shop = RecordingDispatch(), Shop()
    entered = asyncio.Event()

    async def refund(arguments: Any) -> str:
        await asyncio.sleep(0)
        entered.set()  # the two others, which began before, have answered
        await asyncio.Event().wait()
        return "never"

    shop.by_name["refund"].function = refund
    services = process(store, STEP, shop, queue)
    await applied(services, shop_cluster())
    watch = await say(services)
    await asyncio.wait_for(entered.wait(), 60)
    await asyncio.sleep(0.05)
    for task in services.tasks:
        task.cancel()
    assert isinstance(await watch.answer(), Run)
    await work(services, queue)
    assert (await record(store, watch.run_id)).status == "succeeded"
    assert counts(shop) == [1, 1, 1]
    parts = {part.name: part for part in results(await conversation(services, "talk"))}
    assert [parts[name].unknown for name in ("look", "reserve", "refund")] == [False, False, True]


async def test_a_process_asked_to_stop_before_a_run_has_begun(store: Store):
    """A task that is cancelled before its first step runs no code of its own at all."""
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, STEP, shop, queue)
    await applied(services, shop_cluster())
    watch = await say(services)
    for task in services.tasks:
        task.cancel()
    answer = await asyncio.wait_for(watch.answer(), 60)
    assert isinstance(answer, Run)
    assert answer.status == "handed_off"
    await work(services, queue)
    assert (await record(store, watch.run_id)).status == "succeeded"
    assert counts(shop) == [1, 1, 1]


class Ahead(SystemClock):
    """A clock that is wrong by two minutes."""

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=2)


async def test_a_process_whose_clock_is_wrong_does_not_take_a_runs_time_away(store: Store):
    queue, shop = RecordingDispatch(), Shop()
    services, other = process(store, STEP, shop, queue), process(store, STEP, shop, queue)
    other.clock = Ahead()
    await applied(services, shop_cluster(agent={"timeout": "60s"}))
    run_id = await dies(services, KillPoint.AFTER_MODEL_RESULT)
    await sweep(services)
    await work(other, queue)
    assert (await record(store, run_id)).status == "succeeded"


async def test_an_agent_that_another_process_added_is_there_at_once(store: Store):
    services, other = process(store), process(store)
    await applied(services)
    await (await say(services)).answer()  # this process knows the cluster as it was
    added = manifest()
    more = added.spec.agents[0].model_copy(update={"name": "newcomer"})
    added = added.model_copy(update={"spec": added.spec.model_copy(update={"agents": (*added.spec.agents, more)})})
    await applied(other, added)
    answer = await (await say(services, session="new", agent="support.newcomer")).answer()
    assert not isinstance(answer, Run)
    with pytest.raises(NotFound, match="nobody"):
        await say(services, agent="support.nobody")
