"""Webhooks of runs: recorded with the run's end, tried until they are taken or given up, never recorded wrongly."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from tests.support.deliveries import GONE, NOW, PATHS, RETRY, VIEW, run, services, stored, told
from tests.support.stores import UnreliableStore

from goagents.dispatch.base import Task
from goagents.engine.execution.deliveries import JITTER, MAX_BODY, PAUSES, attempt, delivery_write, task_of
from goagents.engine.services import Services
from goagents.errors import StoreConflict, StoreUnavailable
from goagents.records import DeliveryRecord
from goagents.store.base import Filter, Merge, Put, Query, Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.stores import PassingStore
from goagents.testing.webhooks import DELIVERED, RecordingWebhooks
from goagents.webhooks.base import Delivery, Receipt


def test_a_run_without_a_webhook_tells_nobody():
    assert delivery_write(PATHS, run(webhook=None), "run.completed", VIEW, NOW) == []


async def test_the_message_is_recorded_once_with_what_is_sent(store: Store):
    record = await told(store)
    assert await stored(store) == record
    assert json.loads(record.body) == {
        "type": "run.completed",
        "timestamp": NOW.isoformat().replace("+00:00", "Z"),
        "data": VIEW,
    }
    assert (record.state, record.attempts, record.next_at, record.expire_at) == ("pending", 0, NOW, run().expire_at)
    with pytest.raises(StoreConflict):
        await told(store)


async def test_the_sweeper_finds_what_is_due(store: Store):
    record = await told(store)
    due = (Filter("state", "==", "pending"), Filter("next_at", "<=", NOW))
    page = await store.query(Query(PATHS.deliveries(), due, order_by="next_at"))
    assert [DeliveryRecord.of(document.data) for document in page.documents] == [record]
    assert task_of(PATHS, record, 2.5) == Task("delivery", "default", "run_1", "0", "run.completed", 2.5)


async def test_a_run_that_waits_again_tells_it_again(store: Store):
    first = await told(store, "run.waiting", status="waiting")
    second = await told(store, "run.waiting", status="waiting", attempt=2)
    assert first.id != second.id
    assert json.loads(second.body)["type"] == "run.waiting"
    webhooks = RecordingWebhooks()
    made = services(store, webhooks)
    for record in (first, second):
        task = task_of(PATHS, record)
        await attempt(made, PATHS, task.run, str(task.delivery))
    assert [delivery.id for delivery in webhooks.deliveries] == [first.id, second.id]


def body_of(view: Mapping[str, Any]) -> str:
    (write,) = delivery_write(PATHS, run(), "run.completed", view, NOW)
    assert isinstance(write, Put)
    return str(write.data["body"])


def test_what_makes_a_run_large_is_left_out():
    text = "é" * (MAX_BODY // 2)
    assert json.loads(body_of({**VIEW, "output": {"text": text[:-500]}}))["data"]["output"]["text"] == text[:-500]
    body = body_of({**VIEW, "output": {"text": text}})
    assert json.loads(body)["data"] == {"id": "run_1", "status": "succeeded"}


def test_half_a_surrogate_pair_is_sent_as_jsons_escape():
    body = body_of({**VIEW, "output": {"text": "\ud83d"}})
    assert json.loads(body.encode())["data"]["output"] == {"text": "\ud83d"}


async def test_a_delivery_is_sent_and_recorded(store: Store):
    record, webhooks = await told(store), RecordingWebhooks()
    made = services(store, webhooks)
    await attempt(made, PATHS, "run_1", "run.completed")
    assert webhooks.deliveries == [Delivery(record.id, record.url, record.body, NOW)]
    after = await stored(store)
    assert (after.state, after.attempts, after.detail) == ("delivered", 1, DELIVERED.detail)
    await attempt(made, PATHS, "run_1", "run.completed")
    assert len(webhooks.deliveries) == 1
    assert made.dispatch.tasks == []


async def test_a_receiver_that_never_takes_it_is_tried_ever_more_seldom_and_given_up(
    store: Store, caplog: pytest.LogCaptureFixture
):
    record, webhooks = await told(store), RecordingWebhooks(RETRY)
    made = services(store, webhooks, max_attempts=4)
    task = task_of(PATHS, record)
    for number, pause in enumerate(PAUSES[:3], 1):
        await attempt(made, PATHS, task.run, str(task.delivery))
        after = await stored(store)
        assert (after.state, after.attempts, after.detail) == ("pending", number, RETRY.detail)
        (task,) = made.dispatch.taken()
        assert task == task_of(PATHS, after, task.delay)
        assert pause * (1 - JITTER) <= task.delay <= pause * (1 + JITTER)
        assert after.next_at - made.clock.now() == timedelta(seconds=task.delay)
        made.clock.at += timedelta(seconds=task.delay)
    await attempt(made, PATHS, task.run, str(task.delivery))
    after = await stored(store)
    assert (after.state, after.attempts, after.detail) == ("failed", 4, RETRY.detail)
    assert made.dispatch.taken() == []
    assert "given up at attempt 4: hooks.example.com answered 500" in caplog.text
    await attempt(made, PATHS, task.run, str(task.delivery))
    assert [(d.id, d.body) for d in webhooks.deliveries] == [(record.id, record.body)] * 4
    assert [d.at for d in webhooks.deliveries] == sorted({d.at for d in webhooks.deliveries})


async def test_the_longest_pause_is_a_day(store: Store):
    path, record = PATHS.delivery("run_1", "run.completed"), await told(store)
    await store.commit([Put(path, record.model_copy(update={"attempts": 15}).data())])
    made = services(store, RecordingWebhooks(RETRY), max_attempts=20)
    await attempt(made, PATHS, "run_1", "run.completed")
    assert made.dispatch.tasks[0].delay <= 86_400 * (1 + JITTER)


@pytest.mark.parametrize(("asked", "least", "most"), [(3600.0, 3600, 3600), (0.0, 4, 6), (1.0, 4, 6)])
async def test_a_receiver_may_ask_for_more_time(store: Store, asked: float, least: float, most: float):
    await told(store)
    made = services(store, RecordingWebhooks(Receipt("retry", "hooks.example.com answered 429", asked)))
    await attempt(made, PATHS, "run_1", "run.completed")
    assert least <= made.dispatch.tasks[0].delay <= most


async def test_a_receiver_that_is_gone_is_given_up_at_once(store: Store, caplog: pytest.LogCaptureFixture):
    await told(store)
    made = services(store, RecordingWebhooks(GONE))
    await attempt(made, PATHS, "run_1", "run.completed")
    after = await stored(store)
    assert (after.state, after.attempts, after.detail) == ("failed", 1, GONE.detail)
    assert made.dispatch.tasks == []
    assert "given up at attempt 1" in caplog.text


@pytest.mark.parametrize(("early", "sent"), [(1.5, 0), (0.5, 1), (-3600, 1)])
async def test_nothing_is_sent_before_its_time(store: Store, early: float, sent: int):
    await told(store)
    webhooks = RecordingWebhooks()
    made = services(store, webhooks)
    made.clock.at -= timedelta(seconds=early)
    await attempt(made, PATHS, "run_1", "run.completed")
    assert len(webhooks.deliveries) == sent


async def test_nothing_is_sent_of_what_is_absent(store: Store):
    webhooks = RecordingWebhooks()
    made = services(store, webhooks)
    await attempt(made, PATHS, "run_1", "run.completed")
    await told(store)
    await store.commit([Merge(PATHS.delivery("run_1", "run.completed"), {"expire_at": NOW - timedelta(hours=1)})])
    await attempt(made, PATHS, "run_1", "run.completed")
    assert webhooks.deliveries == []


async def test_a_delivery_has_time_for_all_attempts_however_soon_its_run_expires(store: Store):
    record = await told(store, expire_at=NOW + timedelta(minutes=1))
    assert record.expire_at is not None
    assert record.expire_at - NOW > timedelta(seconds=sum(PAUSES))


class OneByOne(RecordingWebhooks):
    """Answers the calls in their order, each when its gate is opened."""

    def __init__(self, *receipts: Receipt) -> None:
        super().__init__(*receipts)
        self.entered = [asyncio.Event() for _ in receipts]
        self.gates = [asyncio.Event() for _ in receipts]

    async def deliver(self, delivery: Delivery) -> Receipt:
        number, receipt = len(self.deliveries), await super().deliver(delivery)
        self.entered[number].set()
        await self.gates[number].wait()
        return receipt


async def together(made: Services, webhooks: OneByOne, order: Sequence[int]) -> None:
    """Let two workers send at once, and record in this order."""
    async with asyncio.timeout(60):
        workers = []
        for entered in webhooks.entered:
            workers.append(asyncio.create_task(attempt(made, PATHS, "run_1", "run.completed")))
            await entered.wait()
        for number in order:
            webhooks.gates[number].set()
            await workers[number]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("max_attempts", [1, 8])
@pytest.mark.parametrize("other", [RETRY, GONE, DELIVERED])
async def test_what_one_of_two_workers_delivered_is_delivered(
    store: Store, order: tuple[int, int], max_attempts: int, other: Receipt
):
    await told(store)
    webhooks = OneByOne(DELIVERED, other)
    made = services(store, webhooks, max_attempts=max_attempts)
    await together(made, webhooks, order)
    after = await stored(store)
    assert (after.state, after.detail) == ("delivered", DELIVERED.detail)
    assert len(webhooks.deliveries) == 2


class CommitsTogether(PassingStore):
    """The first commit to come is made after the second one."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.first_came, self.second_done = asyncio.Event(), asyncio.Event()

    async def around(self, method: str, subject: object, call: Callable[[], Awaitable[Any]]) -> Any:
        if method != "commit" or self.second_done.is_set():
            return await call()
        if not self.first_came.is_set():
            self.first_came.set()
            await self.second_done.wait()
            return await call()
        done = await call()
        self.second_done.set()
        return done


