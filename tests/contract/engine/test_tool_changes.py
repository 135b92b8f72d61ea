"""Tools that change, fail or go while they are in use: calls go on, all are closed in the end, and status knows."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from tests.support.engine import ALICE
from tests.support.opening import Server, bench, entry, fine
from tests.support.runs import PATHS

from goagents.app import retire_services
from goagents.engine import clusters, runs
from goagents.engine.execution.opening import MOST, RETRY_AFTER
from goagents.engine.execution.toolbox import PATIENCE
from goagents.errors import StoreUnavailable, ToolUnavailable
from goagents.resources import ChatRequest
from goagents.store.base import Merge, Store
from goagents.testing.stores import PassingStore
from goagents.testing.tools import StaticToolset, function_tool
from goagents.tools.base import Tool


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_run_that_opens_tools_of_a_cluster_that_is_gone_leaves_none_open(store: Store, deleted: bool):
    """The cluster was admitted before, and is no more by the time its provider is made."""
    up, made = StaticToolset([function_tool("look", fine)]), asyncio.Event()
    async with bench(store, up=up) as at:
        await at.apply([entry("up")])
        (known,) = at.services.specs.values()
        get, asked = at.services.providers.get, asyncio.Event()

        async def slowly(name: str) -> Any:
            asked.set()
            await made.wait()
            return await get(name)

        at.services.providers.get = slowly  # type: ignore[method-assign]
        handle = await runs.start(at.services, ALICE, "support.a", ChatRequest(message="hi"), kind="chat")
        await asked.wait()
        if deleted:
            gone = asyncio.create_task(clusters.delete_cluster(at.services, ALICE, "default", "support"))
        else:
            gone = asyncio.create_task(at.apply([entry("up")], []))
        while at.services.specs.get(PATHS.cluster("default", "support")) is known:
            await at.clock.settle()
        made.set()
        ended = asyncio.create_task(handle.finished())
        await at.clock.run_until(lambda: gone.done() and ended.done())
        while at.services.closing:
            await asyncio.wait(set(at.services.closing))
        assert (up.opened, up.closed) == (1, True)


class Lingers(Server):
    """Its opening takes a while to end when told to: a program has to be stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.told, self.may_end, self.clean = asyncio.Event(), asyncio.Event(), False

    async def open(self) -> Sequence[Tool]:
        try:
            return await super().open()
        finally:
            self.told.set()
            await self.may_end.wait()
            self.clean = True


async def test_a_process_that_ends_waits_for_what_is_closed_behind_an_opening(store: Store):
    slow = Lingers()
    async with bench(store, slow=slow) as at:
        await at.apply([entry("slow")])
        assert await at.offered() == (pytest.approx(MOST), [])
        await slow.told.wait()
        closing = asyncio.create_task(retire_services(at.services))
        await at.clock.settle()
        assert (closing.done(), slow.clean, slow.closed) == (False, False, False)
        slow.may_end.set()
        await closing
        assert (slow.clean, slow.closed) == (True, True)


