import asyncio
import logging
from dataclasses import replace

import pytest

from goagents.dispatch import local
from goagents.dispatch.base import Task
from goagents.dispatch.local import LocalDispatch
from goagents.errors import DispatchFailed, GoAgentsError, Invalid, LimitExceeded, StoreUnavailable
from goagents.testing.clocks import VirtualClock

RUN = Task("run", "default", "run_1", "lease_1")


class Worker:
    """Notes when it was called; raises what `failure` is."""

    def __init__(self, clock: VirtualClock, failure: BaseException | None = None) -> None:
        self.clock = clock
        self.failure = failure
        self.at: list[float] = []

    async def __call__(self, _: Task) -> None:
        self.at.append(self.clock.monotonic())
        if self.failure is not None:
            raise self.failure

    @property
    def pauses(self) -> list[float]:
        return [after - before for before, after in zip(self.at, self.at[1:], strict=False)]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


async def test_pauses_grow_to_a_bound_and_attempts_end(clock: VirtualClock, caplog: pytest.LogCaptureFixture):
    worker = Worker(clock, StoreUnavailable("The store is away."))
    dispatch = LocalDispatch(worker, clock)
    await dispatch.enqueue(RUN)
    await clock.advance(3600)
    assert len(worker.at) == local.ATTEMPTS
    full = [min(local.LONGEST_PAUSE, local.FIRST_PAUSE * 2**n) for n in range(local.ATTEMPTS - 1)]
    for pause, longest in zip(worker.pauses, full, strict=True):
        assert longest / 2 <= pause <= longest
    assert len(set(worker.pauses)) == len(worker.pauses)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("goagents.dispatch", "WARNING")
    expected = "the run run_1 (tenant default) is left to the sweeper after 12 attempts: The store is away."
    assert record.getMessage() == expected
    await dispatch.aclose()


@pytest.mark.parametrize(("asked", "waited"), [(7.0, 7.0), (1e9, local.MAX_RETRY_AFTER)])
async def test_what_the_limit_asks_for_is_waited(clock: VirtualClock, asked: float, waited: float):
    worker = Worker(clock, LimitExceeded(retry_after=asked))
    dispatch = LocalDispatch(worker, clock)
    await dispatch.enqueue(RUN)
    await clock.advance(3600)
    assert worker.pauses == pytest.approx([waited] * (local.ATTEMPTS - 1))
    await dispatch.aclose()


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (Invalid("There is no such agent."), "failed: There is no such agent."),
        (ZeroDivisionError("a defect"), "failed unexpectedly"),
    ],
)
async def test_what_does_not_pass_is_logged_and_not_tried_again(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture, failure: Exception, said: str
):
    worker = Worker(clock, failure)
    dispatch = LocalDispatch(worker, clock)
    await dispatch.enqueue(replace(RUN, kind="delivery", delivery="run.completed"))
    await clock.advance(3600)
    assert len(worker.at) == 1
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("goagents.dispatch", "ERROR")
    assert record.getMessage().startswith("the delivery run.completed of the run run_1 (tenant default) failed")
    assert said in record.getMessage()
    assert (record.exc_info is not None) is not isinstance(failure, GoAgentsError)
    await dispatch.aclose()


async def test_a_name_is_refused_for_an_hour_after_its_end(clock: VirtualClock):
    worker = Worker(clock)
    dispatch = LocalDispatch(worker, clock)
    await dispatch.enqueue(replace(RUN, delay=7200))
    await clock.advance(7100)
    await dispatch.enqueue(RUN)  # it waits for longer than an hour, and is known all the time
    await clock.advance(101)
    assert worker.at == [7200]
    await clock.advance(3500)
    await dispatch.enqueue(RUN)
    await clock.advance(0)
    assert worker.at == [7200]
    await clock.advance(101)
    await dispatch.enqueue(RUN)
    await clock.advance(0)
    assert worker.at == [7200, 10_802]
    await dispatch.aclose()


async def test_names_and_waiting_tasks_are_bounded(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local, "MAX_PENDING", 3)
    monkeypatch.setattr(local, "MAX_NAMES", 2)
    worker = Worker(clock)
    dispatch = LocalDispatch(worker, clock)
    for n in range(3):
        await dispatch.enqueue(replace(RUN, run=f"run_{n}", delay=1))
    with pytest.raises(DispatchFailed, match=r"dispatch\.queue"):
        await dispatch.enqueue(replace(RUN, run="run_3"))
    await dispatch.enqueue(replace(RUN, run="run_2"))  # known: nothing more to hold
    await clock.advance(1)
    for n in range(3):
        await dispatch.enqueue(replace(RUN, run=f"run_{n}"))
    await clock.advance(0)
    assert len(worker.at) == 4  # the oldest name is forgotten
    await dispatch.aclose()


async def test_the_end_drops_what_waits_and_waits_for_what_runs(clock: VirtualClock, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "goagents.dispatch")
    ended: list[str] = []
    go_on = asyncio.Event()

    async def perform(task: Task) -> None:
        if task.run == "fails":
            raise LimitExceeded
        await go_on.wait()
        ended.append(task.run)
        if task.run == "unlucky":
            raise StoreUnavailable("Gone.")

    dispatch = LocalDispatch(perform, clock)
    for run, delay in (("runs", 0.0), ("unlucky", 0.0), ("waits", 10.0), ("fails", 0.0)):
        await dispatch.enqueue(replace(RUN, run=run, delay=delay))
    await clock.advance(0.01)
    closing = asyncio.create_task(dispatch.aclose())
    await clock.advance(60)
    assert not closing.done()
    go_on.set()
    await clock.advance(60)
    assert closing.done()
    assert ended == ["runs", "unlucky"]
    assert clock.sleeping == 0
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "2 tasks are left to the sweeper"
    assert "unlucky (tenant default) is left to the sweeper after 1 attempts: Gone." in said[1]


async def test_work_that_is_cancelled_is_over(clock: VirtualClock):
    worker = Worker(clock, asyncio.CancelledError())
    dispatch = LocalDispatch(worker, clock)
    await dispatch.enqueue(RUN)
    await clock.advance(60)
    assert len(worker.at) == 1
    await dispatch.aclose()
