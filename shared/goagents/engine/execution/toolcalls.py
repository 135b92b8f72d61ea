"""Calling the tools of a step: concurrently, each with valid arguments. What is around one call: `engine/calling`.

Whatever goes wrong is an error result, never the run's end.
"""

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from pydantic_core import to_json

from goagents.clock import Clock
from goagents.engine.calling.pipeline import IN_DOUBT, Passage
from goagents.engine.calling.results import Done
from goagents.engine.loaded import Toolbox
from goagents.messages import Message, TextPart, ToolCallPart, ToolResultPart
from goagents.telemetry.base import Telemetry, ToolCallFinished
from goagents.tools.base import ToolContext, ToolResult, text_result

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
        gate, over = asyncio.Semaphore(MAX_PARALLEL), asyncio.Event()
        tasks = [asyncio.create_task(self._gated(gate, over, call, step)) for call in calls]
        try:
            for next_done in asyncio.as_completed(tasks):
                yield await next_done
        finally:
            over.set()
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _gated(self, gate: asyncio.Semaphore, over: asyncio.Event, call: ToolCallPart, step: int) -> CallDone:
        async with gate:
            started = self.clock.monotonic()
            try:
                done = await self._call(call, step)
            except asyncio.CancelledError:
                if over.is_set():
                    raise
                done = self._cancelled_from_within(call)
            duration = self.clock.monotonic() - started
        result, tool = done.result, self.toolbox.tools.get(call.name)
        self.telemetry.emit(
            ToolCallFinished(
                self.run_id,
                self.cluster,
                self.agent,
                call.name,
                duration,
                done.outcome,
                _first_text(result)[:500] if result.is_error else None,
                attempts=done.attempts,
                cache=done.cache,
            )
        )
        foreign = done.foreign and tool is not None and tool.spec.frame
        part = ToolResultPart(call.id, call.name, result.content, result.is_error, done.unknown, foreign)
        return CallDone(call, part, duration)

    async def _call(self, call: ToolCallPart, step: int) -> Done:
        open_tool = self.toolbox.tools.get(call.name)
        if open_tool is None:
            names = ", ".join(self.toolbox.tools) or "none"
            return _wrong("unknown_tool", f"There is no tool {call.name!r}. The tools are: {names}.")
        if call.malformed is not None:
            return _wrong("invalid_arguments", "The arguments are not a JSON object.")
        if problem := open_tool.problem(call.arguments):
            return _wrong("invalid_arguments", f"The arguments do not fit the schema: {problem}")
        if self.toolbox.around is None:
            raise AssertionError("a toolbox with tools has what is around their calls")
        context = self._context(call, step)
        return await Passage(self.toolbox.around, open_tool, call, context, self.deadline, self.begun).make()

    def _cancelled_from_within(self, call: ToolCallPart) -> Done:
        """A tool that cancels its own task, or says it was cancelled, failed: going on elsewhere would repeat it."""
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
        tool = self.toolbox.tools.get(call.name)
        unknown = call.id in self.begun and tool is not None and tool.tool.definition.effect == "unsafe"
        text = "The tool was cancelled from within."
        return Done("error", text_result(f"{text} {IN_DOUBT}" if unknown else text, is_error=True), unknown=unknown)

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


def _wrong(outcome: str, text: str) -> Done:
    return Done(outcome, text_result(text, is_error=True), attempts=0)


def _first_text(result: ToolResult) -> str:
    return next((part.text for part in result.content if isinstance(part, TextPart)), "")
