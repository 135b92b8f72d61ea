"""Tools are code that others wrote: whatever it raises or returns costs its own call or opening, and nothing else."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from goagents.engine.failures import traceback_of
from goagents.messages import ImagePart, TextPart
from goagents.telemetry.base import Unexpected
from goagents.tools.base import ToolResult, Toolset

from .surroundings import Surroundings

CLOSING = 30.0  # seconds that a toolset has to close
ENDING = 1.0  # seconds that a call has to end once it is told to
MAX_ERROR = 1000  # characters
MAX_TRACEBACK = 20_000
_FAULTS = (None, "server", "busy")

_log = logging.getLogger("goagents.engine")
Left = set["asyncio.Task[Any]"]


class NoAnswer(Exception):
    """A call did not end in its time."""


def is_ours(error: BaseException) -> bool:
    """Whether `error` means that somebody ends the task at work, and goes on; all else is what foreign code raised.

    That includes SystemExit and KeyboardInterrupt: `sys.exit()` in a tool must not end a process that serves others,
    and Ctrl+C does not come as an exception where a server, or asyncio's runner, takes the signal.
    """
    return isinstance(error, GeneratorExit) or (isinstance(error, asyncio.CancelledError) and being_cancelled())


def being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def tell_defect(around: Surroundings, tool: str, where: str, defect: BaseException) -> None:
    """Tell the log what foreign code raised, without the secrets that the entry `tool` could know."""
    redactor = around.secrets.redactor(tool)
    error, trace = redactor.beginning(_shown(defect), MAX_ERROR), redactor.ending(traceback_of(defect), MAX_TRACEBACK)
    around.telemetry.emit(Unexpected(where, error, trace))


def _shown(defect: BaseException) -> str:
    try:
        return repr(defect)
    except Exception as worse:  # noqa: BLE001 - its own `__repr__` is foreign code, too
        return f"{type(defect).__name__} (its repr raised {type(worse).__name__})"


async def answer_within(seconds: float, call: Coroutine[Any, Any, Any], left: Left) -> Any:
    """Return what `call` returns or raise what it raises, of whatever kind. Raises NoAnswer.

    It is made in a task of its own: one that goes on though it is told to end is in `left` until it does, and nobody
    waits for it.
    """
    work = asyncio.create_task(_outcome(call))
    try:
        await asyncio.wait({work}, timeout=seconds)
    except asyncio.CancelledError:
        await _end(work, left)
        raise
    if not work.done():
        await _end(work, left)
        raise NoAnswer
    result, error = work.result()
    if error is not None:
        raise error
    return result


async def _outcome(call: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """What a task raises may end the event loop: it is handed over instead."""
    try:
        return await call, None
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - raised again by who waits
        return None, error


async def _end(work: "asyncio.Task[Any]", left: Left) -> None:
    work.cancel()
    left.add(work)
    work.add_done_callback(left.discard)
    await asyncio.wait({work}, timeout=ENDING)
    if not work.done():
        _log.warning("a call of a tool goes on, though it was told to end; %d of them do", len(left))


async def close_toolset(around: Surroundings, tool: str, toolset: Toolset) -> None:
    """Close it within CLOSING, whatever it does. Raises nothing but our own cancellation."""
    try:
        async with asyncio.timeout(CLOSING):
            await toolset.aclose()
    except BaseException as error:
        if is_ours(error):
            raise
        tell_defect(around, tool, f"closing tool {tool}", error)


def checked(result: Any) -> ToolResult:
    """Return `result` as it is. Raises TypeError where it is no ToolResult, or one that could not be recorded."""
    if not isinstance(result, ToolResult):
        raise TypeError(f"the tool returned {type(result).__name__}, which is no ToolResult")
    if not isinstance(result.content, tuple | list):
        raise TypeError(f"the content of the tool's result is {type(result.content).__name__}, which is no tuple")
    for part in result.content:
        if not (_is_text(part) or _is_image(part)):
            raise TypeError(f"the tool's result holds {type(part).__name__}, which is no sound TextPart or ImagePart")
    if result.fault not in _FAULTS or not isinstance(result.retry_after, float | int | None):
        raise TypeError("the `fault` or `retry_after` of the tool's result is of the wrong type")
    return result


def _is_text(part: object) -> bool:
    return isinstance(part, TextPart) and isinstance(part.text, str)


def _is_image(part: object) -> bool:
    return isinstance(part, ImagePart) and all(
        isinstance(value, str | None) for value in (part.media_type, part.data, part.url)
    )
