"""Clusters received over HTTP: how they are read, and what they may not ask for."""

import json
from typing import Any

import pytest

from goagents.errors import BadRequest, ConfigurationError, PayloadTooLarge, UnsupportedMediaType
from goagents.spec.cluster import AgentCluster
from goagents.spec.config import Config
from goagents.spec.interpolation import check_untrusted
from goagents.spec.load import parse_cluster

AGENT = {"name": "a", "provider": "openai", "model": "gpt-5.4"}


def manifest(*tools: Any, **fields: Any):
    agent = {**AGENT, **fields, **({"tools": list(tools)} if tools else {})}
    return {
        "apiVersion": "goagents.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": "c"},
        "spec": {"agents": [agent]},
    }


def post(value: Any, content_type: Any = "application/json"):
    return parse_cluster(value if isinstance(value, bytes) else json.dumps(value).encode(), content_type)


def refusals(cluster: Any, config: Any = None):
    return [(e.path, e.message) for e in check_untrusted(AgentCluster.model_validate(cluster), config or Config())]


class TestReading:
    @pytest.mark.parametrize(
        "content_type",
        ["application/json", "APPLICATION/JSON; charset=UTF-8", "application/merge-patch+json", "application/yaml",
         "application/x-yaml", "text/yaml", 'text/x-yaml; charset="utf-8"', "application/vnd.goagents+yaml"],
    )  # fmt: skip
    def test_json_and_yaml(self, content_type: Any):
        assert post(manifest(), content_type).agent("a").model == "gpt-5.4"

    @pytest.mark.parametrize(
        "content_type",
        [None, "", "text/plain", "text/html", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
         "application/json; charset=latin-1", "application/yaml; charset=utf-16", "json"],
    )  # fmt: skip
    def test_other_types_are_415(self, content_type: Any):
        with pytest.raises(UnsupportedMediaType):
            post(manifest(), content_type)

    def test_json_is_strict_where_the_type_says_json(self):
        with pytest.raises(BadRequest, match="not JSON"):
            post(b"apiVersion: goagents.dev/v1", "application/json")

    @pytest.mark.parametrize(
        ("body", "content_type", "message"),
        [
            (b"\xff\xfe{", "application/json", "not UTF-8: byte 0"),
            (b'{"a": ', "application/json", r"The body is not JSON: .* \(line 1, column 7\)"),
            (b"a: [", "application/yaml", r"The body is not YAML: .* \(line 2, column 1\)"),
            (b"", "application/json", "not JSON"),
            (b"a: *b", "application/yaml", "has no anchor"),
        ],
    )
    def test_what_cannot_be_read_is_400(self, body: bytes, content_type: Any, message: str):
        with pytest.raises(BadRequest, match=message):
            post(body, content_type)

    @pytest.mark.parametrize(
        "body",
        [b"[" * 100_000, b"a: !!python/name:os.system x", b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
            f"b{i}: &b{i} [{','.join([f'*b{i - 1}' if i else '*a'] * 9)}]\n".encode() for i in range(9))],
    )  # fmt: skip
    def test_hostile_yaml_is_422(self, body: bytes):
        with pytest.raises(ConfigurationError):
            post(body, "application/yaml")

    def test_a_huge_body_is_413(self):
        with pytest.raises(PayloadTooLarge):
            post(b" " * (4 * 2**20 + 1))

    def test_all_errors_at_once(self):
        value = manifest(provider="opnai", max_turns="many", sytem_prompt="x")
        value["metadata"]["name"] = "C"
        with pytest.raises(ConfigurationError) as caught:
            post(value)
        problem = caught.value.problem()
        assert problem["status"] == 422
        assert sorted(error["path"] for error in problem["errors"]) == [
            "metadata.name",
            "spec.agents.0.max_turns",
            "spec.agents.0.provider",
            "spec.agents.0.sytem_prompt",
        ]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ({}, "the body holds no AgentCluster"),
            (None, "a document is a mapping|no AgentCluster"),
            ([], "a document is a mapping"),
            ("text", "a document is a mapping"),
            ({**manifest(), "server": {}}, "server: is configuration of the server; send the AgentCluster alone"),
            ({**manifest(), "staus": {}}, "staus: unknown field"),
            ({**manifest(), "kind": "Agent"}, "kind: unknown value 'Agent'; known are AgentCluster"),
        ],
    )
    def test_what_is_no_cluster(self, value: Any, message: str):
        with pytest.raises(ConfigurationError, match=message):
            post(value)

    def test_one_at_a_time(self):
        text = "\n---\n".join([json.dumps(manifest())] * 2)
        with pytest.raises(ConfigurationError, match="one AgentCluster at a time"):
            post(text.encode(), "application/yaml")

    def test_repeated_fields_are_errors_in_json_too(self):
        body = json.dumps(manifest()).replace('"model": "gpt-5.4"', '"model": "a", "model": "b"').encode()
        with pytest.raises(ConfigurationError, match=r"spec\.agents\.0\.model: stands there twice"):
            post(body)

    @pytest.mark.parametrize("field", ["provider", "model"])
    def test_provider_and_model_take_no_reference(self, field: str):
        with pytest.raises(ConfigurationError, match=rf"spec\.agents\.0\.{field}: .* resolved in a file only"):
            post(manifest(**{field: "${X}"}))


