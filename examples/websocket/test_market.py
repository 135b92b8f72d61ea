# ruff: noqa: S101 - a test asserts
"""The agent with its real tools and its service on a free port: no network, no key."""

import importlib.util
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from goagents.messages import TextPart, ToolResultPart
from goagents.providers.scripted import ScriptedProvider
from goagents.spec.load import load_files
from goagents.spec.tools import WebsocketToolSpec
from goagents.store.sqlite import SQLiteStore
from goagents.testing.cluster import LocalCluster
from goagents.tools.base import Tool, ToolEnvironment
from goagents.tools.websocket import build

HERE = Path(__file__).parent


async def served(stack: AsyncExitStack) -> str:
    """Serve the prices until the stack ends; return the URL."""
    found = importlib.util.spec_from_file_location("price_service", HERE / "price_service.py")
    assert found is not None
    assert found.loader is not None
    service = importlib.util.module_from_spec(found)
    found.loader.exec_module(service)
    runner = web.AppRunner(service.application(), shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"ws://127.0.0.1:{runner.addresses[0][1]}"


@pytest.fixture
async def tools() -> AsyncIterator[dict[str, list[Tool]]]:
    """The tools of cluster.yaml, as `config.yaml` allows them, led to the service."""
    loaded = load_files([HERE / "config.yaml", HERE / "cluster.yaml"], environ={})
    async with AsyncExitStack() as stack:
        url = await served(stack)
        environment = ToolEnvironment(
            lambda text: text.replace("${PRICES_URL:-ws://127.0.0.1:8092}", url), loaded.config.allow.addresses
        )
        opened: dict[str, list[Tool]] = {}
        for spec in loaded.clusters[0].spec.agents[0].tools:
            assert isinstance(spec, WebsocketToolSpec)
            toolset = build(spec, environment)
            stack.push_async_callback(toolset.aclose)
            opened[spec.name] = list(await toolset.open())
        yield opened


async def ask(tools: dict[str, list[Tool]], folder: Path, question: str) -> tuple[str, list[ToolResultPart]]:
    """Return what the agent says, and what its tools answered it."""
    scripted = load_files([HERE / "config.yaml"], environ={}).config.providers.scripted
    assert scripted is not None
    model = ScriptedProvider(models=scripted.models)
    store = SQLiteStore(str(folder / "test.db"))
    async with LocalCluster(HERE / "cluster.yaml", store, model=model, tools=tools) as market:
        answer = await market.chat("trader", question)
        messages = await market.messages(answer.session_id)
    await store.aclose()
    parts = [part for message in messages for part in message.parts if isinstance(part, ToolResultPart)]
    return answer.message.text, parts


async def test_the_agent_tells_a_price(tools: dict[str, list[Tool]], tmp_path: Path) -> None:
    said, (result,) = await ask(tools, tmp_path, "What does tea cost?")
    assert said == "tea costs 4.2."
    assert not result.is_error


async def test_the_agent_follows_a_price_until_the_market_closes(tools: dict[str, list[Tool]], tmp_path: Path) -> None:
    said, (result,) = await ask(tools, tmp_path, "Watch coffee for me.")
    assert said == "I have followed it until the market closed."
    (part,) = result.content
    assert isinstance(part, TextPart)
    *prices, ended = part.text.splitlines()
    assert prices[0] == '{"item":"coffee","price":6.0,"closing":false}'
    assert ended == "[4 messages; ended by: closing is true]"
