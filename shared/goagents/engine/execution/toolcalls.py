"""Calling tools: validated, timed, bounded. Whatever goes wrong is an error result, never the run's end."""

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from pydantic_core import to_json

from goagents.clock import Clock
from goagents.engine.failures import traceback_of
from goagents.engine.loaded import Toolbox
from goagents.errors import GoAgentsError
from goagents.messages import Content, Message, TextPart, ToolCallPart, ToolResultPart
from goagents.telemetry.base import Telemetry, ToolCallFinished, Unexpected
from goagents.tools.base import Tool, ToolContext, ToolResult, text_result

MAX_PARALLEL = 16
MAX_PROBLEM = 500  # characters of what is wrong with one value


@dataclass(frozen=True, slots=True)
class CallDone:
    call: ToolCallPart
    result: ToolResultPart
    duration: float


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: one run, with what it needs to call tools.

    No call takes longer than until `deadline` (monotonic): then this process has to be done with the run. `begun` holds
    the ids of calls whose result nobody has taken down yet.
    """

    toolbox: Toolbox
    telemetry: Telemetry
    clock: Clock
    run_id: str
    session_id: str
    tenant: str
    cluster: str
    agent: str
    deadline: float = math.inf
    begun: set[str] = field(default_factory=set)

    async def call_all(self, calls: tuple[ToolCallPart, ...], step: int) -> AsyncGenerator[CallDone, None]:
        """Run the calls concurrently and yield each as it ends. Closing the generator cancels those that have not."""
        gate = asyncio.Semaphore(MAX_PARALLEL)
        tasks = [asyncio.create_task(self._gated(gate, call, step)) for call in calls]
        try:
            for next_done in asyncio.as_completed(tasks):
                yield await next_done
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _gated(self, gate: asyncio.Semaphore, call: ToolCallPart, step: int) -> CallDone:
        async with gate:
            self.begun.add(call.id)
            started = self.clock.monotonic()
            outcome, result = await self._call(call, step)
            duration = self.clock.monotonic() - started
        error = _first_text(result)[:500] if result.is_error else None
        self.telemetry.emit(
            ToolCallFinished(self.run_id, self.cluster, self.agent, call.name, duration, outcome, error)
        )
        return CallDone(call, ToolResultPart(call.id, call.name, result.content, result.is_error), duration)

    async def _call(self, call: ToolCallPart, step: int) -> tuple[str, ToolResult]:
        """Return the outcome's name (see ToolCallFinished) and the result."""
        open_tool = self.toolbox.tools.get(call.name)
        if open_tool is None:
            names = ", ".join(self.toolbox.tools) or "none"
            return "unknown_tool", _error(f"There is no tool {call.name!r}. The tools are: {names}.")
        if call.malformed is not None:
            return "invalid_arguments", _error("The arguments are not a JSON object.")
        if problem := open_tool.problem(call.arguments):
            return "invalid_arguments", _error(f"The arguments do not fit the schema: {problem}")
        return await self._guarded(open_tool.tool, call, step)

    async def _guarded(self, tool: Tool, call: ToolCallPart, step: int) -> tuple[str, ToolResult]:
        definition = tool.definition
        seconds = min(definition.timeout, max(0.0, self.deadline - self.clock.monotonic()))
        try:
            async with asyncio.timeout(seconds):
                result = await tool.call(call.arguments, self._context(call, step))
        except TimeoutError:
            doubt = " It may have taken effect all the same." if definition.effect == "unsafe" else ""
            return "timeout", _error(f"The tool gave no answer within {seconds:.3g} s.{doubt}")
        except GoAgentsError as error:
            return "error", bounded(_error(str(error)), definition.max_output)
        except Exception as error:  # noqa: BLE001 - a tool is foreign code: its defect must not end the run
            self.telemetry.emit(Unexpected(f"tool {call.name}", repr(error), traceback_of(error)))
            return "error", _error("The tool failed unexpectedly.")
        return "error" if result.is_error else "ok", bounded(result, definition.max_output)

    def _context(self, call: ToolCallPart, step: int) -> ToolContext:
        key = f"{self.run_id}/{step}/{call.id}"
        return ToolContext(self.run_id, self.session_id, self.tenant, self.agent, call.id, key)


def sound(message: Message) -> Message:
    """Return `message` with those tool calls marked as malformed whose arguments are no JSON that others read.

    The providers' parsers take what nobody else does: thousands of levels, half a surrogate pair, NaN. And some servers
    give several calls the same id, by which results, decisions and keys could not tell them apart: they get their own.
    """
    seen: set[str] = set()
    parts = tuple(_sound(_named(part, seen)) if isinstance(part, ToolCallPart) else part for part in message.parts)
    return message if parts == message.parts else replace(message, parts=parts)


def _named(call: ToolCallPart, seen: set[str]) -> ToolCallPart:
    call_id, number = call.id, 1
    while call_id in seen:
        number += 1
        call_id = f"{call.id}_{number}"
    seen.add(call_id)
    return call if call_id == call.id else replace(call, id=call_id)


def _sound(call: ToolCallPart) -> ToolCallPart:
    try:
        to_json(call.arguments)
        json.dumps(call.arguments, allow_nan=False)
    except ValueError as error:
        return replace(call, arguments={}, malformed=f"({str(error)[:MAX_PROBLEM]})")
    return call


def bounded(result: ToolResult, limit: int) -> ToolResult:
    """Cut text to `limit` bytes of UTF-8 in all, saying so; an image that does not fit becomes a note.

    Half a surrogate pair, which is no UTF-8, becomes a question mark.
    """
    left = limit
    content: list[Content] = []
    for part in result.content:
        text = part.text.encode(errors="replace") if isinstance(part, TextPart) else b""
        size = len(text) if isinstance(part, TextPart) else len(part.data or "")
        if size <= left:
            content.append(TextPart(text.decode()) if isinstance(part, TextPart) else part)
        elif isinstance(part, TextPart):
            kept = text[:left].decode(errors="ignore")
            content.append(TextPart(f"{kept}\n[cut: the first {left} of {size} bytes are shown]"))
        else:
            content.append(TextPart(f"[an image of {size} bytes was left out: over the limit of {limit} bytes]"))
        left = max(0, left - size)
    return ToolResult(tuple(content), result.is_error)


def _error(text: str) -> ToolResult:
    return text_result(text, is_error=True)


def _first_text(result: ToolResult) -> str:
    return next((part.text for part in result.content if isinstance(part, TextPart)), "")
