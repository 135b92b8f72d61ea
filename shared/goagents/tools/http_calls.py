"""From a model's arguments to a request: the two kinds of `http` tool that need no OpenAPI document."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from yarl import URL

from goagents.errors import AddressRefused, ToolInvalidArguments, ToolUnavailable
from goagents.net.guarded import place_of
from goagents.tools.base import Effect, ToolDefinition
from goagents.tools.http_url import UrlScope, UrlTemplate, encode_segment, plain, query_pairs

READING_METHODS = frozenset({"GET", "HEAD"})
QUERY_METHODS = frozenset({"GET", "HEAD", "DELETE"})  # their arguments travel in the query: a body has no meaning
JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be sent. `trusted`: to the origin that the declared headers are meant for."""

    method: str
    url: URL
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    trusted: bool = True


class Call(Protocol):
    """One kind of request, with the definition that the model sees."""

    @property
    def definition(self) -> ToolDefinition: ...

    @property
    def place(self) -> str | None:
        """Host and port of every request, before redirects."""
        ...

    def plan(self, arguments: Mapping[str, Any]) -> Plan:
        """Raises ToolInvalidArguments."""
        ...

    def may_follow(self, target: URL) -> None:
        """Raise ToolError where a redirect to `target` is not wanted. (Its address is the guard's affair.)"""
        ...


@dataclass(frozen=True, slots=True)
class UrlCall:
    """Only a `url`: the model chooses method, path below it, query and JSON body."""

    definition: ToolDefinition
    scope: UrlScope
    methods: tuple[str, ...]

    @property
    def place(self) -> str | None:
        return place_of(self.scope.base)

    def plan(self, arguments: Mapping[str, Any]) -> Plan:
        method = arguments.get("method") or _default_method(self.methods)
        if method not in self.methods:
            raise ToolInvalidArguments(f"method: this tool allows {', '.join(self.methods)}")
        url = self.scope.join(arguments.get("path") or "", query_pairs(arguments.get("query") or {}))
        body = arguments.get("body")
        if body is None:
            return Plan(method, url)
        if method in READING_METHODS:
            raise ToolInvalidArguments(f"body: {method} takes none; use `query`")
        return Plan(method, url, {"Content-Type": JSON_TYPE}, json_bytes(body))

    def may_follow(self, target: URL) -> None:
        if not self.scope.holds(target):
            raise AddressRefused(f"the answer redirects to {target.origin()}, outside the tool's url: not followed")


@dataclass(frozen=True, slots=True)
class TypedCall:
    """`parameters` and `method`: one call; what the URL has no place for goes to the query or the JSON body."""

    definition: ToolDefinition
    template: UrlTemplate
    method: str

    @property
    def place(self) -> str | None:
        return self.template.place

    def plan(self, arguments: Mapping[str, Any]) -> Plan:
        missing = [name for name in self.template.names if arguments.get(name) is None]
        if missing:
            raise ToolInvalidArguments(f"{missing[0]}: is needed: it is part of the URL")
        values = {name: self._encoded(name, arguments[name]) for name in self.template.names}
        rest = {name: value for name, value in arguments.items() if name not in values}
        if self.method in QUERY_METHODS:
            return Plan(self.method, self.template.fill(values, query_pairs(rest)))
        url = self.template.fill(values, [])
        if not rest and values:
            return Plan(self.method, url)
        return Plan(self.method, url, {"Content-Type": JSON_TYPE}, json_bytes(rest))

    def _encoded(self, name: str, value: Any) -> str:
        return path_value(value, name) if name in self.template.in_path else quote(plain(value), safe="")

    def may_follow(self, target: URL) -> None:
        """The guard decides alone: the URL is the configuration's, the model has no say in where it leads."""


def url_call(name: str, description: str, url: URL, methods: tuple[str, ...], **common: Any) -> UrlCall:
    """Return the call of a tool with only a `url`. `common`: effect, timeout, max_output."""
    properties: dict[str, Any] = {
        "path": {
            "type": "string",
            "description": "What follows the tool's URL, such as `42` or `42/orders`; leave out for the URL itself.",
        },
        "query": {
            "type": "object",
            "description": "Query parameters; a list repeats its name.",
            "additionalProperties": {"type": ["string", "number", "boolean", "array", "null"]},
        },
    }
    if len(methods) > 1:
        default = _default_method(methods)
        properties["method"] = {"type": "string", "enum": list(methods), "description": f"{default} by default."}
    if not READING_METHODS.issuperset(methods):
        properties["body"] = {"type": ["object", "array"], "description": "Sent as JSON."}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return UrlCall(ToolDefinition(name, description, schema, **common), UrlScope(url), methods)


def typed_call(
    name: str, description: str, url: URL, method: str, parameters: Mapping[str, Any] | None, **common: Any
) -> TypedCall:
    """Return the call of a tool with `method` and `parameters`. Raises ToolUnavailable for an unknown placeholder."""
    schema = dict(parameters or {})
    schema.setdefault("type", "object")
    declared = schema.setdefault("properties", {})
    template = UrlTemplate.of(str(url))
    unknown = [placeholder for placeholder in template.names if placeholder not in declared]
    if unknown:
        raise ToolUnavailable(f"url: `{{{unknown[0]}}}` is no property of the tool's `parameters`")
    required = list(schema.get("required", ()))
    schema["required"] = required + [placeholder for placeholder in template.names if placeholder not in required]
    return TypedCall(ToolDefinition(name, description, schema, **common), template, method)


def default_effect(methods: tuple[str, ...]) -> Effect:
    return "read" if READING_METHODS.issuperset(methods) else "unsafe"


def json_bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def path_value(value: Any, name: str) -> str:
    """Return an argument encoded as one path segment. Raises ToolInvalidArguments for what has no such form."""
    if isinstance(value, list) and value:
        return ",".join(path_value(item, name) for item in value)
    if isinstance(value, dict | list):
        raise ToolInvalidArguments(f"{name}: an object or an empty list cannot be part of a URL's path")
    return encode_segment(plain(value), name)


def header_value(value: Any, name: str) -> str:
    """Return an argument as a header's value. Raises ToolInvalidArguments for one that would break the request."""
    text = ",".join(plain(item) for item in value) if isinstance(value, list) else plain(value)
    if re.search(r"[^\t\x20-\x7e\x80-\xff]", text):
        raise ToolInvalidArguments(f"{name}: a header holds no line breaks and no characters beyond Latin-1")
    return text.strip()


def _default_method(methods: tuple[str, ...]) -> str:
    return "GET" if "GET" in methods else methods[0]
