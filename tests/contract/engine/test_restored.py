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
from tests.support.engine import ALICE, applied
from tests.support.runs import PATHS, at_rest, conversation

from goagents.engine import runs
from goagents.engine.recovery.sweep import sweep
from goagents.records import SignalRecord
from goagents.resources import ChatResponse
from goagents.store.base import Put, Store
from goagents.store.sqlite import SQLiteStore
from goagents.testing.clocks import VirtualClock
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.tools import FunctionTool

LATER = timedelta(hours=1)  # until the backup is restored
TALE = calling([call("look", 1)], [call("refund", 2)])


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
async def opened(path: Path, later: timedelta = timedelta()) -> AsyncIterator[Store]:
    """Open a store whose time is so much later, and stands still."""
    store = SQLiteStore(str(path), clock=VirtualClock(datetime.now(UTC) + later)) if later else SQLiteStore(str(path))
    try:
        yield store
    finally:
        await store.aclose()


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
    async with opened(copy, LATER) as store:
        services = process(store, TALE, shop, queue)
        assert (await record(store, watch.run_id)).status == "running"
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
    async with opened(copies[0], LATER) as store:
        services = process(store, TALE, shop, queue)
        wish = SignalRecord(kind="cancel", principal="operator", created_at=datetime.now(UTC))
        await store.commit([Put(PATHS.signal(watch.run_id, "cancel"), wish.data())])  # as the guide's script does
        await sweep(services)
        await work(services, queue)
        assert (await record(store, watch.run_id)).status == "cancelled"
        assert len(shop.calls("refund")) == 1
        await at_rest(services, "talk")
    async with opened(copies[1], LATER) as store:
        services = process(store, TALE, shop, queue)
        await sweep(services)
        await work(services, queue)
        assert (await record(store, watch.run_id)).status == "succeeded"
        assert len(shop.calls("refund")) == 2


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
    async with opened(copy, LATER) as store:
        services = process(store, model, dispatch=queue)
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
