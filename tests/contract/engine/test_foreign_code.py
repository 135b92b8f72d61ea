"""What a tool or a model's adapter raises that is no ordinary error: it ends the call, or the run, and no more."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from tests.support.engine import ALICE, Engine, applied, engine, manifest
from tests.support.runs import at_rest, chat, conversation

from goagents.engine import controls
from goagents.errors import RunError
from goagents.messages import TextPart, ToolResultPart
from goagents.store.base import Store
from goagents.telemetry.base import RunFinished, Unexpected
from goagents.testing.models import ScriptedModel
from goagents.testing.tools import StaticToolset, function_tool
from goagents.tools.base import Effect

ENTRY = {"type": "http", "name": "shop", "url": "https://shop.example.com"}
LOOK = {"tool_calls": [{"name": "look", "arguments": {}}]}
Function = Callable[[Mapping[str, Any]], Awaitable[str]]


class Panic(BaseException):
    """What a module in another language may raise."""


async def says_it_was_cancelled(_: Mapping[str, Any]) -> str:
    raise asyncio.CancelledError


async def cancels_itself(_: Mapping[str, Any]) -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    return "unreachable"


async def serving(store: Store, function: Function, effect: Effect, **entry: Any) -> Engine:
    tools = {"shop": StaticToolset([function_tool("look", function, effect=effect)])}
    services = engine(store, ScriptedModel(LOOK, "I could not look."), tools)
    await applied(services, manifest({"tools": [{**ENTRY, **entry}]}))
    return services


@pytest.mark.parametrize("function", [says_it_was_cancelled, cancels_itself])
@pytest.mark.parametrize("effect", ["read", "unsafe"])
@pytest.mark.parametrize("entry", [{}, {"retries": 2}, {"timeout": "5s"}], ids=["plain", "retries", "timeout"])
async def test_a_tool_that_is_cancelled_from_within_has_failed(
    store: Store, function: Function, effect: Effect, entry: Any
):
    calls = 0

    async def counted(arguments: Mapping[str, Any]) -> str:
        nonlocal calls
        calls += 1
        return await function(arguments)

    services = await serving(store, counted, effect, **entry)
    assert (await asyncio.wait_for(chat(services, session="talk"), 60)).message.text == "I could not look."
    (part,) = [p for m in await conversation(services, "talk") for p in m.parts if isinstance(p, ToolResultPart)]
    assert "cancelled from within" in "".join(c.text for c in part.content if isinstance(c, TextPart))
    assert (part.is_error, part.unknown, calls) == (True, effect == "unsafe", 1)
    await at_rest(services, "talk")


@pytest.mark.parametrize("raised", [asyncio.CancelledError(), Panic("lost"), SystemExit(3), KeyboardInterrupt()])
async def test_an_adapter_that_raises_anything_ends_its_run_only(store: Store, raised: BaseException):
    class Breaks(ScriptedModel):
        def stream(self, *_: Any, **__: Any) -> Any:
            raise raised

    services = engine(store, Breaks("never"))
    await applied(services, manifest())
    with pytest.raises(RunError, match="unexpectedly"):
        await asyncio.wait_for(chat(services, session="talk"), 60)
    assert [e.status for e in services.seen if isinstance(e, RunFinished)] == ["failed"]
    assert [type(raised).__name__ in e.error for e in services.seen if isinstance(e, Unexpected)] == [True]
    await at_rest(services, "talk")


async def test_who_cancels_a_run_still_can(store: Store):
    entered = asyncio.Event()

    async def hangs(_: Mapping[str, Any]) -> str:
        entered.set()
        await asyncio.Event().wait()
        return ""

    services = await serving(store, hangs, "read")
    asking = asyncio.create_task(chat(services, session="talk"))
    await asyncio.wait_for(entered.wait(), 60)
    (run_id,) = services.handles
    await controls.cancel(services, ALICE, run_id)
    with pytest.raises(RunError):
        await asking
    assert [e.status for e in services.seen if isinstance(e, RunFinished)] == ["cancelled"]
