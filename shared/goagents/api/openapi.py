"""The OpenAPI document: made from the table of operations and the models, kept as `openapi.json` beside this file.

`python -m goagents.api.openapi` writes it anew. What serves it reads the file: a cold process builds nothing.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from goagents import __version__, resources
from goagents.spec.cluster import PROVIDERS, AgentCluster

from .operations import OPERATIONS, PARAMETERS, SERVER_SENT_EVENT, Answer, Operation

PATH = Path(__file__).with_name("openapi.json")

_REF = "#/components/schemas/{model}"
_PROBLEM = {"$ref": _REF.format(model="Problem")}
_BODIES: tuple[type[BaseModel], ...] = (
    AgentCluster,
    resources.ApproveRequest,
    resources.CancelRequest,
    resources.ChatRequest,
    resources.RunRequest,
    resources.ScaleRequest,
)
_ANSWERS: dict[str, type[BaseModel]] = {
    "Agent": resources.Agent,
    "AgentList": resources.ListOf[resources.Agent],
    "ChatResponse": resources.ChatResponse,
    "Cluster": resources.Cluster,
    "ClusterApplied": resources.ClusterApplied,
    "ClusterList": resources.ListOf[resources.Cluster],
    "Health": resources.Health,
    "LogList": resources.ListOf[resources.LogEntry],
    "MessageList": resources.ListOf[resources.SessionMessage],
    "MetricsSummary": resources.MetricsSummary,
    "Problem": resources.Problem,
    "Readiness": resources.Readiness,
    "Run": resources.Run,
    "RunList": resources.ListOf[resources.Run],
    "Session": resources.Session,
}
_STATUSES = {
    400: "The request cannot be read.",
    401: "A credential is needed, or it is not known.",
    403: "The credential does not allow this; without authentication: the request is not of this machine.",
    404: "There is no such resource.",
    408: "The body did not arrive within `server.timeout`.",
    409: "The state does not allow this: it exists, a run is in progress, or another key's payload.",
    413: "The body is larger than `server.max_body`.",
    415: "The body is of another type.",
    422: "Understood, but wrong; `errors` names each place.",
    429: "A limit is reached; `Retry-After` tells when to come back.",
    500: "A defect, or the agent did not come to an end within `max_turns`. The log has the request's id.",
    502: "The model's provider failed.",
    503: "The server, or the store, cannot serve now.",
    504: "The run or the provider did not end in time.",
}
_REQUEST_ID = {
    "description": "Names the request in the log; the one sent, or a fresh one.",
    "schema": {"type": "string", "maxLength": 128},
}
_HEADERS: dict[int, dict[str, Any]] = {
    201: {"Location": {"description": "Where it is.", "schema": {"type": "string"}}},
    202: {"Location": {"description": "Where the run is.", "required": True, "schema": {"type": "string"}}},
    401: {"WWW-Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer", "minimum": 1}}},
    503: {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}},
}


def document() -> dict[str, Any]:
    """Return the whole document (OpenAPI 3.1)."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "GoAgents",
            "version": __version__,
            "description": "Clusters of AI agents as stateless functions. Every path also answers OPTIONS, and HEAD "
            "where it answers GET; another method is answered 405 with `Allow`. Errors are problem+json (RFC 9457).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {}],
        "tags": [{"name": name} for name in dict.fromkeys(operation.tag for operation in OPERATIONS)],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key (`auth.mode: api_key`), or on Cloud Run an identity token of Google "
                    "(`platform`). Without `auth:`, requests of the same machine need none.",
                }
            },
        },
    }


def _schemas() -> dict[str, Any]:
    """Return the schemas of all models. Lists get the names of `_ANSWERS`; pydantic's carry their parameters."""
    _, bodies = models_json_schema([(model, "validation") for model in _BODIES], ref_template=_REF)
    _, answers = models_json_schema([(model, "serialization") for model in _ANSWERS.values()], ref_template=_REF)
    found = {**answers["$defs"], **bodies["$defs"]}
    names = {model.__name__: name for name, model in _ANSWERS.items() if model.__name__ != name}
    generic = {name: alias for name in found for model, alias in names.items() if name == _definition(model)}
    text = json.dumps({generic.get(name, name): schema for name, schema in found.items()})
    for name, alias in generic.items():
        text = text.replace(f'"{_REF.format(model=name)}"', f'"{_REF.format(model=alias)}"')
    schemas: dict[str, Any] = json.loads(text)
    _say_what_models_check(schemas)
    for name, alias in generic.items():
        if schemas[alias].get("title"):
            schemas[alias]["title"] = alias
        if name in schemas:
            raise AssertionError(f"{name} is still there")
    return dict(sorted({**schemas, "ServerSentEvent": SERVER_SENT_EVENT}.items()))


def _say_what_models_check(schemas: dict[str, Any]) -> None:
    """Add what the models' validators check, and their schemas do not say."""
    for name in ("AgentSpec", "Fallback"):
        schemas[name]["properties"]["provider"]["enum"] = list(PROVIDERS)
    for name in ("TextPart", "ImagePart"):
        schemas[name]["required"] = sorted({"type", *schemas[name].get("required", [])})
    image = schemas["ImagePart"]
    image["properties"]["url"] = _given({"type": "string", "pattern": "^https?://.+"})
    for name in ("data", "media_type"):
        image["properties"][name] = _given({"type": "string", "minLength": 1})
    null = {"type": "null"}
    image["oneOf"] = [
        {"required": ["url"], "properties": {"url": {"type": "string"}, "data": null, "media_type": null}},
        {
            "required": ["data", "media_type"],
            "properties": {"url": null, "data": {"type": "string"}, "media_type": {"type": "string"}},
        },
    ]


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}], "default": None}


def _definition(name: str) -> str:
    return name.replace("[", "_").replace("]", "_")


def _operation(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
    }
    if operation.description:
        found["description"] = operation.description
    if operation.open:
        found["security"] = []
    if operation.parameters:
        found["parameters"] = [PARAMETERS[name] for name in operation.parameters]
    if operation.body:
        schema = {"$ref": _REF.format(model=operation.body)}
        found["requestBody"] = {
            "required": operation.body_required,
            "content": {kind: {"schema": schema} for kind in operation.body_types},
        }
    found["responses"] = {
        **{str(answer.status): _answer(answer) for answer in operation.answers},
        **{str(status): _problem(status) for status in operation.problems},
    }
    if 404 in operation.problems:
        # functions-framework's own answer for a path with a line break, which never comes to us
        found["responses"]["404"]["content"]["text/plain"] = {"schema": {"type": "string"}}
    return found


def _answer(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"description": answer.description, "headers": _headers(answer.status)}
    if answer.content:
        found["content"] = {
            kind: {"schema": {"$ref": _REF.format(model=schema)} if isinstance(schema, str) else schema}
            for kind, schema in answer.content.items()
        }
    return found


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": _STATUSES[status],
        "headers": _headers(status),
        "content": {"application/problem+json": {"schema": _PROBLEM}},
    }


def _headers(status: int) -> dict[str, Any]:
    return {"X-Request-Id": _REQUEST_ID, **_HEADERS.get(status, {})}


def text() -> str:
    """Return the document as the file holds it."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