@pytest.mark.parametrize("other", [RETRY, GONE])
async def test_of_two_that_record_at_once_the_later_decides_anew(store: Store, other: Receipt):
    await told(store)
    webhooks, both = OneByOne(other, DELIVERED), CommitsTogether(store)
    made = services(both, webhooks)
    async with asyncio.timeout(60):
        workers = []
        for entered in webhooks.entered:
            workers.append(asyncio.create_task(attempt(made, PATHS, "run_1", "run.completed")))
            await entered.wait()
        webhooks.gates[0].set()
        await both.first_came.wait()
        webhooks.gates[1].set()
        await asyncio.gather(*workers)
    assert (await stored(store)).state == "delivered"


async def test_of_two_that_failed_one_is_recorded_and_one_task_made(store: Store):
    await told(store)
    webhooks = OneByOne(RETRY, RETRY)
    made = services(store, webhooks)
    await together(made, webhooks, (0, 1))
    after = await stored(store)
    assert (after.state, after.attempts) == ("pending", 1)
    assert [task.token for task in made.dispatch.tasks] == ["1"]


@pytest.mark.parametrize("receipt", [DELIVERED, RETRY, GONE])
async def test_a_lost_answer_of_the_store_changes_nothing(store: Store, receipt: Receipt):
    await told(store)
    cable, webhooks = UnreliableStore(store), RecordingWebhooks(receipt)
    made = services(cable, webhooks)
    cable.lose_answers = 1
    await attempt(made, PATHS, "run_1", "run.completed")
    after = await stored(store)
    assert after.attempts == 1
    assert after.state == {"delivered": "delivered", "retry": "pending", "gone": "failed"}[receipt.outcome]
    assert [task.token for task in made.dispatch.tasks] == (["1"] if receipt is RETRY else [])
    assert len(webhooks.deliveries) == 1


