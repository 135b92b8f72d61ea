# ruff: noqa: S101 - a test asserts
"""The agent with its real tools and its server, over standard input and output: no network, no key."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from goagents.messages import ToolResultPart
from goagents.providers.scripted import ScriptedProvider
from goagents.spec.load import load_files
from goagents.spec.tools import McpToolSpec
from goagents.store.sqlite import SQLiteStore
from goagents.testing.cluster import LocalCluster
from goagents.tools.base import Tool, ToolEnvironment
from goagents.tools.mcp import build

HERE = Path(__file__).parent
VARIABLES = {"PYTHON": sys.executable, "LIBRARY": str(HERE / "library.py")}


@pytest.fixture
async def tools() -> AsyncIterator[dict[str, list[Tool]]]:
    """The tools of cluster.yaml, of the server that config.yaml names."""
    loaded = load_files([HERE / "config.yaml", HERE / "cluster.yaml"], environ=VARIABLES)
    (spec,) = loaded.clusters[0].spec.agents[0].tools
    assert isinstance(spec, McpToolSpec)
    toolset = build(spec, ToolEnvironment(lambda text: text, mcp_servers=loaded.config.mcp_servers))
    yield {spec.name: list(await toolset.open())}
    await toolset.aclose()


async def ask(tools: dict[str, list[Tool]], folder: Path, question: str) -> tuple[str, list[ToolResultPart]]:
    """Return what the agent says, and what its tools answered it."""
    scripted = load_files([HERE / "config.yaml"], environ=VARIABLES).config.providers.scripted
    assert scripted is not None
    store = SQLiteStore(str(folder / "test.db"))
    model = ScriptedProvider(models=scripted.models)
    async with LocalCluster(HERE / "cluster.yaml", store, model=model, tools=tools) as handbook:
        answer = await handbook.chat("librarian", question)
        messages = await handbook.messages(answer.session_id)
    await store.aclose()
    parts = [part for message in messages for part in message.parts if isinstance(part, ToolResultPart)]
    return answer.message.text, parts


def test_the_server_offers_what_the_readme_says(tools: dict[str, list[Tool]]) -> None:
    effects = {tool.definition.name: tool.definition.effect for tool in tools["handbook"]}
    assert effects == {
        "handbook_search": "read",
        "handbook_request_page": "unsafe",
        "handbook_read_resource": "read",
    }


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How long is the warranty of batteries?", "The page warranty says: Two years for everything, five for"),
        ("Read the page on shipping", "It reads: Orders before noon leave the same day."),
        ('Please request "gift cards"', "Request 1 is with the editors: gift cards."),
    ],
)
async def test_the_agent_uses_the_server(
    tools: dict[str, list[Tool]], tmp_path: Path, question: str, answer: str
) -> None:
    said, (result,) = await ask(tools, tmp_path, question)
    assert said.startswith(answer)
    assert not result.is_error


async def test_what_the_handbook_does_not_have_is_an_error_that_the_agent_can_act_on(
    tools: dict[str, list[Tool]], tmp_path: Path
) -> None:
    said, (result,) = await ask(tools, tmp_path, "Dinosaurs?")
    assert said == "The handbook says nothing about that. Shall I ask for a page?"
    assert result.is_error
