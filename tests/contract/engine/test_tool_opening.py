"""Opening tools: whatever an entry does, it costs its own tools, and every run the stated time at most."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.support.engine import ALICE
from tests.support.opening import SECRET, Server, bench, entry, fine

from goagents.app import TOOLSETS, ResolverFactory, load_by_name
from goagents.engine import controls
from goagents.engine.calling import foreign
from goagents.engine.execution.opening import LEAST, MOST, RETRY_AFTER
from goagents.engine.execution.toolbox import PATIENCE
from goagents.errors import ConfigurationError, RunCancelled, ToolUnavailable
from goagents.spec.tools import PythonToolSpec, ToolSpec
from goagents.store.base import Store
from goagents.telemetry.base import ToolsetFailed, Unexpected
from goagents.testing.tools import StaticToolset, StaticToolsets, function_tool
from goagents.tools.base import Tool
from goagents.tools.registry import ToolsetRegistry


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
        await at.asked_until_last(first)
        assert [tool.name for tool in at.model.requests[-1].tools] == ["first", "second"]
