"""What code that others wrote returns or raises in a call: the model is told, the log has it, and the run goes on."""

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.calling import Desk, ServerTool, desk, text_of

from goagents.engine.calling.foreign import answer_within
from goagents.errors import ConfigurationError, ToolFailed
from goagents.messages import ImagePart, TextPart
from goagents.telemetry.base import Unexpected
from goagents.tools.base import ToolContext, ToolResult

FAILED = "The tool failed unexpectedly."


class Foreign(ServerTool):
    """A tool that does what the test gives it: returns it, raises it, or calls it."""

    gives: Any = None
    leads: Any = None

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        await asyncio.sleep(0)
        return _given(self.gives)

    def destination(self, arguments: Mapping[str, Any]) -> Any:
        return _given(self.leads)


def _given(value: Any) -> Any:
    if isinstance(value, BaseException):
        raise value
    return value


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Desk]:
    made = desk(tmp_path, {"KEY": "sesame-opens"}, headers={"Authorization": "Bearer ${KEY}"})
    yield made
    await made.around.store.aclose()


def foreign(at: Desk, gives: Any = None, leads: Any = None, **definition: Any) -> Foreign:
    made = Foreign(at.tool(**definition).definition, [])
    made.gives, made.leads = gives, leads
    return made


def defects(at: Desk) -> list[Unexpected]:
    return [event for event in at.seen if isinstance(event, Unexpected)]


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (None, "NoneType, which is no ToolResult"),
        ("a text", "returned str"),
        ({"content": []}, "returned dict"),
        (ToolResult("a text"), "content of the tool's result is str"),  # type: ignore[arg-type]
        (ToolResult(("a text",)), "holds str"),  # type: ignore[arg-type]
        (ToolResult((TextPart(5),)), "holds TextPart"),  # type: ignore[arg-type]
        (ToolResult((ImagePart("image/png", b"raw"),)), "holds ImagePart"),  # type: ignore[arg-type]
        (ToolResult((), retry_after="soon"), "`retry_after`"),  # type: ignore[arg-type]
        (ToolResult((), fault="mine"), "`fault`"),  # type: ignore[arg-type]
    ],
)
async def test_what_is_no_result_is_a_failure_of_the_tool(at: Desk, returned: Any, told: str):
    done = await at.call(foreign(at, returned))
    assert (done.outcome, done.result.is_error, text_of(done)) == ("error", True, FAILED)
    (defect,) = defects(at)
    assert told in defect.error


class Odd(BaseException):
    """As some test libraries and cancel scopes have them."""


class Unspeakable(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "raised",
    [
        SystemExit(1),
        KeyboardInterrupt(),
        Odd("odd"),
        StopAsyncIteration(),
        Unspeakable(),
        RuntimeError("with sesame-opens"),
    ],
)
async def test_whatever_is_raised_ends_the_call_alone(at: Desk, raised: BaseException):
    done = await at.call(foreign(at, raised))
    assert (done.outcome, text_of(done)) == ("error", FAILED)
    (defect,) = defects(at)
    assert type(raised).__name__ in defect.error
    assert "Traceback" in defect.traceback
    assert "sesame-opens" not in defect.error + defect.traceback


async def test_a_destination_may_fail_too(at: Desk):
    for leads, text in (
        (RuntimeError("no idea"), FAILED),
        (5, FAILED),
        (ConfigurationError("the variable HOST is not set"), "the variable HOST is not set"),
    ):
        tool = foreign(at, ToolResult((TextPart("fine"),)), leads, effect="unsafe")
        done = await at.call(tool)
        assert (done.outcome, done.unknown, text_of(done)) == ("error", False, text)
    assert at.begun == set(), "nothing was called"
    assert [type(defect).__name__ for defect in defects(at)] == ["Unexpected"] * 2


async def test_our_own_cancellation_is_no_defect_of_the_tool(at: Desk):
    tool = at.tool("late")
    tool.hold = asyncio.Event()
    call = asyncio.create_task(at.call(tool))
    while not tool.keys:  # noqa: ASYNC110 - what is waited for is the call
        await asyncio.sleep(0)
    inner = next(task for task in asyncio.all_tasks() if "Passage.make" in str(task.get_coro()))
    inner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert defects(at) == []


async def test_arguments_that_a_tool_changes_are_its_own(tmp_path: Path):
    at = desk(tmp_path, retries=1)
    given: list[Any] = []

    class Changes(ServerTool):
        async def call(self, arguments: Any, context: ToolContext) -> ToolResult:
            given.append(copy.deepcopy(arguments))
            arguments["where"]["city"] = "elsewhere"
            arguments.clear()
            return await super().call(arguments, context)

    tool = Changes(at.tool().definition, [ToolFailed("down").because("server"), "found"], clock=at.clock)
    where = {"city": "here"}
    assert text_of(await at.call(tool, where=where)) == "found"
    assert (given, where) == ([{"where": {"city": "here"}}] * 2, {"city": "here"})
    await at.around.store.aclose()


@pytest.mark.parametrize("effect", ["read", "unsafe"])
async def test_a_call_that_does_not_end_is_left_behind(at: Desk, effect: str, caplog: pytest.LogCaptureFixture):
    released = asyncio.Event()

    class Stays(ServerTool):
        async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
            while not released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await released.wait()
            raise RuntimeError("nobody hears it")

    done = await asyncio.wait_for(at.call(Stays(at.tool(timeout=0.05, effect=effect).definition, [])), 60)
    assert text_of(done).startswith("The tool gave no answer within 0.05 s.")
    assert (done.outcome, done.unknown) == ("timeout", effect == "unsafe")
    assert (len(at.around.state.left), "a call of a tool goes on" in caplog.text) == (1, True)
    released.set()
    await asyncio.wait(at.around.state.left)
    assert not at.around.state.left


async def test_who_cancels_a_call_waits_for_it_to_tidy_up():
    ended: list[str] = []
    entered = asyncio.Event()

    async def tidies() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            ended.append("tidy")

    call = asyncio.create_task(answer_within(60, tidies(), set()))
    await asyncio.wait_for(entered.wait(), 60)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended == ["tidy"]
