"""The OpenAPI page of a toolkit: one operation for each tool, as the `http` tool with `openapi:` reads it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from .declaring import Declared

EFFECT = "x-goagents-effect"
_TEMPLATE = "#/components/schemas/{model}"
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "What is wrong (RFC 9457).",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
                "required": ["path", "message"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "code"],
}
_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same for a call and its repetitions: they have the first one's result.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_ANSWERS = {"default": {"$ref": "#/components/responses/Problem"}}


def openapi_page(tools: Sequence[Declared], *, title: str, description: str, version: str, by_key: bool) -> bytes:
    """Return the page as JSON. A tool has one operation: GET where its arguments fit into a query, else POST."""
    schemas, definitions = _schemas(tools)
    components: dict[str, Any] = {
        "schemas": definitions,
        "responses": {
            "Problem": {"description": "An error.", "content": _content(_PROBLEM, "application/problem+json")}
        },
    }
    page: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, **({"description": description} if description else {})},
        "servers": [{"url": "."}],  # where this page is
        "paths": {f"/{tool.name}": _path(tool, schemas, definitions) for tool in tools},
        "components": components,
    }
    if by_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        page["security"] = [{"key": []}]
    return json.dumps(page, ensure_ascii=False, separators=(",", ":")).encode()


Schemas = Mapping[tuple[str, JsonSchemaMode], Any]


def _schemas(tools: Sequence[Declared]) -> tuple[Schemas, dict[str, Any]]:
    """Return the schemas of arguments and results, and the definitions they share."""
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = []
    for tool in tools:
        inputs.append((tool.name, "validation", TypeAdapter(tool.parameters.model)))
        inputs.append((tool.name, "serialization", tool.result))
    schemas, rest = TypeAdapter.json_schemas(inputs, ref_template=_TEMPLATE)
    return schemas, rest.get("$defs", {})


def _path(tool: Declared, schemas: Schemas, definitions: dict[str, Any]) -> dict[str, Any]:
    arguments = schemas[tool.name, "validation"]
    answer = {"description": "The result.", "content": _content(schemas[tool.name, "serialization"])}
    operation: dict[str, Any] = {
        "operationId": tool.name,
        "description": tool.description,
        EFFECT: tool.effect,
        "responses": {"200": answer, **_ANSWERS},
    }
    whole = _resolved(arguments, definitions)
    if tool.query is not None:
        operation["parameters"] = _parameters(whole)
        return {"get": operation}
    if tool.effect == "idempotent":
        operation["parameters"] = [_KEY]
    if tool.parameters.names:
        operation["requestBody"] = {"required": bool(whole.get("required")), "content": _content(arguments)}
    return {"post": operation}


def _parameters(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    required = arguments.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in arguments.get("properties", {}).items()
    ]


def _resolved(schema: Any, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref", "")
    found: Mapping[str, Any] = definitions[reference.rpartition("/")[2]] if reference else schema
    return found


def _content(schema: Any, media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": schema}}
