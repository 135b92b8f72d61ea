# ruff: noqa: S101 - a test asserts
"""The agent with its real tools and its service on a free port: no network, no key."""

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from goagents.messages import ToolResultPart
from goagents.providers.scripted import ScriptedProvider
from goagents.spec.load import load_files
from goagents.spec.tools import HttpToolSpec
from goagents.store.sqlite import SQLiteStore
from goagents.testing.cluster import LocalCluster
from goagents.tools.base import Tool, ToolEnvironment
from goagents.tools.http import build

HERE = Path(__file__).parent
KEY = "special-key"


@pytest.fixture
async def service() -> AsyncIterator[str]:
    """The service until the test ends; gives its URL."""
    found = importlib.util.spec_from_file_location("petstore_service", HERE / "petstore_service.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    runner = web.AppRunner(module.Petstore(KEY).application(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v2"
    await runner.cleanup()


@pytest.fixture
async def tools(service: str, request: pytest.FixtureRequest) -> AsyncIterator[dict[str, list[Tool]]]:
    """The tools of cluster.yaml, as `config.yaml` allows them, led to the service; `param` is another key."""
    values = {"${PETSTORE_URL:-http://127.0.0.1:8094/v2}": service, "${PETSTORE_KEY}": getattr(request, "param", KEY)}
    loaded = load_files([HERE / "config.yaml", HERE / "cluster.yaml"], environ={"PETSTORE_KEY": KEY})
    (spec,) = loaded.clusters[0].spec.agents[0].tools
    assert isinstance(spec, HttpToolSpec)
    toolset = build(spec, ToolEnvironment(lambda text: values.get(text, text), loaded.config.allow.addresses))
    yield {spec.name: list(await toolset.open())}
    await toolset.aclose()


async def ask(tools: dict[str, list[Tool]], folder: Path, *questions: str) -> tuple[list[str], list[ToolResultPart]]:
    """Return what the agent says, and what its tools answered it."""
    scripted = load_files([HERE / "config.yaml"], environ={}).config.providers.scripted
    assert scripted is not None
    model = ScriptedProvider(models=scripted.models)
    store = SQLiteStore(str(folder / "test.db"))
    async with LocalCluster(HERE / "cluster.yaml", store, model=model, tools=tools) as shop:
        answers = [await shop.chat("keeper", question) for question in questions]
        messages = [message for answer in answers for message in await shop.messages(answer.session_id)]
    await store.aclose()
    parts = [part for message in messages for part in message.parts if isinstance(part, ToolResultPart)]
    return [answer.message.text for answer in answers], parts


def test_a_tag_and_an_id_choose_what_is_offered(tools: dict[str, list[Tool]]) -> None:
    effects = {tool.definition.name: tool.definition.effect for tool in tools["petstore"]}
    assert effects == {
        "petstore_getInventory": "read",
        "petstore_placeOrder": "unsafe",
        "petstore_getOrderById": "read",
        "petstore_getPetById": "read",
    }
    assert all("api_key" not in str(tool.definition.parameters) for tool in tools["petstore"])


async def test_the_agent_uses_them_with_the_key(tools: dict[str, list[Tool]], tmp_path: Path) -> None:
    said, results = await ask(
        tools, tmp_path, "How many pets are available?", "Who is pet 2?", "Please buy 1 of pet 2", "Where is order 1?"
    )
    assert said == [
        "2 pets are available, 1 are sold.",
        "Goldie is available.",
        "Order 1 is placed.",
        "Order 1 of 1 is placed.",
    ]
    assert [result.is_error for result in results] == [False] * 4


@pytest.mark.parametrize("tools", ["another-key"], indirect=True)
async def test_with_another_key_the_service_refuses_and_the_agent_is_told(
    tools: dict[str, list[Tool]], tmp_path: Path
) -> None:
    (said,), (result,) = await ask(tools, tmp_path, "Who is pet 2?")
    assert said == "I cannot find that pet."
    assert "401" in str(result.content)
    assert "another-key" not in str(result.content)


async def test_what_is_not_there_is_an_error_that_the_agent_can_act_on(
    tools: dict[str, list[Tool]], tmp_path: Path
) -> None:
    said, results = await ask(tools, tmp_path, "Who is pet 9?", "Please buy 1 of pet 3")
    assert said == ["I cannot find that pet.", "That cannot be ordered."]
    assert [result.is_error for result in results] == [True, True]
