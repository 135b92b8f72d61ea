"""What every dispatcher does."""

import asyncio
import time
from dataclasses import replace

import pytest
from tests.contract.dispatch.conftest import Worker, until

from goagents.dispatch.base import Dispatch, Task
from goagents.errors import DispatchFailed, LimitExceeded, OutcomeUnknown, StoreError, StoreUnavailable

RUN = Task("run", "default", "run_1", "lease_1")
DELIVERY = Task("delivery", "acme", "run_1", "0", delivery="run.completed")


@pytest.mark.parametrize("task", [RUN, DELIVERY])
async def test_a_task_reaches_the_worker_as_it_is(dispatch: Dispatch, worker: Worker, task: Task):
    await dispatch.enqueue(task)
    await worker.saw(1)
    assert worker.seen == [task]


async def test_a_task_that_the_queue_has_or_had_is_no_error_and_not_done_again(dispatch: Dispatch, worker: Worker):
    worker.held = True
    await dispatch.enqueue(RUN)
    await worker.saw(1)
    await dispatch.enqueue(RUN)
    worker.held = False
    await dispatch.enqueue(replace(RUN, run="run_2"))
    await worker.saw(2)
    await asyncio.sleep(0.05)
    await dispatch.enqueue(RUN)
    await dispatch.enqueue(replace(RUN, run="run_3"))
    await worker.saw(3)
    await asyncio.sleep(0.05)
    assert [task.run for task in worker.seen] == ["run_1", "run_2", "run_3"]


async def test_what_makes_another_task(dispatch: Dispatch, worker: Worker):
    others = [
        RUN,
        replace(RUN, token="lease_2"),
        replace(RUN, run="run_2"),
        replace(RUN, tenant="acme"),
        DELIVERY,
        replace(DELIVERY, token="1"),
        replace(DELIVERY, delivery="run.waiting"),
    ]
    for task in others:
        await dispatch.enqueue(task)
    await worker.saw(len(others))
    assert set(worker.seen) == set(others)


async def test_many_at_once(dispatch: Dispatch, worker: Worker):
    tasks = [replace(RUN, run=f"run_{n}") for n in range(60)]
    await asyncio.gather(*(dispatch.enqueue(task) for task in tasks + tasks))
    await worker.saw(60)
    await asyncio.sleep(0.05)
    assert sorted(task.run for task in worker.seen) == sorted(task.run for task in tasks)


async def test_a_delay(dispatch: Dispatch, worker: Worker):
    began = time.monotonic()
    await dispatch.enqueue(replace(RUN, delay=0.4))
    await dispatch.enqueue(replace(RUN, run="run_2"))
    await worker.saw(1)
    assert worker.seen[0].run == "run_2"
    await worker.saw(2)
    assert time.monotonic() - began >= 0.35


@pytest.mark.parametrize("failure", [LimitExceeded(), StoreUnavailable(), OutcomeUnknown(), StoreError()])
async def test_what_may_pass_is_tried_again(dispatch: Dispatch, worker: Worker, failure: StoreError | LimitExceeded):
    worker.failures = [failure, failure]
    await dispatch.enqueue(RUN)
    await worker.saw(3)
    await asyncio.sleep(0.3)
    assert worker.seen == [RUN] * 3


async def test_who_enqueues_does_not_wait_for_the_work(dispatch: Dispatch, worker: Worker):
    worker.held = True
    async with asyncio.timeout(60):
        await dispatch.enqueue(RUN)
        await dispatch.enqueue(replace(RUN, run="run_2"))
    await until(lambda: len(worker.seen) == 2)


async def test_nothing_is_taken_after_the_end(dispatch: Dispatch, worker: Worker):
    await dispatch.enqueue(RUN)
    await worker.saw(1)
    await dispatch.aclose()
    with pytest.raises(DispatchFailed, match="sweeper"):
        await dispatch.enqueue(replace(RUN, token="lease_2"))
    await dispatch.aclose()
    assert worker.seen == [RUN]