class TestRights:
    def test_a_plain_cluster_may(self):
        assert refusals(manifest({"type": "http", "name": "t", "url": "https://x"}, system_prompt="hi $${X}")) == []

    @pytest.mark.parametrize(
        ("cluster", "path"),
        [
            (manifest(system_prompt="${HOME}"), "spec.agents.0.system_prompt"),
            (manifest(system_prompt="${HOME:-x}"), "spec.agents.0.system_prompt"),
            (manifest(system_prompt="${OK:-${HOME}}"), "spec.agents.0.system_prompt"),
            (manifest(model_settings={"a": [{"b": "${secret:db}"}]}), "spec.agents.0.model_settings.a.0.b"),
            (
                manifest({"type": "http", "name": "t", "url": "https://x/${HOME}"}),
                "spec.agents.0.tools.0.url",
            ),
            (
                manifest({"type": "http", "name": "t", "url": "https://x", "headers": {"A": "Bearer ${HOME}"}}),
                "spec.agents.0.tools.0.headers.A",
            ),
        ],
    )
    def test_references_to_other_names_than_allowed_are_refused(self, cluster: Any, path: str):
        config = Config.model_validate({"allow": {"env": ["OK"]}})
        ((found, message),) = refusals(cluster, config)
        assert found == path
        assert "allow:" in message

    def test_allowed_names_pass(self):
        config = Config.model_validate({"allow": {"env": ["CRM_KEY"], "secrets": ["db", "aws-secret:only"]}})
        headers = {"A": "${CRM_KEY}", "B": "${secret:db}", "C": "${aws-secret:db}", "D": "${aws-secret:only}"}
        assert refusals(manifest({"type": "http", "name": "t", "url": "https://x", "headers": headers}), config) == []
        other = manifest({"type": "http", "name": "t", "url": "https://x", "headers": {"D": "${secret:only}"}})
        assert len(refusals(other, config)) == 1

    def test_malformed_references_are_told(self):
        ((path, message),) = refusals(manifest(system_prompt="${"))
        assert path == "spec.agents.0.system_prompt"
        assert "not closed" in message

    @pytest.mark.parametrize("server", ["npx server", "/bin/sh -c id", "kb", "${MCP}", "file:///x"])
    def test_commands_are_refused(self, server: str):
        config = Config.model_validate({"allow": {"env": ["MCP"]}})
        ((path, message),) = refusals(manifest({"type": "mcp", "name": "t", "server": server}), config)
        assert path == "spec.agents.0.tools.0.server"
        assert "starts no command" in message

    def test_servers_by_name_and_by_url_pass(self):
        config = Config.model_validate({"mcp_servers": {"kb": {"command": "kb-server"}}})
        tools = [{"type": "mcp", "name": "a", "server": "kb"}, {"type": "mcp", "name": "b", "server": "https://x/mcp"}]
        assert refusals(manifest(*tools), config) == []

    @pytest.mark.parametrize("page", ["/etc/passwd", "api.yaml", "file:///etc/passwd", "${PAGE}"])
    def test_files_of_the_server_are_refused(self, page: str):
        config = Config.model_validate({"allow": {"env": ["PAGE"]}})
        ((path, message),) = refusals(manifest({"type": "http", "name": "t", "openapi": page}), config)
        assert path == "spec.agents.0.tools.0.openapi"
        assert "reads no file" in message

    def test_pages_by_url_pass(self):
        assert refusals(manifest({"type": "http", "name": "t", "openapi": "https://x/openapi.json"})) == []

    @pytest.mark.parametrize("target", ["os:system", "shop.tools:refund_all", "shop-refund", "shop.tools:refund.x"])
    def test_python_that_the_configuration_does_not_name_is_refused(self, target: str):
        config = Config.model_validate({"allow": {"python": ["shop.tools:refund", "shop"]}})
        ((path, message),) = refusals(manifest({"type": "python", "name": "t", "target": target}), config)
        assert path == "spec.agents.0.tools.0.target"
        assert f"{target} is not on the server's `allow.python` list" in message

    def test_python_that_it_names_passes(self):
        config = Config.model_validate({"allow": {"python": ["shop.tools:refund"]}})
        assert refusals(manifest({"type": "python", "name": "t", "target": "shop.tools:refund"}), config) == []
