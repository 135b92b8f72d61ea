"""OpenAPI's schemas as JSON Schema: what is valid for one is valid for the other."""

import json
import time
from typing import Any

import jsonschema_rs
import pytest

from goagents.tools.http_openapi_document import Document, Unsupported, parse
from goagents.tools.http_openapi_schema import SchemaConverter, usable


def convert(schema: Any, version: str = "3.0.3", **schemas: Any):
    document = Document({"openapi": version, "components": {"schemas": schemas}})
    found = SchemaConverter(document).convert(schema)
    jsonschema_rs.validator_for(found)
    return found


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "string", "enum": ["a"], "nullable": True}, {"type": ["string", "null"], "enum": ["a", None]}),
        (
            {"allOf": [{"type": "object"}], "nullable": True},
            {"anyOf": [{"allOf": [{"type": "object"}]}, {"type": "null"}]},
        ),
        ({"nullable": True, "description": "any"}, {"description": "any"}),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, {"type": "number", "exclusiveMinimum": 1}),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": False}, {"type": "number", "minimum": 1}),
        ({"type": "number", "maximum": 9, "exclusiveMaximum": True}, {"type": "number", "exclusiveMaximum": 9}),
        ({"type": "string", "example": "x", "xml": {}, "x-go": 1, "externalDocs": {}}, {"type": "string"}),
        ({"oneOf": [{"type": "string"}], "discriminator": {"propertyName": "t"}}, {"oneOf": [{"type": "string"}]}),
    ],
)
def test_the_dialect_of_3_0(schema: Any, expected: Any):
    assert convert(schema) == expected


def test_3_1_is_json_schema_already():
    schema = {"type": ["string", "null"], "exclusiveMinimum": 3, "const": 1, "prefixItems": [{"type": "string"}]}
    assert convert(schema, "3.1.0") == schema


def test_pages_of_3_1_with_the_dialect_of_3_0_are_mended():
    schema = {
        "type": "number",
        "minimum": 0,
        "exclusiveMinimum": True,
        "nullable": True,
        "description": {"$ref": "#/x"},
    }
    assert convert(schema, "3.1.0") == {"type": ["number", "null"], "exclusiveMinimum": 0}


def test_references_are_inlined():
    found = convert(
        {"$ref": "#/components/schemas/A"},
        A={"type": "array", "items": {"$ref": "#/components/schemas/B"}},
        B={"type": "string"},
    )
    assert found == {"type": "array", "items": {"type": "string"}}


def test_all_of_stays_valid():
    found = convert(
        {"allOf": [{"$ref": "#/components/schemas/A"}, {"type": "object", "required": ["b"]}]},
        A={"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "nullable": True}}},
    )
    validator = jsonschema_rs.validator_for(found)
    assert validator.is_valid({"a": None, "b": 1})
    assert not validator.is_valid({"a": 1})
    assert not validator.is_valid({"a": "x", "b": 1})


def test_what_stands_beside_a_reference_counts_in_3_1_only():
    schema = {"$ref": "#/components/schemas/A", "description": "mine", "maxLength": 3}
    assert convert(schema, A={"type": "string"}) == {"type": "string"}
    assert convert(schema, "3.1.0", A={"type": "string"}) == {"type": "string", "description": "mine", "maxLength": 3}
    clash = convert(schema, "3.1.0", A={"type": "string", "maxLength": 9})
    assert not jsonschema_rs.validator_for(clash).is_valid("four")


def test_cycles_end_in_a_schema_that_allows_anything():
    tree = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
        },
    }
    found = convert({"$ref": "#/components/schemas/Tree"}, Tree=tree)
    assert found["properties"]["children"]["items"] == {"description": "The same shape as the enclosing Tree."}
    assert jsonschema_rs.validator_for(found).is_valid({"children": [{"children": [{"name": 1}]}]})


def test_only_what_is_sent_is_asked_for():
    found = convert(
        {
            "type": "object",
            "required": ["id", "name"],
            "properties": {
                "id": {"readOnly": True, "type": "string"},
                "name": {"type": "string"},
                "made": {"$ref": "#/components/schemas/Made"},
            },
        },
        Made={"type": "string", "readOnly": True},
    )
    assert found == {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


def test_size_is_bounded():
    schemas = {
        f"S{n}": {
            "type": "object",
            "properties": {f"p{i}": {"$ref": f"#/components/schemas/S{n + 1}"} for i in range(10)},
        }
        for n in range(12)
    } | {"S12": {"type": "string"}}
    began = time.monotonic()
    found = convert({"$ref": "#/components/schemas/S0"}, **schemas)
    assert time.monotonic() - began < 2
    assert len(json.dumps(found)) < 500_000


@pytest.mark.parametrize("where", ["default", "enum", "const", "required", "type"])
def test_values_made_endless_by_aliases_are_dropped(where: str):
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    document = parse("\n".join([*lines, "openapi: 3.0.3", "cyclic: &c {self: *c}"]).encode())
    for value in (document.root["a19"], document.root["cyclic"]):
        assert SchemaConverter(document).convert({"description": "d", where: value}) == {"description": "d"}


def test_a_pattern_of_another_dialect_is_dropped():
    schema = {"type": "object", "properties": {"pattern": {"type": "string", "pattern": "(?<=a", "format": "odd"}}}
    assert usable(schema) == {"type": "object", "properties": {"pattern": {"type": "string"}}}


@pytest.mark.parametrize("schema", [{"type": "file"}, {"properties": {"a": {"required": "yes"}}}, {"minLength": "3"}])
def test_an_invalid_schema_is_unsupported(schema: Any):
    with pytest.raises(Unsupported, match="not valid JSON Schema"):
        usable(schema)
