"""What a toolset offers, looked at before a model is told of it: it may be of a package that nobody here wrote."""

import re
from typing import Any

import jsonschema_rs

from goagents.engine.calling.caching import digest_of
from goagents.engine.loaded import OpenTool
from goagents.errors import ToolUnavailable
from goagents.spec.schema_growth import check_growth
from goagents.spec.tools import ToolSpec
from goagents.tools.base import Tool, ToolDefinition

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EFFECTS = ("read", "idempotent", "unsafe")


def offer(spec: ToolSpec, tools: Any, entry: Any = None) -> dict[str, OpenTool]:
    """Return the tools that the entry `spec` offers, by name. Raises ToolUnavailable for what is no tool.

    `entry` is what the entry comes to at this moment, as JSON, where its answers are cached.
    """
    if isinstance(tools, str | bytes) or not hasattr(tools, "__iter__"):
        raise ToolUnavailable(f"It offers {type(tools).__name__} instead of tools.")
    opened: dict[str, OpenTool] = {}
    for tool in tools:
        definition = _definition(tool)
        if definition.name in opened:
            raise ToolUnavailable(f"It offers two tools of the name {definition.name!r}.")
        digest = digest_of(entry, definition) if spec.cache_ttl is not None else ""
        opened[definition.name] = OpenTool(tool, _compile(definition), spec, digest)
    return opened


def _definition(tool: Tool) -> ToolDefinition:
    definition = getattr(tool, "definition", None)
    if not isinstance(definition, ToolDefinition) or not callable(getattr(tool, "call", None)):
        raise ToolUnavailable(f"It offers {type(tool).__name__}, which is no tool: it lacks a definition, or `call`.")
    wrong = [
        field
        for field, sound in (
            ("name", isinstance(definition.name, str) and _NAME.fullmatch(definition.name)),
            ("description", isinstance(definition.description, str)),
            ("parameters", isinstance(definition.parameters, dict)),
            ("effect", definition.effect in _EFFECTS),
            ("timeout", isinstance(definition.timeout, float | int) and definition.timeout > 0),
            ("max_output", isinstance(definition.max_output, int) and definition.max_output > 0),
        )
        if not sound
    ]
    if wrong:
        shown = str(definition.name)[:64]
        raise ToolUnavailable(f"The definition of its tool {shown!r} is not valid: {', '.join(wrong)}.")
    return definition


def _compile(definition: ToolDefinition) -> Any:
    try:
        check_growth(definition.parameters)
        return jsonschema_rs.validator_for(definition.parameters, offline=True)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        raise ToolUnavailable(f"The schema of the tool {definition.name!r} is not valid: {error}") from error
