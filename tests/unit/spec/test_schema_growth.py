"""Schemas whose check would take for ever, and those that only look so."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from goagents.engine.execution.offer import offer
from goagents.errors import ToolUnavailable
from goagents.spec.schema_growth import check_growth
from goagents.spec.tools import HttpToolSpec
from goagents.testing.tools import function_tool

ENTRY = {"type": "http", "name": "t", "url": "https://x.example", "method": "POST"}
NODE = {"$ref": "#/$defs/n"}


def doubling(levels: int, keyword: str = "allOf", pointer: str = "#/$defs/") -> dict[str, Any]:
    links = {f"d{i}": {keyword: [{"$ref": f"{pointer}d{i + 1}"}] * 2} for i in range(levels)}
    last = {f"d{levels}": {"type": "string"}}
    return {"type": "object", "properties": {"x": {"$ref": f"{pointer}d0"}}, "$defs": links | last}


def recursive(node: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "$defs": {"n": node}, **NODE}


@pytest.mark.parametrize(
    "schema",
    [
        doubling(45),
        doubling(45, "anyOf"),
        doubling(45, "oneOf"),
        doubling(45, pointer="#/%24defs/"),
        {
            "type": "object",
            "properties": {"x": {"$ref": "#d0"}},
            "$defs": {f"d{i}": {"$anchor": f"d{i}", "allOf": [{"$ref": f"#d{i + 1}"}] * 2} for i in range(40)}
            | {"last": {"$anchor": "d40"}},
        },
        recursive({"allOf": [{"properties": {"a": NODE}}, {"properties": {"a": NODE}}]}),
        recursive({"allOf": [{"patternProperties": {"^a": NODE}}, {"additionalProperties": NODE}]}),
        recursive({"patternProperties": {"^a": NODE, "^.": NODE}}),
        recursive({"if": {"items": NODE}, "then": {"items": NODE}}),
        recursive({"items": NODE, "contains": NODE}),
    ],
)
def test_what_grows_without_bound_is_refused_at_once(schema: dict[str, Any]):
    with pytest.raises(ValueError, match="its references lead to more than 10,000 schemas"):
        check_growth(schema)
    with pytest.raises(ValidationError, match="its references lead to more"):
        HttpToolSpec.model_validate({**ENTRY, "parameters": schema})


@pytest.mark.parametrize(
    "schema",
    [
        doubling(10),
        {"type": "object", "properties": {f"p{i}": {"allOf": [{"type": "string"}] * 10} for i in range(2000)}},
        recursive({"properties": {"left": NODE, "right": NODE}}),
        recursive({"properties": {"child": NODE}, "additionalProperties": NODE}),
        recursive({"patternProperties": {"^c": NODE}, "additionalProperties": NODE}),
        recursive({"prefixItems": [NODE], "items": NODE}),
        {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#/properties/a"}}},
        {
            "type": "object",
            "properties": {"list": {"items": [{"type": "string"}]}, "x": {"$ref": "#/properties/list/items/0"}},
        },
        {"type": "object", "properties": {"s": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}},
        {"type": "object", "properties": {"a~b/c": {"type": "string"}, "x": {"$ref": "#/properties/a~0b~1c"}}},
    ],
)
def test_what_does_not_is_taken(schema: dict[str, Any]):
    check_growth(schema)


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (recursive(NODE), "leads back to itself"),
        (recursive({"allOf": [NODE]}), "leads back to itself"),
        (doubling(5000), "nested too deeply"),
        ({"type": "object", "properties": {"x": {"$ref": "#/$defs/nowhere"}}}, "'#/\\$defs/nowhere' leads nowhere"),
        ({"type": "object", "properties": {"x": {"$ref": "other.json"}}}, "'other.json' leads nowhere"),
    ],
)
def test_what_leads_nowhere_or_nowhere_else_is_refused(schema: dict[str, Any], problem: str):
    with pytest.raises(ValueError, match=problem):
        check_growth(schema)


def test_a_server_that_offers_such_a_tool_costs_nothing_but_it():
    async def never(_: Mapping[str, Any]) -> str:
        raise AssertionError

    with pytest.raises(ToolUnavailable, match="the tool 'look' is not valid: its references lead to more"):
        offer(
            HttpToolSpec.model_validate({**ENTRY, "parameters": {"type": "object"}}),
            [function_tool("look", never, doubling(45))],
        )