async def test_what_could_not_be_recorded_is_sent_again_under_the_same_id(store: Store):
    await told(store)
    cable = UnreliableStore(store)

    class Pulling(RecordingWebhooks):
        async def deliver(self, delivery: Delivery) -> Receipt:
            cable.unplugged = True
            return await super().deliver(delivery)

    webhooks = Pulling()
    made = services(cable, webhooks)
    with pytest.raises(StoreUnavailable):
        await attempt(made, PATHS, "run_1", "run.completed")
    assert (await stored(store)).state == "pending"
    again = services(store, webhooks)
    await attempt(again, PATHS, "run_1", "run.completed")
    assert (await stored(store)).state == "delivered"
    assert len({delivery.id for delivery in webhooks.deliveries}) == 1


async def test_a_queue_that_takes_no_task_leaves_it_to_the_sweeper(store: Store, caplog: pytest.LogCaptureFixture):
    await told(store)
    made = services(store, RecordingWebhooks(RETRY, DELIVERED), RecordingDispatch(failures=1))
    await attempt(made, PATHS, "run_1", "run.completed")
    assert "left to the sweeper" in caplog.text
    made.clock.at = (await stored(store)).next_at
    await attempt(made, PATHS, "run_1", "run.completed")
    assert (await stored(store)).state == "delivered"
