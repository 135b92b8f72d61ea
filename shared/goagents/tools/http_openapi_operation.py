"""Reading one operation of an OpenAPI document: everything it takes as the arguments of one JSON Schema."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args
from urllib.parse import quote

from yarl import URL

from goagents.tools.base import Effect
from goagents.tools.http_calls import JSON_TYPE
from goagents.tools.http_openapi_call import STYLES, BodyKind, In, Operation, Parameter, RequestBody
from goagents.tools.http_openapi_document import Document, Unsupported, mapping
from goagents.tools.http_openapi_schema import SchemaConverter, usable
from goagents.tools.http_url import UrlTemplate

FORM_TYPE = "application/x-www-form-urlencoded"
# RFC 9110's own business, or ours: an argument must not forge them. OpenAPI says to ignore the first three.
RESERVED_HEADERS = frozenset(
    {"accept", "content-type", "authorization", "host", "content-length", "transfer-encoding", "connection", "cookie",
     "te", "trailer", "upgrade", "expect", "accept-encoding", "proxy-authorization", "idempotency-key"}
)  # fmt: skip
_FOREIGN = re.compile(r"[^A-Za-z0-9_.-]+")  # Anthropic takes no other letter in an argument's name
_MAX_ARGUMENT = 64
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operation lives. `trusted`: at the server that the declared headers are for."""

    name: str
    method: str
    path: str
    server: URL
    trusted: bool


@dataclass(frozen=True, slots=True)
class Fixed:
    """What the configuration sets already: query parameters, and headers in lower case. The model is not asked."""

    query: frozenset[str]
    headers: frozenset[str]


def read_operation(
    document: Document, place: Place, node: dict[str, Any], item: dict[str, Any], fixed: Fixed
) -> Operation:
    """Return the operation. Raises Unsupported where it needs what cannot be sent, or refers to nothing."""
    converter = SchemaConverter(document)
    parameters = _parameters(document, converter, node, item, fixed)
    path, parameters = _path(place.path, parameters)
    body = _body(document, converter, node, parameters)
    properties = {parameter.argument: parameter.schema for parameter in parameters}
    required = [parameter.argument for parameter in parameters if parameter.required]
    if body is not None:
        properties[body.argument] = body.schema
        required += [body.argument] if body.required else []
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    query = f"?{place.server.raw_query_string}" if place.server.raw_query_string else ""
    text = f"{place.server.origin()}{place.server.raw_path.rstrip('/')}{path}{query}"
    return Operation(
        name=place.name,
        method=place.method,
        description=_description(place, node, item),
        schema=usable(schema),
        template=UrlTemplate.of(text),
        trusted=place.trusted,
        parameters=tuple(parameters),
        body=body,
        effect=_effect(place, node),
    )


def _effect(place: Place, node: Mapping[str, Any]) -> Effect | None:
    """Return what `x-goagents-effect` says, which tool functions do: a document that is trusted with credentials is
    trusted with that."""
    found = node.get("x-goagents-effect")
    return found if place.trusted and found in get_args(Effect) else None


def _description(place: Place, node: Mapping[str, Any], item: Mapping[str, Any]) -> str:
    texts = [str(node[key]).strip() for key in ("summary", "description") if isinstance(node.get(key), str)]
    if not any(texts):
        texts = [str(item[key]).strip() for key in ("summary", "description") if isinstance(item.get(key), str)]
    if len(texts) == 2 and texts[1].startswith(texts[0]):
        texts = texts[1:]
    texts = [text for text in texts if text] or [f"{place.method} {place.path}"]
    note = ["Deprecated."] if node.get("deprecated") is True else []
    return "\n".join(note + texts)


def _parameters(
    document: Document, converter: SchemaConverter, node: dict[str, Any], item: dict[str, Any], fixed: Fixed
) -> list[Parameter]:
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for owner in (item, node):
        given = owner.get("parameters")
        for entry in given if isinstance(given, list) else ():
            parameter = document.resolve(entry)
            name, where = parameter.get("name"), parameter.get("in")
            if not isinstance(name, str) or not isinstance(where, str):
                raise Unsupported("a parameter has no `name` or no `in`")
            merged[(name, where)] = parameter
    result: list[Parameter] = []
    for (name, where), parameter in merged.items():
        if not _is_fixed(name, where, fixed):
            read = _parameter(converter, name, where, parameter)
            if read is not None:
                result.append(read)
    return result


def _is_fixed(name: str, where: str, fixed: Fixed) -> bool:
    if where == "header":
        return name.lower() in RESERVED_HEADERS or name.lower() in fixed.headers
    return where == "query" and name in fixed.query


