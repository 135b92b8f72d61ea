# ruff: noqa: S101 - a test asserts
"""The agent with its real functions: no network, no key."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from goagents.messages import ToolResultPart
from goagents.providers.scripted import ScriptedProvider
from goagents.spec.load import load_files
from goagents.spec.tools import PythonToolSpec
from goagents.store.sqlite import SQLiteStore
from goagents.testing.cluster import LocalCluster
from goagents.tools.base import Tool, ToolEnvironment
from goagents.tools.python import build

HERE = Path(__file__).parent


@pytest.fixture
async def tools(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, list[Tool]]]:
    """The tools of cluster.yaml, with the folder that config.yaml names."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    loaded = load_files([HERE / "config.yaml", HERE / "cluster.yaml"], environ={})
    environment = ToolEnvironment(lambda text: text, trusted=True, python_path=loaded.config.python.path)
    opened: dict[str, list[Tool]] = {}
    for spec in loaded.clusters[0].spec.agents[0].tools:
        assert isinstance(spec, PythonToolSpec)
        opened[spec.name] = list(await build(spec, environment).open())
    yield opened
    del sys.modules["workshop"]


async def ask(tools: dict[str, list[Tool]], folder: Path, question: str) -> tuple[str, list[ToolResultPart]]:
    """Return what the agent says, and what its tools answered it."""
    scripted = load_files([HERE / "config.yaml"], environ={}).config.providers.scripted
    assert scripted is not None
    store = SQLiteStore(str(folder / "test.db"))
    model = ScriptedProvider(models=scripted.models)
    async with LocalCluster(HERE / "cluster.yaml", store, model=model, tools=tools) as workshop:
        answer = await workshop.chat("smith", question)
        messages = await workshop.messages(answer.session_id)
    await store.aclose()
    parts = [part for message in messages for part in message.parts if isinstance(part, ToolResultPart)]
    return answer.message.text, parts


def test_the_functions_say_what_repeating_them_does(tools: dict[str, list[Tool]]) -> None:
    effects = {tool.definition.name: tool.definition.effect for (tool,) in tools.values()}
    assert effects == {"quote": "read", "reserve": "idempotent"}


@pytest.mark.parametrize(
    ("question", "answer", "failed"),
    [
        ("What do 3 hinges cost?", "3 of hinge cost 960 cents.", False),
        ("Please reserve 2 hinges", "2 of hinge are reserved, 10 are left.", False),
        ("Please reserve 2 latches", "That cannot be done:", True),
        ("What do 2 anvils cost?", "That cannot be done:", True),
    ],
)
async def test_the_agent_uses_them(
    tools: dict[str, list[Tool]], tmp_path: Path, question: str, answer: str, failed: bool
) -> None:
    said, (result,) = await ask(tools, tmp_path, question)
    assert said.startswith(answer)
    assert result.is_error is failed
