"""Whatever is read: the answer is a configuration or our own error, never another exception."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from goagents.errors import ConfigurationError, RequestError
from goagents.spec.cluster import AgentCluster
from goagents.spec.config import Config
from goagents.spec.load import load_text, parse_cluster
from goagents.spec.tools import HttpToolSpec, McpToolSpec


def names(*models: type[BaseModel]) -> list[str]:
    """Return the names of all fields, so that what is made up gets past the first look."""
    found: set[str] = set()
    for model in models:
        definitions = [model.model_json_schema(), *model.model_json_schema().get("$defs", {}).values()]
        found |= {name for definition in definitions for name in definition.get("properties", {})}
    return sorted(found)


KEYS = st.sampled_from([*names(Config, AgentCluster, HttpToolSpec, McpToolSpec), "<<", "nosuch", "", "a.b"]) | st.text(
    max_size=4
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["goagents.dev/v1", "AgentCluster", "http", "mcp", "python", "openai", "scripted", "5s", "1MiB", "${A}",
         "${B:-x}", "${", "${secret:x}", "https://x", "/metrics", "api_key", "a" * 64]
    )
    | st.text(max_size=8)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(KEYS, children, max_size=5),
    max_leaves=30,
)
AGENT = {"name": "a", "provider": "scripted", "model": "m"}
SKELETON: dict[str, Any] = {"apiVersion": "goagents.dev/v1", "kind": "AgentCluster", "metadata": {"name": "c"}}


def loads(value: Any) -> None:
    try:
        loaded = load_text(json.dumps(value), "f.yaml", environ={"A": "1"})
    except ConfigurationError as error:
        assert error.errors  # noqa: PT017 - either outcome is right
        assert all(each.message and each.line and each.column for each in error.errors)  # noqa: PT017
        return
    for cluster in loaded.clusters:
        assert AgentCluster.model_validate(json.loads(json.dumps(cluster.manifest()))) == cluster
        assert AgentCluster.model_validate(cluster.canonical()) == cluster


@settings(deadline=None)
@given(VALUES)
def test_any_document(value: Any) -> None:
    loads(value)


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_agent(fields: dict[str, Any]) -> None:
    loads({**SKELETON, "spec": {"agents": [{**AGENT, **fields}]}})


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4), st.sampled_from(["http", "mcp", "websocket"]))
def test_any_tool(fields: dict[str, Any], kind: str) -> None:
    tool = {"type": kind, "name": "t", "url": "https://x", **fields}
    loads({**SKELETON, "spec": {"agents": [{**AGENT, "tools": [tool]}]}})


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(names(Config)), VALUES, max_size=4))
def test_any_configuration(sections: dict[str, Any]) -> None:
    loads(sections)


@settings(deadline=None)
@given(st.binary(max_size=80), st.sampled_from(["application/json", "application/yaml", "text/yaml; charset=utf-8"]))
def test_any_body(body: bytes, content_type: str) -> None:
    try:
        parse_cluster(body, content_type)
    except RequestError as error:
        assert error.status in (400, 422)  # noqa: PT017 - it cannot be a cluster by chance, and this is the other outcome


@settings(deadline=None)
@given(VALUES)
def test_any_json_body(value: Any) -> None:
    try:
        parse_cluster(json.dumps(value).encode(), "application/json")
    except ConfigurationError as error:
        assert error.problem()["errors"]  # noqa: PT017 - either outcome is right
