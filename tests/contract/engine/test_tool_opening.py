"""Opening tools: whatever an entry does, it costs its own tools, and every run the stated time at most."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.engine import ALICE, Engine, applied, engine, manifest
from tests.support.runs import PATHS

from goagents.app import TOOLSETS, ResolverFactory, load_by_name, retire_services
from goagents.engine import clusters, controls, runs
from goagents.engine.calling import foreign
from goagents.engine.execution.opening import LEAST, MOST, RETRY_AFTER
from goagents.engine.execution.toolbox import PATIENCE
from goagents.errors import ConfigurationError, RunCancelled, StoreUnavailable, ToolUnavailable
from goagents.resources import ChatRequest, ToolStatus
from goagents.spec.tools import PythonToolSpec, ToolSpec
from goagents.store.base import Merge, Store
from goagents.telemetry.base import ToolsetFailed, Unexpected
from goagents.testing.clocks import VirtualClock
from goagents.testing.models import ScriptedModel
from goagents.testing.stores import PassingStore
from goagents.testing.tools import StaticToolset, StaticToolsets, function_tool
from goagents.tools.base import Tool, Toolset
from goagents.tools.registry import ToolsetRegistry

SECRET = "sesame-opens"


async def fine(_: Mapping[str, Any]) -> str:
    return "fine"


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "http", "name": name, "url": "https://x.example", "headers": {"X-Key": "${KEY}"}, **more}


class Server(StaticToolset):
    """A toolset whose server accepts and says nothing, until `up`; then it offers one tool."""

    def __init__(self, name: str = "slow") -> None:
        super().__init__([function_tool(name, fine)])
        self.up, self.asked = asyncio.Event(), asyncio.Event()
        self.ended = 0

    async def open(self) -> Sequence[Tool]:
        self.opened += 1
        self.asked.set()
        try:
            await self.up.wait()
        finally:
            self.ended += 1
        return self.tools


class Bench:
    """One process whose time the test moves, with a cluster of the agents `a`, `b`, …"""

    def __init__(self, store: Store, toolsets: Mapping[str, Toolset], script: Sequence[Any]) -> None:
        self.clock = VirtualClock(datetime.now(UTC))
        self.model = ScriptedModel(*script, *["hello"] * 20)
        self.services: Engine = engine(self.clock.watch(store), self.model, toolsets, environ={"KEY": SECRET})
        self.services.clock = self.clock

    async def apply(self, *agents: Sequence[Mapping[str, Any]], **more: Any) -> None:
        named = [{"name": name, "tools": list(tools)} for name, tools in zip("abc", agents, strict=False)]
        await applied(self.services, manifest(*named, max_concurrent_agents=20, **more))

    def ask(self, agent: str = "a") -> "asyncio.Task[float]":
        """Begin a run; the task gives the (virtual) seconds it took."""

        async def run() -> float:
            began = self.clock.monotonic()
            handle = await runs.start(self.services, ALICE, f"support.{agent}", ChatRequest(message="hi"), kind="chat")
            assert (await handle.result()).message.text == "hello"
            return self.clock.monotonic() - began

        return asyncio.create_task(run())

    async def waited(self, *asked: "asyncio.Task[float]") -> list[float]:
        await self.clock.run_until(lambda: all(task.done() for task in asked))
        return [task.result() for task in asked]

    async def offered(self, agent: str = "a") -> tuple[float, list[str]]:
        """Make a run; return the seconds it took and the tools that its model was offered."""
        (seconds,) = await self.waited(self.ask(agent))
        return seconds, [tool.name for tool in self.model.requests[-1].tools]

    async def status(self, agent: int = 0) -> list[ToolStatus]:
        return (await clusters.get_cluster(self.services, ALICE, "default", "support")).agents[agent].tools


@asynccontextmanager
async def bench(store: Store, script: Sequence[Any] = (), **toolsets: Toolset) -> AsyncGenerator[Bench, None]:
    """`script` is what the model says before it says hello."""
    made = Bench(store, toolsets, script)
    yield made
    retiring = asyncio.create_task(retire_services(made.services))
    await made.clock.run_until(retiring.done)
    await retiring
    assert all(cluster.openings == {} for cluster in made.services.specs.values())


async def test_a_server_that_never_answers_is_waited_for_once_and_by_its_own_agent(store: Store):
    down, up = Server(), StaticToolset([function_tool("look", fine)])
    async with bench(store, down=down, up=up) as at:
        await at.apply([entry("down"), entry("up")], [entry("up")])
        several = [at.ask() for _ in range(5)]
        await at.clock.settle()
        assert await at.offered("b") == (0, ["look"])
        assert await at.waited(*several) == pytest.approx([MOST] * 5)
        assert down.opened == 1
        shown = {tool.name: (tool.status, tool.detail) for tool in await at.status()}
        assert shown == {"down": ("unavailable", "It did not open within 20 s."), "up": ("available", None)}
        assert await at.offered() == (0, ["look"]), "what failed is not waited for again"
        assert [event.error for event in at.services.seen if isinstance(event, ToolsetFailed)] == [shown["down"][1]]


async def test_what_failed_is_tried_again_in_the_background(store: Store):
    server = Server()
    async with bench(store, down=server) as at:
        await at.apply([entry("down", timeout="10s")])
        assert await at.offered() == (pytest.approx(10), [])
        await at.clock.advance(RETRY_AFTER)
        first, second = at.ask(), at.ask()
        assert sorted(await at.waited(first, second)) == pytest.approx([0, PATIENCE])
        assert server.opened == 2
        assert [tool.detail for tool in await at.status()] == ["It did not open within 10 s."]
        server.up.set()
        await at.clock.settle()
        assert [tool.status for tool in await at.status()] == ["available"], (
            "the opening outlived the run that began it"
        )
        assert await at.offered() == (0, ["slow"])
        assert server.opened == 2


async def test_a_server_that_is_back_at_once_serves_the_run_that_notices(store: Store):
    down = StaticToolset([function_tool("look", fine)], "connection refused")
    async with bench(store, down=down) as at:
        await at.apply([entry("down")])
        assert await at.offered() == (0, [])
        down.failure = None
        assert await at.offered() == (0, []), "not before its time"
        await at.clock.advance(RETRY_AFTER)
        assert await at.offered() == (0, ["look"])


@pytest.mark.parametrize(("given", "seconds"), [("100ms", LEAST), ("7s", 7.0), ("5m", MOST)])
async def test_an_opening_has_the_timeout_of_its_entry_within_bounds(store: Store, given: str, seconds: float):
    """The least is for programs to start and packages to load; a call needs neither."""
    async with bench(store, down=Server()) as at:
        await at.apply([entry("down", timeout=given)])
        assert await at.offered() == (pytest.approx(seconds), [])


async def test_who_waits_may_go_away(store: Store):
    server = Server()
    async with bench(store, slow=server) as at:
        await at.apply([entry("slow")])
        first = at.ask()
        await server.asked.wait()
        (run_id,) = at.services.handles
        second = at.ask()
        await at.clock.settle()
        await controls.cancel(at.services, ALICE, run_id)
        with pytest.raises(RunCancelled):
            await first
        assert server.ended == 0
        server.up.set()
        assert await at.waited(second) == [0]
        assert (server.opened, [tool.name for tool in at.model.requests[-1].tools]) == (1, ["slow"])


async def test_a_cluster_that_goes_ends_what_is_being_opened(store: Store):
    server = Server()
    async with bench(store, slow=server) as at:
        await at.apply([entry("slow")])
        assert (await at.offered())[1] == []
        await at.clock.advance(RETRY_AFTER)
        await at.offered()
        (cluster,) = at.services.specs.values()
        assert (server.opened, server.ended, len(cluster.openings)) == (2, 1, 1)
        await at.apply([entry("slow")], [])
        while at.services.closing:
            await asyncio.wait(set(at.services.closing))
        assert (server.ended, server.closed, cluster.openings, cluster.toolboxes) == (2, True, {}, {})
        server.up.set()
        assert await at.offered() == (0, ["slow"]), "the new generation has its own"


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


class Deaf(Server):
    """It does not end when told to, and is open in the end."""

    async def open(self) -> Sequence[Tool]:
        self.opened += 1
        while not self.up.is_set():
            try:
                await self.up.wait()
            except asyncio.CancelledError:
                self.ended += 1
        return self.tools


async def test_an_opening_that_does_not_hear_keeps_nobody_waiting_and_is_closed(store: Store):
    deaf = Deaf()
    async with bench(store, deaf=deaf) as at:
        await at.apply([entry("deaf")])
        assert await at.offered() == (pytest.approx(MOST), [])
        await at.clock.advance(RETRY_AFTER)
        assert await at.offered() == (0, []), "while it is at it, nothing else is begun"
        assert (deaf.opened, deaf.ended, deaf.closed) == (1, 1, False)
        deaf.up.set()
        await at.clock.settle()
        assert deaf.closed


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


class Gives(StaticToolset):
    """A toolset that does in `open` what the test gives it."""

    def __init__(self, given: Any) -> None:
        super().__init__([])
        self.given = given

    async def open(self) -> Any:
        self.opened += 1
        if isinstance(self.given, BaseException):
            raise self.given
        return self.given


class Odd(BaseException):
    pass


class Mute(ToolUnavailable):
    def __str__(self) -> str:
        raise RuntimeError("in str")


LOG = "when it was opened; the server's log has the details."


@pytest.mark.parametrize(
    ("given", "detail", "logged"),
    [
        (RuntimeError(f"401 for {SECRET}"), f"It raised RuntimeError {LOG}", True),
        (SystemExit(1), f"It raised SystemExit {LOG}", True),
        (KeyboardInterrupt(), f"It raised KeyboardInterrupt {LOG}", True),
        (asyncio.CancelledError(), f"It raised CancelledError {LOG}", True),
        (Odd(), f"It raised Odd {LOG}", True),
        (ConfigurationError("the variable DESC is not set"), "the variable DESC is not set", False),
        (ToolUnavailable(f"{SECRET} is wrong"), "[redacted] is wrong", False),
        (TimeoutError(), "It gave no answer in time.", False),
        (Mute("x"), "It raised Mute, whose text raised RuntimeError.", False),
        (None, "It offers NoneType instead of tools.", False),
        ("look", "It offers str instead of tools.", False),
        ([None], "It offers NoneType, which is no tool: it lacks a definition, or `call`.", False),
        (
            [function_tool("look", fine), function_tool("look", fine)],
            "It offers two tools of the name 'look'.",
            False,
        ),
        (
            [function_tool("l o o k", fine, effect="some", timeout="1s", max_output=0)],
            "The definition of its tool 'l o o k' is not valid: name, effect, timeout, max_output.",
            False,
        ),
    ],
)
async def test_whatever_an_entry_does_when_it_is_opened_costs_its_own_tools(
    store: Store, given: Any, detail: str, logged: bool
):
    odd, up = Gives(given), StaticToolset([function_tool("fine", fine)])
    async with bench(store, odd=odd, up=up) as at:
        await at.apply([entry("odd"), entry("up")])
        assert await at.offered() == (0, ["fine"])
        assert [(tool.status, tool.detail) for tool in await at.status()] == [
            ("unavailable", detail),
            ("available", None),
        ]
        assert (odd.closed, up.closed) == (True, False)
        told = [event for event in at.services.seen if isinstance(event, Unexpected)]
        assert [event.where for event in told] == (["opening tool odd"] if logged else [])
        assert all(SECRET not in event.error + event.traceback for event in told)
        assert all("Traceback" in event.traceback for event in told)


class Builds(StaticToolsets):
    """Makes of an entry what the test gives it."""

    def __init__(self, made: Any) -> None:
        super().__init__({})
        self.made = made

    def check(self, spec: ToolSpec) -> None:
        pass

    def build(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


class NotAsync:
    def open(self) -> list[Tool]:
        return []


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (RuntimeError("no"), "RuntimeError"),
        (None, "AttributeError"),
        (NotAsync(), "TypeError"),
    ],
)
async def test_what_cannot_be_built_is_unavailable_too(store: Store, made: Any, kind: str):
    async with bench(store) as at:
        at.services.toolsets = Builds(made)
        await at.apply([entry("odd")])
        assert await at.offered() == (0, [])
        (tool,) = await at.status()
        assert (tool.status, tool.detail) == ("unavailable", f"It raised {kind} {LOG}")


async def test_a_variable_that_is_not_set_makes_a_python_tool_unavailable(store: Store):
    async with bench(store) as at:
        services = at.services
        resolvers = ResolverFactory(services.config, {})
        services.toolsets = ToolsetRegistry(services.config, resolvers, TOOLSETS, load_by_name)
        tool = PythonToolSpec(type="python", name="id", target="goagents.ids:new_id", description="${DESC}")
        await at.apply([tool.model_dump(mode="json", exclude_unset=True)])
        await at.waited(at.ask())
        (shown,) = await at.status()
        assert shown.status == "unavailable"
        assert "DESC" in str(shown.detail)


class Closes(StaticToolset):
    """A toolset that cannot be closed, or asked whether it is stale."""

    @property
    def stale(self) -> bool:
        raise RuntimeError("asked")

    async def aclose(self) -> None:
        self.closed = True
        raise RuntimeError("closing")


async def test_what_raises_while_it_is_closed_keeps_nothing_else_open(store: Store):
    broken, sound = Closes([]), StaticToolset([function_tool("fine", fine)])
    async with bench(store, broken=broken, sound=sound) as at:
        await at.apply([entry("broken"), entry("sound")])
        assert (await at.offered())[1] == ["fine"]
        assert (await at.offered())[1] == ["fine"]
    assert (broken.closed, sound.closed) == (True, True)
    told = [(event.where, event.error) for event in at.services.seen if isinstance(event, Unexpected)]
    assert told == [
        ("asking whether tool broken has changed", "RuntimeError('asked')"),
        ("closing tool broken", "RuntimeError('closing')"),
    ]


class Stays(StaticToolset):
    """A toolset whose closing does not end."""

    async def aclose(self) -> None:
        await asyncio.Event().wait()


async def test_what_does_not_close_is_left_after_a_while(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(foreign, "CLOSING", 0.05)
    stays, sound = Stays([]), StaticToolset([function_tool("fine", fine)])
    async with bench(store, stays=stays, sound=sound) as at:
        await at.apply([entry("stays"), entry("sound")])
        assert (await at.offered())[1] == ["fine"]
    assert sound.closed
    assert [event.where for event in at.services.seen if isinstance(event, Unexpected)] == ["closing tool stays"]


async def test_tools_are_offered_in_the_order_of_the_file_whichever_opens_first(store: Store):
    """A prompt that begins alike in every process is what providers' caches hold."""
    first, second = Server("first"), StaticToolset([function_tool("second", fine)])
    async with bench(store, first=first, second=second) as at:
        await at.apply([entry("first"), entry("second")])
        asked = at.ask()
        await first.asked.wait()
        await at.clock.settle()
        first.up.set()
        await at.waited(asked)
        assert [tool.name for tool in at.model.requests[-1].tools] == ["first", "second"]


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
