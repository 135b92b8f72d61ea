"""The adapter of `type: acme`: two tools. Loaded when a cluster uses one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acme_tools import AcmeToolSpec
from goagents.tools.base import Tool, ToolContext, ToolDefinition, ToolEnvironment, ToolResult, Toolset, text_result

_WHO = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}


def build(spec: AcmeToolSpec, environment: ToolEnvironment) -> Toolset:
    return Counter(spec, environment)


class Counter:
    def __init__(self, spec: AcmeToolSpec, environment: ToolEnvironment) -> None:
        self._spec = spec
        self._environment = environment

    async def open(self) -> Sequence[Tool]:
        greeting = self._environment.resolve(self._spec.greeting)
        ring = "Ding! " * self._spec.bell.rings
        return [Says(f"{self._spec.name}_greet", greeting), Says(f"{self._spec.name}_ring", ring + greeting)]

    async def aclose(self) -> None:
        return None


@dataclass(frozen=True)
class Says:
    name: str
    text: str

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(self.name, "Greets a customer.", _WHO, effect="read")

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        return text_result(f"{self.text}, {arguments['who']}!")
