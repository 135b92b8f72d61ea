"""Types of tools that packages bring: where they are known, how their entries are checked, who may use them."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.acme import unpacked

from goagents.app import TOOLSETS, ResolverFactory, load_by_name
from goagents.errors import ConfigurationError, ToolUnavailable
from goagents.spec import plugins
from goagents.spec.cluster import AgentCluster
from goagents.spec.config import Config
from goagents.spec.interpolation import check_untrusted
from goagents.spec.load import load_text, parse_cluster
from goagents.spec.plugins import STORED
from goagents.spec.tools import AbsentToolSpec
from goagents.tools.registry import ToolsetRegistry

ACME = {"type": "acme", "name": "counter", "greeting": "Hello", "bell": {"rings": 2, "pause": "1s"}, "timeout": "5s"}


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package, installed for one test."""
    monkeypatch.syspath_prepend(str(unpacked(tmp_path / "site")))
    plugins._found.cache_clear()
    yield
    plugins._found.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_tools"]:
        del sys.modules[name]


def manifest(tool: Any) -> dict[str, Any]:
    agent = {"name": "a", "provider": "scripted", "model": "m", "tools": [tool]}
    return {
        "apiVersion": "goagents.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": "c"},
        "spec": {"agents": [agent]},
    }


def errors_of(tool: str) -> list[str]:
    text = (
        "apiVersion: goagents.dev/v1\nkind: AgentCluster\nmetadata: {name: c}\nspec:\n  agents:\n"
        "  - name: a\n    provider: scripted\n    model: m\n    tools:\n" + f"    - {{{tool}}}\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load_text(text, environ={})
    return [f"{e.line}:{e.column}: {e.path}: {e.message}" for e in caught.value.errors]


def posted(tool: Any, *tool_types: str) -> Any:
    return parse_cluster(json.dumps(manifest(tool)).encode(), "application/json", tool_types).spec.agents[0].tools[0]


def registry(**allow: Any) -> ToolsetRegistry:
    config = Config.model_validate({"allow": allow})
    return ToolsetRegistry(config, ResolverFactory(config, {}), TOOLSETS, load_by_name)


@pytest.mark.usefixtures("acme")
class TestInstalled:
    def test_an_entry_is_a_model_of_the_packages_own(self):
        cluster = AgentCluster.model_validate(manifest(ACME))
        (tool,) = cluster.spec.agents[0].tools
        assert type(tool).__name__ == "AcmeToolSpec"
        assert (tool.bell.rings, tool.bell.pause, tool.timeout) == (2, 1.0, 5.0)
        assert cluster.manifest() == manifest(ACME)
        again = AgentCluster.model_validate(cluster.manifest(), context=STORED)
        assert again == cluster
        assert again.digest() == cluster.digest()
        assert "acme_tools.toolset" not in sys.modules

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ("type: acme, name: x", "10:7: spec.agents.0.tools.0.greeting: is required"),
            (
                "type: acme, name: x, greeting: 7",
                "10:39: spec.agents.0.tools.0.greeting: must be a text; put it in quo",
            ),
            (
                "type: acme, name: x, greting: hi",
                "10:29: spec.agents.0.tools.0.greting: unknown field; did you mean 'g",
            ),
            (
                "type: acme, name: x, greeting: a, bell: {rings: 10}",
                "10:56: spec.agents.0.tools.0.bell.rings: should be",
            ),
            ("type: acme, name: x, greeting: a, bell: {pause: soon}", "tools.0.bell.pause: is not a duration"),
            ("type: acme, name: x, greeting: a, bell: 3", "tools.0.bell: must be a mapping with `rings`, `pause`"),
            (
                "type: acme, name: x, greeting: a, cache_ttl: 60d",
                "tools.0.cache_ttl: should be less than or equal to 30d",
            ),
            ("type: acme, name: 'a b', greeting: a", "must be 1 to 64 letters, digits"),
            ("type: acne, name: x", "10:14: spec.agents.0.tools.0.type: unknown type 'acne'; did you mean 'acme'?"),
            ("type: acme-shout, name: x", "the entry point 'acme-shout' leads to no `goagents.spec.plugins.ToolType`"),
            (
                "type: acme-broken, name: x",
                "'acme-broken' (acme_tools.broken:ACME) cannot be loaded: ModuleNotFoundErr",
            ),
        ],
    )
    def test_what_is_wrong_has_its_place(self, fields: str, message: str):
        errors = errors_of(fields)
        assert any(message in error for error in errors), errors

    def test_a_cluster_received_over_http_has_the_types_of_the_configuration(self):
        entry = {**ACME, "headers": {"X": "${HOME}"}}
        cluster = parse_cluster(json.dumps(manifest(entry)).encode(), "application/json")
        assert type(cluster.spec.agents[0].tools[0]) is AbsentToolSpec
        found = {each.path: each.message for each in check_untrusted(cluster, Config())}
        assert set(found) == {"spec.agents.0.tools.0.headers.X", "spec.agents.0.tools.0.type"}
        assert "the type 'acme' is not on the server's `allow.tool_types` list" in found["spec.agents.0.tools.0.type"]
        assert "acme_tools" not in sys.modules  # what is not named is not even imported
        allowed = Config.model_validate({"allow": {"tool_types": ["acme"]}})
        cluster = parse_cluster(json.dumps(manifest(ACME)).encode(), "application/json", allowed.allow.tool_types)
        assert check_untrusted(cluster, allowed) == []
        assert posted(ACME, "acme").greeting == "Hello"

    async def test_its_toolset_is_built(self):
        spec = posted(ACME, "acme")
        toolset = registry(tool_types=["acme"]).build(spec, trusted=False)
        assert "acme_tools.toolset" not in sys.modules
        assert [tool.definition.name for tool in await toolset.open()] == ["counter_greet", "counter_ring"]
        await toolset.aclose()
        later = registry().build(spec, trusted=False)
        with pytest.raises(ToolUnavailable, match=r"'acme' is not on the server's `allow\.tool_types`"):
            await later.open()
        assert len(await registry().build(spec, trusted=True).open()) == 2

    async def test_a_type_that_fails_costs_its_tool_only(self):
        stored = AgentCluster.model_validate(manifest({"type": "acme-broken", "name": "x"}), context=STORED)
        (spec,) = stored.spec.agents[0].tools
        toolset = registry().build(spec, trusted=True)
        with pytest.raises(ToolUnavailable, match=r"cannot be loaded: .* No module named 'acme_sdk'"):
            await toolset.open()

    async def test_an_entry_that_was_read_without_the_package_asks_for_a_new_start(self):
        toolset = registry().build(AbsentToolSpec.model_validate(ACME), trusted=True)
        with pytest.raises(ToolUnavailable, match="the tool type 'acme' has changed; start the server anew"):
            await toolset.open()


def test_a_cluster_in_the_store_outlives_the_package():
    stored = AgentCluster.model_validate(manifest(ACME), context=STORED)
    (tool,) = stored.spec.agents[0].tools
    assert stored.manifest() == manifest(ACME)
    with pytest.raises(
        ToolUnavailable, match=r"No package here brings the tool type 'acme': install .* `goagents\.tools`"
    ):
        registry().check(tool)


def test_without_the_package_the_type_is_unknown():
    (error,) = errors_of("type: acme, name: x")
    assert "known are http, mcp, websocket, python. Others come with packages" in error
    with pytest.raises(ConfigurationError, match="unknown type 'acme'"):
        posted(ACME, "acme")


def test_the_group_is_looked_up_when_a_name_needs_it():
    plugins._found.cache_clear()
    AgentCluster.model_validate(manifest({"type": "http", "name": "x", "url": "https://x.example"}))
    assert plugins._found.cache_info().currsize == 0
    importlib.invalidate_caches()
    assert "acme" not in plugins.names()
