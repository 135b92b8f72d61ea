"""Tools for tests: Python functions behind the tool port, counting their calls."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from goagents.errors import ToolUnavailable
from goagents.spec.tools import ToolSpec
from goagents.tools.base import Tool, ToolContext, ToolDefinition, ToolResult, Toolset, text_result

Function = Callable[[Mapping[str, Any]], Awaitable[ToolResult | str]]
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


@dataclass
class FunctionTool:
    """A tool that awaits `function(arguments)`; `calls` keeps the arguments and context of each call."""

    definition: ToolDefinition
    function: Function
    calls: list[tuple[dict[str, Any], ToolContext]] = field(default_factory=list)

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        self.calls.append((dict(arguments), context))
        result = await self.function(arguments)
        return text_result(result) if isinstance(result, str) else result


def function_tool(
    name: str, function: Function, parameters: Mapping[str, Any] = ANY_OBJECT, **definition: Any
) -> FunctionTool:
    """Make a tool of a coroutine function; `definition` takes the other fields of `ToolDefinition`."""
    return FunctionTool(ToolDefinition(name, f"The test tool {name}.", dict(parameters), **definition), function)


@dataclass
class StaticToolset:
    """A toolset that offers `tools`, or fails to open with `failure`."""

    tools: Sequence[Tool]
    failure: str | None = None
    opened: int = 0
    closed: bool = False

    async def open(self) -> Sequence[Tool]:
        self.opened += 1
        if self.failure is not None:
            raise ToolUnavailable(self.failure)
        return self.tools

    async def aclose(self) -> None:
        self.closed = True


class StaticToolsets:
    """The engine's toolsets, by the name of the entry under `tools:`."""

    def __init__(self, toolsets: Mapping[str, Toolset]) -> None:
        self.toolsets = dict(toolsets)

    def check(self, spec: ToolSpec) -> None:
        if spec.name not in self.toolsets:
            raise ToolUnavailable(f"The test has no toolset {spec.name!r}.")

    def build(
        self,
        spec: ToolSpec,
        *,
        trusted: bool,  # noqa: ARG002 - the port's signature
        allowed_hosts: tuple[str, ...] | None = None,  # noqa: ARG002
        tenant: str = "default",  # noqa: ARG002
    ) -> Toolset:
        self.check(spec)
        return self.toolsets[spec.name]
