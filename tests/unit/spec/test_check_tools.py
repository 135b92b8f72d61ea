"""What `validate` finds of tools before anything is called: contradictions are errors, what is absent is a warning."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from goagents.errors import ConfigurationError
from goagents.spec.check_tools import warn_tools
from goagents.spec.cluster import AgentCluster
from goagents.spec.config import Config
from goagents.spec.document import Mark, Node
from goagents.spec.load import Loaded, load_text, parse_cluster
from goagents.spec.plugins import STORED

TYPED = {"type": "http", "name": "t", "method": "GET", "url": "https://x.example/{order_id}"}
FUNCTION = {"source": "tools.py", "port": 8091, "variable": "ORDERS_URL"}


def cluster(*tools: dict[str, Any], **fields: Any) -> dict[str, Any]:
    agent = {"name": "a", "provider": "scripted", "model": "m", "tools": list(tools), **fields}
    return {
        "apiVersion": "goagents.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": "c"},
        "spec": {"agents": [agent]},
    }


def loaded(*documents: dict[str, Any], folder: Path | None = None, environ: dict[str, str] | None = None) -> Loaded:
    text = "---\n".join(yaml.safe_dump(document, sort_keys=False) for document in documents)
    return load_text(text, str(folder / "f.yaml") if folder else "f.yaml", environ=environ or {})


def errors(*documents: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(ConfigurationError) as caught:
        loaded(*documents, **options)
    assert all(each.line is not None for each in caught.value.errors)
    return [(each.path, each.message) for each in caught.value.errors]


def warnings(*documents: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    return [(each.path, each.message) for each in loaded(*documents, **options).warnings]


def parameters(*names: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}}


class TestPlaceholders:
    def test_one_that_no_parameter_fills_is_an_error(self):
        wrong = cluster({**TYPED, "parameters": parameters("orderid")})
        path = "spec.agents.0.tools.0.url"
        message = "'{order_id}' is no property of the tool's `parameters`; did you mean '{orderid}'?"
        assert errors(wrong) == [(path, message)]
        with pytest.raises(ConfigurationError) as caught:
            parse_cluster(yaml.safe_dump(wrong).encode(), "application/yaml")
        assert [(each.path, each.message) for each in caught.value.errors] == [(path, message)]
        assert AgentCluster.model_validate(wrong, context=STORED), "what was accepted once is read again"

    def test_what_is_one_and_what_is_none(self):
        assert "add it there" in errors(cluster({**TYPED, "parameters": {"type": "object"}}))[0][1]
        assert loaded(cluster({**TYPED, "parameters": parameters("order_id")}))
        url = "https://x.example/${A:-b}/{order_id}?x=$${c"
        assert loaded(cluster({**TYPED, "url": url, "parameters": parameters("order_id")}))
        assert loaded(cluster({"type": "http", "name": "t", "url": "https://x.example/{literal}"}))


@pytest.mark.parametrize(
    ("tool", "path", "message"),
    [
        (
            {"retries": {"max": 1, "backoff": "5s", "max_backoff": "1s"}},
            "retries.backoff",
            "is more than `max_backoff`",
        ),
        ({"retries": {"backoff": "1m"}}, "retries.backoff", "is more than `max_backoff`, 30 s unless it is set"),
        (
            {"type": "websocket", "url": "wss://x.example", "reconnect": {"backoff": "20s"}},
            "reconnect.backoff",
            "is more than `max_backoff`, 10 s unless it is set",
        ),
    ],
)
def test_a_pause_is_not_longer_than_the_longest(tool: dict[str, Any], path: str, message: str):
    found = errors(cluster({"type": "http", "name": "t", "url": "https://x.example", **tool}))
    assert found == [(f"spec.agents.0.tools.0.{path}", message)]


class TestToolFunctions:
    def test_a_port_belongs_to_one(self):
        config = {
            "server": {"port": 8091, "metrics": {"port": 8092}},
            "tool_functions": {
                "a": FUNCTION,
                "b": {**FUNCTION, "port": 8092, "variable": "B"},
                "c": {**FUNCTION, "port": 8093, "variable": "C"},
                "d": {**FUNCTION, "port": 8093, "variable": "D"},
            },
        }
        assert errors(config) == [
            ("tool_functions.a.port", "the port 8091 is that of `server.port` already; choose another"),
            ("tool_functions.b.port", "the port 8092 is that of `server.metrics.port` already; choose another"),
            ("tool_functions.d.port", "the port 8093 is that of `tool_functions.c.port` already; choose another"),
        ]

    def test_a_variable_belongs_to_one(self):
        config = {"tool_functions": {"a": FUNCTION, "b": {**FUNCTION, "port": 8092}}}
        message = "the variable ORDERS_URL is that of `tool_functions.a.variable` already; choose another"
        assert errors(config) == [("tool_functions.b.variable", message)]

    def test_a_variable_that_holds_no_address_is_something_else(self, tmp_path: Path):
        config = {"tool_functions": {"a": {**FUNCTION, "variable": "PATH"}}}
        ((path, message),) = errors(config, environ={"PATH": "/bin"})
        assert path == "tool_functions.a.variable"
        assert message.startswith("the variable PATH is set already, and to no http(s):// address: nothing would be st")
        deployed = {"ORDERS_URL": "https://orders.example"}
        assert warnings({"tool_functions": {"a": FUNCTION}}, environ=deployed, folder=tmp_path) == []


class TestAbsent:
    def test_files_and_folders(self, tmp_path: Path):
        config = {"python": {"path": ["here", "gone"]}, "tool_functions": {"a": FUNCTION}}
        pages = [
            {"type": "http", "name": name, "openapi": page}
            for name, page in (("b", "b.yaml"), ("c", "c.yaml"), ("d", "https://x.example/d"), ("e", "${E}"))
        ]
        (tmp_path / "here").mkdir()
        (tmp_path / "b.yaml").touch()
        assert warnings(config, cluster(*pages), folder=tmp_path, environ={"E": "e.yaml"}) == [
            ("python.path.1", f"there is no folder {tmp_path / 'gone'}"),
            ("tool_functions.a.source", f"there is no file {tmp_path / 'tools.py'}"),
            ("spec.agents.0.tools.1.openapi", f"there is no file {tmp_path / 'c.yaml'}"),
        ]

    def test_types_that_nobody_brings(self):
        ((first, known), (second, unknown)) = warnings({"allow": {"tool_types": ["http", "lampp"]}})
        assert (first, known) == ("allow.tool_types.0", "the type 'http' is built in, and needs no entry")
        assert (second, unknown) == ("allow.tool_types.1", "no package installed here brings a tool type 'lampp'")

    @pytest.mark.parametrize(
        ("server", "told"),
        [("knowlege-base", True), ("knowledge-base", False), ("npx", False), ("knowlege-base --all", False)],
    )
    def test_a_misspelt_server(self, server: str, told: bool):
        config = {"mcp_servers": {"knowledge-base": {"command": "kb"}}}
        found = warnings(config, cluster({"type": "mcp", "name": "t", "server": server}))
        message = "is no name in `mcp_servers`, and taken for a program; did you mean 'knowledge-base'?"
        assert found == ([("spec.agents.0.tools.0.server", message)] if told else [])


def test_a_secret_of_a_secret_manager_is_one_whatever_its_name():
    agent = AgentCluster.model_validate(cluster(system_prompt="${secret:greeting} ${GREETING}"))
    found = [each.message for each in warn_tools(agent, Node({}, Mark(None, 1, 1)), Config())]
    assert len(found) == 1
    assert found[0].startswith("the secret secret:greeting looks like a secret")


def test_a_secret_that_the_model_is_told_is_a_warning():
    tool = {"type": "http", "name": "t", "url": "https://x.example", "description": "Of ${SHOP}, with ${SHOP_KEY}."}
    environ = {"MY_TOKEN": "t", "WHO": "Ada", "SHOP": "Acme", "SHOP_KEY": "k", "X_TOKEN": "x"}
    found = warnings(
        cluster({**tool, "headers": {"X": "${X_TOKEN}"}}, system_prompt="${WHO}: ${MY_TOKEN}"), environ=environ
    )
    assert [path for path, _ in found] == ["spec.agents.0.tools.0.description", "spec.agents.0.system_prompt"]
    assert found[0][1].startswith("the variable SHOP_KEY looks like a secret, and the model is told its value: ")
    assert "MY_TOKEN" in found[1][1]
