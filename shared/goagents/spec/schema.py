"""The JSON Schema of the whole format, made from the models, for editors and for checks before a deployment."""

from typing import Any

from pydantic import TypeAdapter

from .cluster import AgentCluster
from .config import Config

SCHEMA_ID = "https://goagents.dev/schemas/v1.json"
_REFERENCE = {"type": "string", "pattern": r"\$\{", "description": "A reference such as `${VAR}` or `${VAR:-default}`."}
_RESOLVED = frozenset({"provider", "model"})  # of a cluster: resolved when a file is read


def json_schema() -> dict[str, Any]:
    """Return the schema of one document: configuration, an AgentCluster, or both together."""
    config = _schema(Config)
    cluster = _schema(AgentCluster)
    definitions = _referable(config.pop("$defs", {})) | cluster.pop("$defs", {})
    for name in ("AgentSpec", "Fallback"):
        for field in _RESOLVED:
            definitions[name]["properties"][field] = _or_reference(definitions[name]["properties"][field])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "GoAgents configuration",
        "description": "Configuration of the server, an AgentCluster, or both in one document.",
        "type": "object",
        "properties": _nullable(config["properties"]) | cluster["properties"],
        "additionalProperties": False,
        "dependentRequired": dict.fromkeys(cluster["properties"], cluster["required"]),
        "$defs": definitions,
    }


def _schema(model: Any) -> dict[str, Any]:
    return TypeAdapter(model).json_schema(mode="validation", by_alias=True)


def _nullable(sections: dict[str, Any]) -> dict[str, Any]:
    """A section whose content is commented out is null."""
    return {name: {"anyOf": [schema, {"type": "null"}]} | _title(schema) for name, schema in sections.items()}


def _title(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": schema["description"]} if "description" in schema else {}


def _referable(definitions: dict[str, Any]) -> dict[str, Any]:
    """Let every scalar of the configuration be a reference too: the constraints hold for what it resolves to."""
    for definition in definitions.values():
        for name, schema in definition.get("properties", {}).items():
            definition["properties"][name] = _loosened(schema)
    return definitions


def _loosened(schema: dict[str, Any]) -> dict[str, Any]:
    if "items" in schema:
        return schema | {"items": _loosened(schema["items"])}
    if isinstance(schema.get("additionalProperties"), dict):
        return schema | {"additionalProperties": _loosened(schema["additionalProperties"])}
    if any("$ref" in option for option in schema.get("anyOf", [schema])):
        return schema
    return _or_reference(schema)


def _or_reference(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema` or a reference; notes for people stay outside."""
    notes = {key: schema[key] for key in ("title", "description", "default") if key in schema}
    rules = {key: value for key, value in schema.items() if key not in notes}
    options = rules["anyOf"] if set(rules) == {"anyOf"} else [rules]
    if {"type": "string"} in options:
        return schema
    return notes | {"anyOf": [*options, _REFERENCE]}
