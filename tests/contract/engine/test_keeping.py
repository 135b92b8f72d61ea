"""A run is kept for `runs.retention` after its end, and never expires before that."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.desk import ALLOW, Desk
from tests.support.durable import call, calling, dies, lapse, process, record, say, shop_cluster
from tests.support.engine import ALICE, applied
from tests.support.runs import PATHS

from goagents.engine import runs
from goagents.engine.execution.steps import read_steps
from goagents.engine.keeping import expiry
from goagents.engine.recovery.sweep import sweep
from goagents.records import StepRecord
from goagents.spec.config import RunsConfig
from goagents.store.base import MAX_WRITES, Merge, Put, Query, Store
from goagents.testing.clocks import START
from goagents.testing.kill_points import KillPoint

DAY = timedelta(days=1)
SHORT = {"poll_interval": 0.05, "retention": "1d", "waiting_timeout": "7d"}


async def expiries(store: Store, run_id: str) -> set[Any]:
    """The times at which what belongs to a run expires."""
    keys = [PATHS.run(run_id), PATHS.lease(run_id)]
    documents = list((await store.get_many(keys)).documents.values())
    for collection in (PATHS.steps(run_id), PATHS.events(run_id)):
        documents += (await store.query(Query(collection))).documents
    assert len(documents) > 3
    return {document.data["expire_at"] for document in documents}


async def test_a_run_is_kept_for_its_time_after_its_end(store: Store):
    services = process(store, runs=SHORT)
    await applied(services)
    watch = await say(services)
    await watch.answer()
    run = await record(store, watch.run_id)
    assert run.finished_at is not None
    assert run.expire_at == run.finished_at + DAY


async def test_what_waits_for_a_person_outlives_the_time_it_is_kept(store: Store):
    desk = Desk(store, calling([call("refund", 3)]), runs=SHORT)
    run = await desk.waiting()
    assert min(await expiries(store, run.id)) > run.created_at + timedelta(days=8)


async def test_a_run_that_nobody_takes_up_is_put_off_with_all_that_is_its_own(store: Store):
    """As if it had been queued for a week: a day from now its records would expire."""
    desk = Desk(store, calling([call("look", 3)]), runs=SHORT)
    await applied(desk.services, shop_cluster())
    run_id = await dies(desk.services, KillPoint.AFTER_RESULTS)
    created_at = (await record(store, run_id)).created_at
    await expires(store, run_id, created_at + DAY)
    await lapse(store, run_id)
    await sweep(desk.services)
    assert min(await expiries(store, run_id)) > created_at + timedelta(days=8)
    assert (await desk.goes_on(run_id)).status == "succeeded"


async def expires(store: Store, run_id: str, at: datetime) -> None:
    """Have all that belongs to a run expire then."""
    paths = [PATHS.run(run_id), PATHS.lease(run_id)]
    for collection in (PATHS.steps(run_id), PATHS.events(run_id)):
        paths += [document.path for document in (await store.query(Query(collection))).documents]
    for path in paths:
        await store.commit([Merge(path, {"expire_at": at})])


async def test_a_run_that_is_taken_up_late_is_put_off_too(store: Store):
    desk = Desk(store, calling([call("refund", 3)]), runs=SHORT)
    run = await desk.waiting()
    await desk.decide(run.id, ALLOW)
    await expires(store, run.id, run.created_at + DAY)
    assert (await desk.goes_on(run.id)).status == "succeeded"
    documents = (await store.query(Query(PATHS.steps(run.id)))).documents
    assert min(document.data["expire_at"] for document in documents) > run.created_at + timedelta(days=8)


async def test_the_key_of_a_run_lives_as_long_as_it_may_be_asked_for(store: Store):
    services = process(store, runs=SHORT)
    await applied(services)
    watch = await say(services, key="k1")
    await watch.answer()
    (key,) = (await store.query(Query(f"{PATHS.root}/idempotency"))).documents
    assert key.data["expire_at"] > (await runs.get_run(services, ALICE, watch.run_id)).created_at + timedelta(days=7)


async def test_a_key_is_put_off_with_its_run(store: Store):
    desk = Desk(store, calling([call("refund", 3)]), runs=SHORT)
    await applied(desk.services, shop_cluster(approval="unsafe"))
    watch = await say(desk.services, key="k1")
    await watch.answer()
    created_at = (await record(store, watch.run_id)).created_at
    (key,) = (await store.query(Query(f"{PATHS.root}/idempotency"))).documents
    await desk.decide(watch.run_id, ALLOW)
    await expires(store, watch.run_id, created_at + DAY)
    await store.commit([Merge(key.path, {"expire_at": created_at + DAY / 24})])
    assert (await desk.goes_on(watch.run_id)).status == "succeeded"
    (key,) = (await store.query(Query(f"{PATHS.root}/idempotency"))).documents
    assert key.data["expire_at"] > created_at + timedelta(days=7)
    assert (await say(desk.services, key="k1")).run_id == watch.run_id


async def test_a_journal_is_read_whole_however_long_it_is(store: Store):
    now, count = datetime.now(UTC), 10_001
    for start in range(0, count, MAX_WRITES):
        steps = [StepRecord(number=n + 1, kind="summary", created_at=now) for n in range(start, start + MAX_WRITES)]
        part = [one for one in steps if one.number <= count]
        await store.commit([Put(PATHS.step("run_1", one.number), one.data()) for one in part])
    assert [step.number for step in await read_steps(store, PATHS, "run_1")] == list(range(1, count + 1))


@pytest.mark.parametrize("timeout", [None, 86_400.0])
def test_records_expire_after_the_longest_a_run_may_take(timeout: float | None):
    config = RunsConfig()
    longest = timedelta(seconds=max(config.timeout, timeout or 0) + config.waiting_timeout + config.retention)
    assert expiry(config, START, timeout) >= START + longest
