"""A killed process asks nothing more, gets no answer, and writes nothing while its tasks are cleared away."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.parts import Parts, process_parts

from goagents.dispatch.base import Task
from goagents.engine.services import Services
from goagents.errors import StoreConflict
from goagents.providers.base import ModelRequest
from goagents.store.base import ABSENT, Put
from goagents.testing.clocks import VirtualClock
from goagents.testing.kill_points import KillPoint, KillSwitch
from goagents.testing.severable import ProcessDied, Severable
from goagents.testing.tools import function_tool
from goagents.tools.base import ToolContext
from goagents.webhooks.base import Delivery

CONTEXT = ToolContext("run_1", "s", "default", "helper", "call_1", "run_1/1/call_1")


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with process_parts(tmp_path, VirtualClock()) as made:
        yield made


async def put(services: Services, path: str) -> None:
    await services.store.commit([Put(path, {"n": 1}, ABSENT)])


async def there(parts: Parts, path: str) -> bool:
    return bool((await parts.store.get_many([path])).documents)


async def test_while_it_lives_it_works(parts: Parts):
    process = Severable()
    services = process.services(parts.services)
    await process.run(put(services, "items/a"))
    assert await there(parts, "items/a")
    with pytest.raises(StoreConflict):
        await process.run(put(services, "items/a"))
    assert not process.dead
    await process.bury()
    assert process.dead


async def test_nothing_it_asks_is_done_any_more(parts: Parts):
    """One task for each port; none ends, and none reaches what is behind the port."""
    model = parts.says("hello")
    tool = function_tool("look", lambda _: answer())
    parts.offers(tool)
    process = Severable()
    services = process.services(parts.services)
    provider, tools = await services.providers.get("scripted"), await parts.opened(services)
    process.sever()

    async def streams() -> None:
        async for _ in provider.stream(ModelRequest("m", ())):
            pass

    asked = [
        asyncio.create_task(work)
        for work in (
            put(services, "items/a"),
            services.store.check(),
            services.clock.sleep(0),
            services.providers.get("scripted"),
            streams(),
            parts.opened(services),
            tools[0].call({}, CONTEXT),
            services.dispatch.enqueue(Task("run", "default", "run_1", "lease_1")),
            services.webhooks.deliver(Delivery("d", "u", "{}", datetime.now(UTC))),
        )
    ]
    await asyncio.sleep(0.02)
    assert [task.done() for task in asked] == [False] * len(asked)
    await process.bury()
    assert [task.cancelled() for task in asked] == [True] * len(asked)
    assert not await there(parts, "items/a")
    assert (model.requests, tool.calls, parts.dispatch.tasks, parts.webhooks.deliveries) == ([], [], [], [])


async def answer() -> str:
    return "done"


async def test_what_was_under_way_has_its_effect_and_no_answer(parts: Parts):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: object) -> str:
        begun.set()
        await go_on.wait()
        return "done"

    parts.offers(tool := function_tool("slow", slow))
    process = Severable()
    (opened,) = await parts.opened(process.services(parts.services))
    calling = asyncio.create_task(opened.call({}, CONTEXT))
    await begun.wait()
    process.sever()
    go_on.set()
    await asyncio.sleep(0.02)
    assert (len(tool.calls), calling.done()) == (1, False)
    await process.bury()
    assert calling.cancelled()


async def test_who_waits_for_it_learns_that_it_died(parts: Parts):
    process = Severable()
    services = process.services(parts.services)
    waiting = asyncio.create_task(process.run(services.clock.sleep(60)))
    await asyncio.sleep(0.01)
    process.sever()
    with pytest.raises(ProcessDied):
        await waiting
    with pytest.raises(ProcessDied):
        await process.run(put(services, "items/b"))
    await process.bury()
    assert not await there(parts, "items/b")


async def test_it_dies_at_a_kill_point(parts: Parts):
    """The task that got there stops dead; its neighbours stop at their next call."""
    process = Severable()
    switch = KillSwitch(KillPoint.BEFORE_SETTLE, kill=process.sever)
    services = process.services(switch.services(parts.services))
    settled = "tenants/default/runs/run_1"

    async def neighbour() -> None:
        for number in range(100):
            await put(services, f"items/{number}")

    async def work() -> None:
        other = asyncio.create_task(neighbour())
        await services.store.check()
        await services.store.commit([Put(settled, {"status": "succeeded"})])
        await other

    with pytest.raises(ProcessDied):
        await process.run(work())
    assert not await there(parts, settled)
    await asyncio.sleep(0.2)  # what was on its way to the disk as the process died arrives there, as it would
    count = sum([await there(parts, f"items/{number}") for number in range(100)])
    await asyncio.sleep(0.02)
    assert count == sum([await there(parts, f"items/{number}") for number in range(100)]) < 100
    await process.bury()


async def test_cleaning_up_writes_nothing(parts: Parts):
    """Code that on its cancellation settles in a task of its own, as the engine does, gets nowhere with it."""
    process = Severable()
    services = process.services(parts.services)
    tried: list[str] = []

    async def settle() -> None:
        tried.append("settle")
        await put(services, "items/settled")
        tried.append("settled")

    async def work() -> None:
        try:
            await services.clock.sleep(60)
        finally:
            task = asyncio.create_task(settle())
            while not task.done():
                try:
                    await asyncio.wait({task})
                except asyncio.CancelledError:
                    tried.append("insisted")
            await put(services, "items/cleaned")

    running = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    await process.bury()
    assert running.done()
    assert tried[0] == "settle"
    assert "settled" not in tried
    assert not await there(parts, "items/settled")
    assert not await there(parts, "items/cleaned")


async def test_a_task_that_cannot_be_ended_is_named(parts: Parts):
    process = Severable()
    services = process.services(parts.services)

    async def stubborn() -> None:
        await services.store.check()
        while not freed.is_set():
            try:
                await freed.wait()
            except asyncio.CancelledError:
                continue

    freed = asyncio.Event()
    running = asyncio.create_task(stubborn(), name="stubborn")
    await asyncio.sleep(0.05)
    with pytest.raises(RuntimeError, match="stubborn"):
        await process.bury()
    freed.set()
    await running
