"""What a server offers: its tools and resources listed page by page, and the tools as the engine knows them."""

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp import MCPError
from mcp.client import Client
from pydantic import ValidationError

from goagents.errors import ToolUnavailable
from goagents.spec.tools import McpToolSpec, object_schema
from goagents.tools.base import Effect, ToolDefinition
from goagents.tools.naming import unique_names

_log = logging.getLogger(__name__)
MAX_TOOLS = 128  # what the providers take
READ_RESOURCE = "read_resource"
_MAX_PAGES = 1000
_MAX_LISTED = 10_000  # tools on a server
_MAX_DESCRIPTION = 4096
_MAX_SCHEMA = 64 << 10  # characters
_MAX_RESOURCES = 50  # named in the description of the tool that reads them
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server said it has. `resources` describes them in lines; None where it has none."""

    tools: tuple[types.Tool, ...]
    resources: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A tool on offer: its definition, and the server's own name for it (None for reading resources)."""

    definition: ToolDefinition
    remote: str | None


async def list_offer(client: Client) -> Offer:
    """Return all tools and what there is to know of the resources.

    Raises MCPError, and ToolUnavailable for a list without end. A server that fails to list its resources has none.
    """
    capabilities = client.server_capabilities
    tools = await _list_tools(client) if capabilities.tools is not None else ()
    resources = None
    if capabilities.resources is not None:
        try:
            resources = await _list_resources(client)
        except (MCPError, ValidationError) as error:
            _log.warning("an MCP server cannot list its resources: %s", str(error).partition("\n")[0][:200])
    return Offer(tools, resources)


async def _list_tools(client: Client) -> tuple[types.Tool, ...]:
    found: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await client.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor) if cursor else None)
        found += page.tools
        cursor = page.next_cursor
        if not cursor:
            return tuple(found)
        if len(found) > _MAX_LISTED:
            break
    raise ToolUnavailable(f"its list of tools does not end within {_MAX_LISTED} tools and {_MAX_PAGES} pages")


async def _list_resources(client: Client) -> str | None:
    resources = await client.session.list_resources()
    lines = [_described(resource.uri, resource) for resource in resources.resources]
    more = bool(resources.next_cursor)
    try:
        templates = await client.session.list_resource_templates()
        lines += [_described(template.uri_template, template) for template in templates.resource_templates]
    except MCPError:
        pass  # older servers know no templates
    if len(lines) > _MAX_RESOURCES or more:
        lines = [*lines[:_MAX_RESOURCES], "… and more"]
    return "\n".join(lines) or None


def _described(uri: str, about: types.Resource | types.ResourceTemplate) -> str:
    text = f"- {uri[:300]} ({(about.title or about.name)[:100]})"
    return f"{text}: {about.description[:200]}" if about.description else text


def entries(spec: McpToolSpec, offer: Offer) -> list[Entry]:
    """Return the tools that `include` and `exclude` leave. Raises ToolUnavailable where none remains, or too many."""
    _warn_of_unknown(spec, offer)
    kept, left_out = [], []
    for tool in offer.tools:
        if not _chosen(spec, tool.name):
            continue
        reason = _unusable(tool)
        if reason is None:
            kept.append(tool)
        else:
            left_out.append(f"{tool.name}: {reason}")
            _log.warning("tool %s: the server's tool %s is left out: %s", spec.name, tool.name[:128], reason)
    reads = offer.resources is not None and _chosen(spec, READ_RESOURCE)
    if not kept and not reads:
        named = "; ".join(left_out[:_MAX_NAMED])
        raise ToolUnavailable(f"no tool remains ({named or 'the server has none, or include and exclude leave none'})")
    if len(kept) + reads > MAX_TOOLS:
        raise ToolUnavailable(f"it has {len(kept) + reads} tools; choose at most {MAX_TOOLS} with `include`")
    prefix = f"{spec.name}_" if spec.prefix is None else spec.prefix
    wanted = [f"{prefix}{tool.name}" for tool in kept] + ([f"{spec.name}_{READ_RESOURCE}"] if reads else [])
    names = unique_names(wanted)
    found = [Entry(_definition(spec, name, tool), tool.name) for name, tool in zip(names, kept, strict=False)]
    return [*found, Entry(_reader(spec, names[-1], offer.resources or ""), None)] if reads else found


def _chosen(spec: McpToolSpec, name: str) -> bool:
    return (spec.include is None or name in spec.include) and name not in spec.exclude


def _warn_of_unknown(spec: McpToolSpec, offer: Offer) -> None:
    known = {tool.name for tool in offer.tools} | {READ_RESOURCE}
    for name in (*(spec.include or ()), *spec.exclude):
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            _log.warning("tool %s: the server has no tool %r%s", spec.name, name, hint)


def _unusable(tool: types.Tool) -> str | None:
    """Return why the model cannot be offered this tool, or None."""
    if tool.execution is not None and tool.execution.task_support == "required":
        return "it can only be called as a task, which is not in this version"
    if len(repr(tool.input_schema)) > _MAX_SCHEMA:
        return f"its schema is longer than {_MAX_SCHEMA >> 10} KiB"
    reason = _problem(_schema(tool))
    return None if reason is None else f"its schema {reason}"[:300]


def _problem(schema: dict[str, Any]) -> str | None:
    try:
        object_schema(schema)
    except (ValueError, RecursionError) as error:
        return str(error)
    return None


def _schema(tool: types.Tool) -> dict[str, Any]:
    """Return the schema with `properties`, which providers want and servers leave out where there are none, and without
    a `$schema` that nobody knows."""
    properties = tool.input_schema.get("properties")
    whole = {"type": "object", **tool.input_schema, "properties": {} if properties is None else properties}
    if "$schema" not in whole or _problem(whole) is None:
        return whole
    return {name: value for name, value in whole.items() if name != "$schema"}


def _definition(spec: McpToolSpec, name: str, tool: types.Tool) -> ToolDefinition:
    about = tool.description or tool.title or (tool.annotations.title if tool.annotations else None) or tool.name
    description = f"{spec.description}\n{about}" if spec.description else about
    return ToolDefinition(
        name,
        description[:_MAX_DESCRIPTION],
        _schema(tool),
        effect=spec.effect or annotated_effect(tool.annotations),
        timeout=spec.timeout,
        max_output=spec.max_output,
    )


def annotated_effect(annotations: types.ToolAnnotations | None) -> Effect:
    """Return the effect that a server claims; without a claim, a call may do harm when repeated."""
    if annotations is None:
        return "unsafe"
    if annotations.read_only_hint:
        return "read"
    return "idempotent" if annotations.idempotent_hint else "unsafe"


def _reader(spec: McpToolSpec, name: str, resources: str) -> ToolDefinition:
    about = f"Reads a resource of {spec.name} by its URI. Where a URI has {{placeholders}}, fill them in.\n{resources}"
    return ToolDefinition(
        name,
        (f"{spec.description}\n{about}" if spec.description else about)[: 2 * _MAX_DESCRIPTION],
        {
            "type": "object",
            "properties": {"uri": {"type": "string", "description": "The resource's URI.", "maxLength": 4096}},
            "required": ["uri"],
            "additionalProperties": False,
        },
        effect=spec.effect or "read",
        timeout=spec.timeout,
        max_output=spec.max_output,
    )


def meta_of(effect: Effect, key: str) -> Mapping[str, Any] | None:
    """Return what a call carries besides its arguments: the key that makes a repeated one recognisable."""
    return None if effect == "read" else {"dev.goagents/idempotencyKey": key}
