"""An operation's call: the model's arguments back into path, query, headers and body, as OpenAPI's styles say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from yarl import URL

from goagents.errors import ToolInvalidArguments
from goagents.tools.base import Effect, ToolDefinition
from goagents.tools.http_calls import Plan, header_value, json_bytes, path_value
from goagents.tools.http_url import QueryPairs, UrlTemplate, plain

STYLES = {
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "path": ("simple",),
    "header": ("simple",),
}
_SEPARATORS = {"form": ",", "spaceDelimited": " ", "pipeDelimited": "|"}

In = Literal["path", "query", "header"]
BodyKind = Literal["json", "form", "text"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """`argument` is its name for the model. `as_json`: it travels as JSON text."""

    name: str
    where: In
    argument: str
    style: str
    explode: bool
    as_json: bool
    required: bool
    schema: Any


@dataclass(frozen=True, slots=True)
class RequestBody:
    argument: str
    kind: BodyKind
    media_type: str
    required: bool
    schema: Any


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    method: str
    description: str
    schema: dict[str, Any]
    template: UrlTemplate
    trusted: bool
    parameters: tuple[Parameter, ...]
    body: RequestBody | None
    effect: Effect | None = None  # what the document itself says of it


@dataclass(frozen=True, slots=True)
class OpenApiCall:
    definition: ToolDefinition
    operation: Operation

    @property
    def place(self) -> str | None:
        return self.operation.template.place

    def plan(self, arguments: Mapping[str, Any]) -> Plan:
        operation = self.operation
        segments: dict[str, str] = {}
        query: QueryPairs = []
        headers: dict[str, str] = {}
        for parameter in operation.parameters:
            value = arguments.get(parameter.argument)
            if value is None and parameter.where != "path":
                continue
            if parameter.where == "path":
                segments[parameter.argument] = _segment(parameter, value)
            elif parameter.where == "query":
                query += _query(parameter, value)
            else:
                headers[parameter.name] = header_value(_jsonish(parameter, value), parameter.argument)
        content = self._content(arguments, headers)
        url = operation.template.fill(segments, query)
        return Plan(operation.method, url, headers, content, operation.trusted)

    def may_follow(self, target: URL) -> None:
        """The guard decides alone: the URL is the document's, the model has no say in where it leads."""

    def _content(self, arguments: Mapping[str, Any], headers: dict[str, str]) -> bytes | None:
        body = self.operation.body
        if body is None or body.argument not in arguments:
            return None
        value = arguments[body.argument]
        headers["Content-Type"] = body.media_type
        match body.kind:
            case "json":
                return json_bytes(value)
            case "form":
                return urlencode(_form(value, body.argument)).encode()
            case "text":
                return plain(value).encode()


def _jsonish(parameter: Parameter, value: Any) -> Any:
    return json_bytes(value).decode() if parameter.as_json else value


def _segment(parameter: Parameter, value: Any) -> str:
    if value is None:
        raise ToolInvalidArguments(f"{parameter.argument}: is needed: it is part of the URL")
    value = _jsonish(parameter, value)
    if isinstance(value, dict):
        pairs = [f"{k}={plain(v)}" if parameter.explode else [k, plain(v)] for k, v in value.items()]
        value = pairs if parameter.explode else [item for pair in pairs for item in pair]
    return path_value(value, parameter.argument)


def _query(parameter: Parameter, value: Any) -> QueryPairs:
    value = _jsonish(parameter, value)
    name = parameter.name
    if isinstance(value, dict):
        if parameter.style == "deepObject":
            return [(f"{name}[{key}]", plain(item)) for key, inner in value.items() for item in _many(inner)]
        if parameter.explode:
            return [(key, plain(item)) for key, item in value.items()]
        value = [item for pair in value.items() for item in pair]
    if not isinstance(value, list):
        return [(name, plain(value))]
    if parameter.explode or parameter.style == "deepObject":
        return [(name, plain(item)) for item in value]
    return [(name, _SEPARATORS[parameter.style].join(plain(item) for item in value))]


def _form(value: Any, argument: str) -> QueryPairs:
    """Return a form's pairs: lists repeat their name, objects use brackets (`address[city]`)."""
    if not isinstance(value, dict):
        raise ToolInvalidArguments(f"{argument}: a form is an object of its fields")
    return [pair for key, item in value.items() for pair in _form_field(key, item)]


def _form_field(name: str, value: Any) -> QueryPairs:
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in _form_field(f"{name}[{key}]", item)]
    return [(name, plain(item)) for item in _many(value) if item is not None]


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
