"""How a toolset is made: what the configuration lends it, and what it may load."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.http_tools import CONTEXT, text_of
from tests.support.mcp_tools import HOME, command

from goagents.app import TOOLSETS, ResolverFactory, load_by_name
from goagents.errors import ToolUnavailable
from goagents.spec.config import Config
from goagents.spec.load import load_text
from goagents.spec.tools import McpToolSpec
from goagents.tools.base import ChangingToolset
from goagents.tools.registry import ToolsetRegistry


def registry(config: Config, load: Callable[[str], Any] = load_by_name) -> ToolsetRegistry:
    return ToolsetRegistry(config, ResolverFactory(config, {}), TOOLSETS, load)


def spec(server: str) -> McpToolSpec:
    return McpToolSpec(type="mcp", name="kb", server=server)


async def test_the_adapter_is_loaded_when_the_toolset_is_opened():
    loaded: list[str] = []

    def load(name: str) -> Any:
        loaded.append(name)
        return load_by_name(name)

    toolset = registry(Config(), load).build(spec(command(HOME / "raw.py", "none")), trusted=True)
    assert loaded == []
    assert isinstance(toolset, ChangingToolset)
    assert not toolset.stale
    (tool,) = await toolset.open()
    assert loaded == ["goagents.tools.mcp:build"]
    assert text_of(await tool.call({}, CONTEXT)).startswith("said by")
    await toolset.aclose()


async def test_what_is_not_trusted_starts_no_program():
    toolset = registry(Config()).build(spec(command(HOME / "raw.py", "none")), trusted=False)
    with pytest.raises(ToolUnavailable, match="starts no command"):
        await toolset.open()


def test_a_header_whose_variable_is_not_set_keeps_the_server_from_being_called_without_it():
    text = 'mcp_servers: {team: {url: "https://x.example/mcp", headers: {Authorization: "Bearer ${TEAM_TOKEN}"}}}'
    config = load_text(text, environ={}).config
    with pytest.raises(
        ToolUnavailable, match=r"kb: not set .* mcp_servers\.team\.headers\.Authorization needs TEAM_TOKEN"
    ):
        registry(config).build(spec("team"), trusted=False)
    registry(load_text(text, environ={"TEAM_TOKEN": "t"}).config).build(spec("team"), trusted=False)


async def test_an_sdk_that_is_not_installed_says_how_to_get_it():
    def load(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'mcp'", name="mcp")

    toolset = registry(Config(), load).build(spec("https://x.example/mcp"), trusted=True)
    with pytest.raises(ToolUnavailable, match=r"kb: mcp is not installed: pip install 'goagents\[mcp\]'"):
        await toolset.open()
    await toolset.aclose()


async def test_a_defect_of_ours_is_not_taken_for_a_missing_sdk():
    def load(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'goagents.tools.mpc'", name="goagents.tools.mpc")

    toolset = registry(Config(), load).build(spec("https://x.example/mcp"), trusted=True)
    with pytest.raises(ModuleNotFoundError):
        await toolset.open()
