"""The `python` tool: a typed Python function, called in the server's own process.

    from goagents.tools.python import ToolContext, ToolError, tool

    @tool(effect="read")
    async def find_order(number: str, context: ToolContext) -> Order:
        '''One order by its number.'''

The decorator is not needed: any typed function with a docstring can be named. See docs/tools.md.
"""

import asyncio
import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from goagents import errors
from goagents.errors import ToolFailed, ToolInvalidArguments, ToolUnavailable
from goagents.messages import ImagePart, TextPart
from goagents.spec.functions import places
from goagents.spec.tools import PythonToolSpec
from goagents.tools.base import Tool, ToolContext, ToolDefinition, ToolEnvironment, ToolResult, Toolset
from goagents.tools.python_faults import ToolError, fault_of
from goagents.tools.python_function import Function, read_function, tool
from goagents.tools.python_result import read, render
from goagents.tools.python_target import find_target
from goagents.tools.threads import Threads, import_apart

__all__ = ["ImagePart", "TextPart", "ToolContext", "ToolError", "ToolResult", "build", "tool"]


def build(spec: PythonToolSpec, environment: ToolEnvironment) -> Toolset:
    """Return the toolset of one `type: python` entry."""
    return PythonToolset(spec, environment)


class PythonToolset:
    """One function as one tool. Nothing is imported before it is opened."""

    def __init__(self, spec: PythonToolSpec, environment: ToolEnvironment) -> None:
        self._spec = spec
        self._environment = environment
        self._threads = Threads(spec.threads, spec.name)

    async def open(self) -> Sequence[Tool]:
        """Return the tool. Raises ToolUnavailable: the module is not there or fails, the function cannot be a tool."""
        spec, environment = self._spec, self._environment
        if not environment.trusted and spec.target not in environment.allowed_python:
            raise ToolUnavailable(
                f"{spec.name}: {spec.target} is not on the server's `allow.python` list; a cluster received over HTTP "
                "needs it there"
            )
        for folder in environment.python_path:
            if folder not in sys.path:
                sys.path.append(folder)  # behind what is installed, which it cannot take the place of
        function = await import_apart(spec.target.partition(":")[0], self._read)
        return [PythonTool(self._definition(function), function, self._threads)]

    async def aclose(self) -> None:
        """Nothing to end: a thread cannot be stopped, and one that is still in a call ends with the call."""

    def _read(self) -> Function:
        return read_function(find_target(self._spec.name, self._spec.target), self._spec.name, self._spec.description)

    def _definition(self, function: Function) -> ToolDefinition:
        spec = self._spec
        return ToolDefinition(
            spec.name,
            self._environment.resolve(spec.description) if spec.description else function.description,
            function.schema,
            effect=spec.effect or function.effect,
            timeout=spec.timeout,
            max_output=spec.max_output,
        )


@dataclass(frozen=True, slots=True)
class PythonTool:
    definition: ToolDefinition
    function: Function
    threads: Threads

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Call the function. Raises ToolError; of any other exception the model gets the name, the log the rest:
        it is in the error's `defect`."""
        try:
            given = self.function.parameters.validated(arguments)
        except ValidationError as error:
            wrong = "; ".join(f"{place.path}: {place.message}" for place in places(error, arguments))
            raise ToolInvalidArguments(f"The arguments do not fit: {wrong}") from None
        keywords = self.function.parameters.keywords(given, context)
        try:
            return render(await self._called(keywords))
        except errors.ToolError:
            raise
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise ToolFailed("The function was cancelled from within.") from None
        except (Exception, SystemExit) as error:  # a function may raise anything
            fault = fault_of(error)
            text = f"The function raised {type(error).__name__}{', which may pass' if fault else ''}."
            failed = ToolFailed(f"{text} The server's log has the details.")
            raise failed.because(fault).of_defect(error) from error

    async def _called(self, keywords: Mapping[str, Any]) -> Any:
        if self.function.is_async:
            return await self.function.call(**keywords)
        result = await self.threads.run(lambda: read(self.function.call(**keywords)))
        return await result if inspect.iscoroutine(result) else result