class Toolsets(PassingStore):
    """Lists what is asked of it about the state of tools; what is written of it waits until it `may`."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.asked: list[str] = []
        self.may = asyncio.Event()
        self.may.set()

    async def around(self, method: Any, subject: Any, call: Callable[[], Any]) -> Any:
        paths = [each if isinstance(each, str) else each.path for each in subject] if method != "query" else []
        if any("/toolsets/" in path for path in paths):
            self.asked.append(method)
            if method == "commit":
                await self.may.wait()
        return await super().around(method, subject, call)


async def test_the_first_state_that_a_process_finds_is_told_where_the_store_has_another(store: Store):
    """Else all that ask a process which has not opened the tool hear for good what the first one found."""
    told: list[list[str]] = []
    for failure in ("no way", "no way", None, None):
        seen = Toolsets(store)
        async with bench(seen, look=StaticToolset([function_tool("look", fine)], failure)) as at:
            if not told:
                await at.apply([entry("look")])
            assert await at.offered() == (0, [] if failure else ["look"])
        told.append(seen.asked)
        async with bench(store, look=StaticToolset([])) as other:
            shown = [(tool.status, tool.detail) for tool in await other.status()]
            assert shown == [("unavailable", failure) if failure else ("available", None)]
    assert told == [["get_many", "commit"], ["get_many"], ["get_many", "commit"], ["get_many"]]


async def test_a_run_does_not_wait_for_the_store_to_know_the_state_of_its_tools(store: Store):
    slow = Toolsets(store)
    slow.may.clear()
    async with bench(slow, down=StaticToolset([], "refused"), up=StaticToolset([function_tool("look", fine)])) as at:
        await at.apply([entry("down"), entry("up")])
        async with asyncio.timeout(30):
            assert await at.ask() == 0
        assert [tool.name for tool in at.model.requests[-1].tools] == ["look"]
        slow.may.set()


class Away(PassingStore):
    """A store that does not answer where the state of tools is."""

    async def around(self, method: Any, subject: Any, call: Callable[[], Any]) -> Any:
        if method == "commit" and any("/toolsets/" in write.path for write in subject if isinstance(write, Merge)):
            raise StoreUnavailable("away")
        return await super().around(method, subject, call)


async def test_a_state_that_cannot_be_kept_is_known_to_this_process(store: Store, caplog: pytest.LogCaptureFixture):
    async with bench(Away(store), down=StaticToolset([], "refused")) as at:
        await at.apply([entry("down")])
        assert await at.offered() == (0, [])
        assert [tool.detail for tool in await at.status()] == ["refused"]
    assert "the state of tool down is told to this process alone: away" in caplog.text


class Changing(StaticToolset):
    """A toolset that is open and has other tools now; it can list them when it is `up`, and else fails or `hangs`."""

    def __init__(self, tools: Sequence[Tool], *, hangs: bool) -> None:
        super().__init__(tools)
        self.hangs, self.up, self.stale = hangs, True, False

    async def open(self) -> Sequence[Tool]:
        self.opened += 1
        if not self.up:
            await asyncio.sleep(600 if self.hangs else 0)
            raise ToolUnavailable("busy right now")
        self.stale = False
        return self.tools


@pytest.mark.parametrize("hangs", [False, True])
async def test_what_cannot_list_its_tools_anew_keeps_them_and_the_calls_of_others(
    store: Store, hangs: bool, caplog: pytest.LogCaptureFixture
):
    asked, paid = asyncio.Event(), asyncio.Event()

    async def pay(_: Mapping[str, Any]) -> str:
        asked.set()
        await paid.wait()
        return "it is paid"

    shop = Changing([function_tool("pay", pay, effect="unsafe", timeout=300.0)], hangs=hangs)
    async with bench(store, [{"tool_calls": [{"name": "pay", "arguments": {}}]}], shop=shop) as at:
        await at.apply([entry("shop")])
        first = at.ask()
        await asked.wait()
        shop.stale, shop.up = True, False
        assert await at.offered() == (pytest.approx(MOST if hangs else 0), ["pay"])
        assert await at.offered() == (0, ["pay"]), "it is not asked again before its time"
        assert (shop.opened, shop.closed) == (2, False)
        assert [(tool.status, tool.detail) for tool in await at.status()] == [("available", None)]
        await at.clock.advance(RETRY_AFTER)
        assert await at.offered() == (pytest.approx(PATIENCE if hangs else 0), ["pay"]), "nobody waits for it twice"
        paid.set()
        await at.waited(first)
        assert "it is paid" in str(at.model.requests[-1].messages)
        assert "its tools are as they were, as listing them anew failed" in caplog.text
        await at.clock.advance(MOST + RETRY_AFTER)
        shop.up, shop.tools = True, [*shop.tools, function_tool("look", fine)]
        assert await at.offered() == (0, ["pay", "look"])


async def test_of_two_entries_with_a_tool_of_one_name_the_earlier_has_it_whichever_opens_first(store: Store):
    first, second = Server("same"), StaticToolset([function_tool("same", fine)])
    async with bench(store, first=first, second=second) as at:
        await at.apply([entry("first"), entry("second")])
        await at.asked_until_last(first)
        assert [tool.name for tool in at.model.requests[-1].tools] == ["same"]
        (cluster,) = at.services.specs.values()
        assert cluster.toolboxes["a"].tools["same"].spec.name == "first"
        shown = [(tool.status, tool.detail) for tool in await at.status()]
        assert shown == [("available", None), ("unavailable", "Another tool of this agent has the same name: same.")]
        assert not second.closed, "a run that has its tools may be calling them"
    assert second.closed
