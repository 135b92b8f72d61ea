"""From OpenAPI's schemas to plain JSON Schema (2020-12) that stands alone: references inlined, dialect of 3.0 mended.

A reference to a schema that is being expanded already becomes the schema that allows anything, with a note; so does
what lies beyond the bounds on depth and size. Such a schema is looser than the document's, never stricter.
"""

from typing import Any

import jsonschema_rs

from goagents.tools.http_openapi_document import Document, Unsupported, mapping, strings

_MAX_DEPTH = 24
_MAX_VALUE_DEPTH = 12
_MAX_VALUE_NODES = 1000
_MAX_NODES = 3000  # of one operation: beyond it no model reads on

_PLAIN = frozenset(
    {"type", "enum", "const", "format", "description", "default", "deprecated", "minimum", "maximum",
     "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "minItems", "maxItems",
     "uniqueItems", "minProperties", "maxProperties", "required", "minContains", "maxContains", "dependentRequired",
     "contentEncoding", "contentMediaType"}
)  # fmt: skip
_ONE = frozenset({"additionalProperties", "items", "contains", "propertyNames", "not", "if", "then", "else"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas"})
_NOTES = frozenset({"description", "default", "deprecated"})


class SchemaConverter:
    """Converts the schemas of one operation; its bounds hold for all of them together."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0
        self._expanding: list[str] = []

    def convert(self, node: Any, depth: int = 0) -> Any:
        """Return `node` as JSON Schema. Raises Unsupported for a reference that leads nowhere."""
        self._nodes += 1
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict) or depth > _MAX_DEPTH or self._nodes > _MAX_NODES:
            return {}
        reference = node.get("$ref")
        if isinstance(reference, str):
            return self._referred(reference, node, depth)
        return self._converted(node, depth)

    def _referred(self, reference: str, node: dict[str, Any], depth: int) -> Any:
        if reference in self._expanding:
            return {"description": f"The same shape as the enclosing {reference.rpartition('/')[2]}."}
        self._expanding.append(reference)
        target = self.convert(self._document.target(reference), depth + 1)
        self._expanding.pop()
        if self._document.is_3_0 or len(node) == 1 or not isinstance(target, dict):
            return target  # 3.0 ignores what stands beside a reference
        beside = self._converted({key: value for key, value in node.items() if key != "$ref"}, depth)
        if target.keys().isdisjoint(beside.keys() - _NOTES):
            return {**target, **beside}
        return {"allOf": [target, beside]}

    def _converted(self, node: dict[str, Any], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.items():
            if key == "description" and not isinstance(value, str):
                continue
            if key in _PLAIN and _is_small(value):
                result[key] = value
            elif key in _ONE:
                result[key] = self.convert(value, depth + 1)
            elif key in _LISTS and isinstance(value, list) and value:
                result[key] = [self.convert(item, depth + 1) for item in value]
            elif key in _MAPS and isinstance(value, dict):
                result[key] = {name: self.convert(item, depth + 1) for name, item in value.items()}
        self._drop_read_only(node, result)
        # The dialect of 3.0, which pages that call themselves 3.1 use too (OpenAI's own does).
        _mend_bounds(result)
        return _nullable(result) if node.get("nullable") is True else result

    def _drop_read_only(self, node: dict[str, Any], result: dict[str, Any]) -> None:
        """Take out what only the server writes: every schema here describes what is sent."""
        read_only = [name for name, item in mapping(node.get("properties")).items() if self._is_read_only(item)]
        for name in read_only:
            result["properties"].pop(name, None)
        if read_only and "required" in result:
            result["required"] = [name for name in strings(result["required"]) if name not in read_only]

    def _is_read_only(self, item: Any) -> bool:
        if not isinstance(item, dict):
            return False
        if item.get("readOnly") is True:
            return True
        return isinstance(item.get("$ref"), str) and self._document.resolve(item).get("readOnly") is True


def _is_small(value: Any) -> bool:
    """Say whether a default or an enumeration is of a size worth sending: YAML's aliases can make it endless."""
    level = [value]
    nodes = 0
    for _ in range(_MAX_VALUE_DEPTH):
        nodes += len(level)
        if not level or nodes > _MAX_VALUE_NODES:
            break
        children: list[Any] = []
        for item in level:
            if isinstance(item, dict | list):
                children += item.values() if isinstance(item, dict) else item
                if len(children) > _MAX_VALUE_NODES:
                    return False
        level = children
    return not level and nodes <= _MAX_VALUE_NODES


def _mend_bounds(schema: dict[str, Any]) -> None:
    """In 3.0 `exclusiveMinimum: true` says that `minimum` is excluded; JSON Schema has the number itself there."""
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        flag = schema.get(exclusive)
        if not isinstance(flag, bool):
            continue
        del schema[exclusive]
        if flag and bound in schema:
            schema[exclusive] = schema.pop(bound)


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.get("type")
    if not isinstance(kind, str):
        return schema if not schema.keys() - _NOTES else {"anyOf": [schema, {"type": "null"}]}
    result = {**schema, "type": [kind, "null"]}
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        result["enum"] = [*schema["enum"], None]
    return result


def usable(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema`, or it without patterns and formats where only those keep it from being valid JSON Schema.

    Raises Unsupported where nothing helps.
    """
    if _compiles(schema):
        return schema
    looser = _without(schema, frozenset({"pattern", "format"}))
    if isinstance(looser, dict) and _compiles(looser):
        return looser
    raise Unsupported("its schema is not valid JSON Schema")


def _compiles(schema: dict[str, Any]) -> bool:
    try:
        jsonschema_rs.validator_for(schema, offline=True)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, TypeError, OverflowError):
        return False
    return True


def _without(node: Any, keys: frozenset[str]) -> Any:
    if isinstance(node, list):
        return [_without(item, keys) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _without(value, keys) for key, value in node.items() if key not in keys or not isinstance(value, str)}