def _parameter(converter: SchemaConverter, name: str, where: str, node: dict[str, Any]) -> Parameter | None:
    required = node.get("required") is True or where == "path"
    if where not in STYLES or (where == "header" and not _HEADER_NAME.fullmatch(name)):
        if required:
            raise Unsupported(f"it needs the {where} parameter `{name}`, which cannot be sent")
        return None
    style = node.get("style") or ("form" if where == "query" else "simple")
    if style not in STYLES[where]:
        raise Unsupported(f"the parameter `{name}` has the style {style!r}, which is not known")
    content = mapping(node.get("content"))
    schema = node.get("schema", next((mapping(media).get("schema") for media in content.values()), {}))
    return Parameter(
        name=name,
        where=cast("In", where),
        argument=name,
        style=style,
        explode=node["explode"] if isinstance(node.get("explode"), bool) else style == "form",
        as_json=bool(content) and "schema" not in node,
        required=required,
        schema=_described(converter.convert(schema), node.get("description")),
    )


def _with_arguments(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Give every parameter a name for the model: its own where that can be, else one made from it."""
    taken: set[str] = set()
    result = []
    for parameter in parameters:
        name = (_FOREIGN.sub("_", parameter.name).strip("_") or parameter.where)[:_MAX_ARGUMENT]
        candidates = [name, f"{name[:50]}_{parameter.where}", *(f"{name[:50]}_{n}" for n in range(2, 1000))]
        argument = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(argument)
        result.append(replace(parameter, argument=argument))
    return result


def _path(path: str, parameters: list[Parameter]) -> tuple[str, list[Parameter]]:
    """Return the path encoded, its placeholders named by argument. One that is not declared is taken for a string."""
    plain_path, mark, query = path.partition("?")
    by_name = {parameter.name: parameter for parameter in parameters if parameter.where == "path"}
    placeholders = dict.fromkeys(re.findall(r"\{([^{}/]+)\}", plain_path))
    undeclared = [
        Parameter(name, "path", name, "simple", False, False, True, {"type": "string"})
        for name in placeholders
        if name not in by_name
    ]
    kept = [parameter for parameter in parameters if parameter.where != "path" or parameter.name in placeholders]
    parameters = _with_arguments([*kept, *undeclared])
    by_name = {parameter.name: parameter for parameter in parameters if parameter.where == "path"}
    parts = re.split(r"\{([^{}/]+)\}", plain_path)
    encoded = [
        f"%7B{by_name[part].argument}%7D" if index % 2 else quote(part, safe="/%:@!$&'()*+,;=~")
        for index, part in enumerate(parts)
    ]
    return "".join(encoded) + (f"?{quote(query, safe='=&%')}" if mark else ""), parameters


def _body(
    document: Document, converter: SchemaConverter, node: dict[str, Any], parameters: Sequence[Parameter]
) -> RequestBody | None:
    if "requestBody" not in node:
        return None
    body = document.resolve(node["requestBody"])
    content = mapping(body.get("content"))
    if not content:
        return None
    taken = {parameter.argument for parameter in parameters}
    argument = next(name for name in ("body", "request_body", "request_body_2") if name not in taken)
    for kind, media_type in _media_types(content):
        schema = converter.convert(mapping(content[media_type]).get("schema", {}))
        if kind == "text":
            schema = {"type": "string"}
        sent = media_type if "*" not in media_type else JSON_TYPE
        return RequestBody(
            argument, kind, sent, body.get("required") is True, _described(schema, body.get("description"))
        )
    raise Unsupported(f"its body is {', '.join(content)}: only JSON, forms and text can be sent")


def _media_types(content: Mapping[str, Any]) -> list[tuple[BodyKind, str]]:
    """Return what can be sent of it, the best first."""
    found: list[tuple[int, BodyKind, str]] = []
    for media_type in content:
        essence = media_type.partition(";")[0].strip().lower()
        if essence == JSON_TYPE or essence.endswith("+json") or essence in ("*/*", "application/*"):
            found.append((0 if essence == JSON_TYPE else 1, "json", media_type))
        elif essence == FORM_TYPE:
            found.append((2, "form", media_type))
        elif essence.startswith("text/") and "*" not in essence:
            found.append((3, "text", media_type))
    return [(kind, media_type) for _, kind, media_type in sorted(found)]


def _described(schema: Any, description: Any) -> Any:
    if isinstance(schema, dict) and isinstance(description, str) and description.strip():
        return {**schema, "description": description.strip()}
    return schema
