"""What code that others wrote returns or raises in a call: the model is told, the log has it, and the run goes on."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.calling import Desk, ServerTool, desk, text_of

from goagents.errors import ConfigurationError
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
