"""A backup taken while runs are in progress, restored: they end, and no call in doubt is repeated silently."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.durable import (
    Answering,
    Shop,
    call,
    calling,
    counts,
    process,
    record,
    results,
    say,
    shop_cluster,
    texts,
    work,
)
from tests.support.engine import ALICE, Engine, applied
from tests.support.runs import PATHS, at_rest, conversation

from goagents.clock import Clock, SystemClock
from goagents.engine import runs
from goagents.engine.recovery.sweep import sweep
from goagents.records import SignalRecord
from goagents.resources import ChatResponse
from goagents.store.base import Put, Store
from goagents.store.sqlite import SQLiteStore
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.tools import FunctionTool

LATER = timedelta(minutes=10)  # until the backup is restored
TALE = calling([call("look", 1)], [call("refund", 2)])


class LaterClock(SystemClock):
    """That of a machine, and of a store, some time after the backup."""

    def __init__(self, later: timedelta) -> None:
        self.later = later

    def now(self) -> datetime:
        return super().now() + self.later


class Gate:
    """Holds the first call of a tool until it is let through."""

    def __init__(self, tool: FunctionTool) -> None:
        self.entered, self.open = asyncio.Event(), asyncio.Event()
        self._does = tool.function
        tool.function = self

    async def __call__(self, arguments: Mapping[str, Any]) -> Any:
        self.entered.set()
        await self.open.wait()
        return await self._does(arguments)


def back_up(path: Path, copy: Path) -> None:
    """Copy a database that is in use, as `sqlite3 FILE ".backup COPY"` does."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


@asynccontextmanager
async def opened(path: Path, clock: Clock | None = None) -> AsyncIterator[Store]:
    store = SQLiteStore(str(path), clock=clock or SystemClock())
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def restored(
    path: Path, model: Any, shop: Shop | None, queue: RecordingDispatch, later: timedelta = LATER
) -> AsyncIterator[Engine]:
    """Open a backup as a store, and start a process on it, some time later."""
    clock = LaterClock(later)
    async with opened(path, clock) as store:
        services = process(store, model, shop, queue)
        services.clock = clock
        yield services


@pytest.mark.parametrize(
    ("tool", "policy", "made", "status"),
    [
        pytest.param("look", "tell", [2, 0, 1], "succeeded", id="a call that reads is made again"),
        pytest.param("refund", "tell", [1, 0, 1], "succeeded", id="the model is told that nobody knows"),
        pytest.param("refund", "wait", [1, 0, 1], "waiting", id="a person decides"),
    ],
)
async def test_a_run_in_progress_goes_on_from_the_backup(
    tmp_path: Path, tool: str, policy: str, made: list[int], status: str
):
    live, copy, shop, queue = tmp_path / "live.db", tmp_path / "copy.db", Shop(), RecordingDispatch()
    gate = Gate(shop.by_name[tool])
    async with opened(live) as store:
        services = process(store, TALE, shop)
        await applied(services, shop_cluster(unknown_outcome=policy))
        watch = await say(services)
        await gate.entered.wait()
        back_up(live, copy)
        for task in services.tasks:
            task.cancel()  # the machine is lost, and what it did since the backup with it
        await asyncio.wait(services.tasks)
    gate.open.set()
    async with restored(copy, TALE, shop, queue) as services:
        assert (await record(services.store, watch.run_id)).status == "running"
        assert (await sweep(services)).redispatched == 1
        await work(services, queue)
        run = await runs.get_run(services, ALICE, watch.run_id)
        assert (run.status, counts(shop)) == (status, made)
        if status == "waiting":
            assert run.waiting is not None
            assert [(one.name, one.reason) for one in run.waiting.calls] == [("refund", "outcome_unknown")]
            return
        said = results(await conversation(services, "talk"))
        assert [(part.name, part.unknown) for part in said] == [("look", False), ("refund", tool == "refund")]
        await at_rest(services, "talk")
        assert (await sweep(services)).redispatched == 0


async def test_what_was_done_since_the_backup_is_done_again_unless_the_run_is_cancelled_first(tmp_path: Path):
    """No store knows what happened after its copy was made: the operations guide says what to do about it."""
    live, shop, queue = tmp_path / "live.db", Shop(), RecordingDispatch()
    gate = Gate(shop.by_name["look"])
    copies = [tmp_path / "first.db", tmp_path / "second.db"]
    async with opened(live) as store:
        services = process(store, TALE, shop)
        await applied(services, shop_cluster())
        watch = await say(services)
        await gate.entered.wait()
        for copy in copies:
            back_up(live, copy)
        gate.open.set()
        assert (await watch.result()).message.text == "done"
        assert len(shop.calls("refund")) == 1
    async with restored(copies[0], TALE, shop, queue) as services:
        wish = SignalRecord(kind="cancel", principal="operator", created_at=datetime.now(UTC))
        await services.store.commit(
            [Put(PATHS.signal(watch.run_id, "cancel"), wish.data())]
        )  # as the guide's script does
        await sweep(services)
        await work(services, queue)
        assert (await record(services.store, watch.run_id)).status == "cancelled"
        assert len(shop.calls("refund")) == 1
        await at_rest(services, "talk")
    async with restored(copies[1], TALE, shop, queue) as services:
        await sweep(services)
        await work(services, queue)
        assert (await record(services.store, watch.run_id)).status == "succeeded"
        assert len(shop.calls("refund")) == 2


async def test_a_run_that_is_out_of_time_by_then_fails_and_calls_nothing(tmp_path: Path):
    live, copy, shop, queue = tmp_path / "live.db", tmp_path / "copy.db", Shop(), RecordingDispatch()
    gate = Gate(shop.by_name["look"])
    async with opened(live) as store:
        services = process(store, TALE, shop)
        await applied(services, shop_cluster())
        watch = await say(services)
        await gate.entered.wait()
        back_up(live, copy)
        gate.open.set()
        await watch.result()
    async with restored(copy, TALE, shop, queue, later=timedelta(hours=2)) as services:
        assert (await sweep(services)).redispatched == 1
        await work(services, queue)
        run = await record(services.store, watch.run_id)
        assert (run.status, (run.error or {}).get("code")) == ("failed", "run_timed_out")
        assert counts(shop) == [1, 0, 1]
        await at_rest(services, "talk")


async def test_queues_and_keys_are_as_they_were(tmp_path: Path):
    live, copy = tmp_path / "live.db", tmp_path / "copy.db"
    model, queue = Answering("second"), RecordingDispatch()
    async with opened(live) as store:
        services = process(store, model, dispatch=queue)
        await applied(services)
        first = await say(services, "first", key="k1")
        await first.result()
        second = await say(services, "second", key="k2")
        await model.entered.wait()
        third = await say(services, "third", key="k3")
        back_up(live, copy)
        model.release()
        await second.result()
        assert await work(services, queue) == 1
        assert isinstance(await third.answer(), ChatResponse)
        after = await say(services, "after", session="other", key="k4")
        assert isinstance(await after.answer(), ChatResponse)
    async with restored(copy, model, None, queue) as services:
        for said, key, watch in (("first", "k1", first), ("second", "k2", second), ("third", "k3", third)):
            assert (await say(services, said, key=key)).run_id == watch.run_id
        await sweep(services)
        await work(services, queue)
        assert await texts(services) == [
            "first", "re: first", "second", "re: second", "third", "re: third",
        ]  # fmt: skip
        # a key that was used after the backup is new
        once_more = await say(services, "after", session="other", key="k4")
        assert once_more.run_id != after.run_id
        assert isinstance(await once_more.answer(), ChatResponse)
        await at_rest(services, "talk")
