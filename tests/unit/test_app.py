"""The services of a process: built with the first request, renewed when the configuration's files change."""

import asyncio
import os
from pathlib import Path

import pytest
import yaml
from tests.support.engine import ALICE, applied, manifest

from goagents import app
from goagents.app import ServicesSource, close_services
from goagents.engine import clusters, runs
from goagents.engine.services import Services
from goagents.resources import ChatRequest
from goagents.settings import Settings

TOOL = {"type": "http", "name": "here", "url": "http://127.0.0.1:1/", "headers": {"X-Key": "${APP_TEST_KEY:-none}"}}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(app, "RELOAD_INTERVAL", 0.0)
    return written(tmp_path / "config.yaml")


def written(path: Path, text: str = "hello", delay: str = "0s", addresses: tuple[str, ...] = ()) -> Path:
    script = [{"text": text, "delay": delay}]
    sections = {"providers": {"scripted": {"models": {"echo": script}}}, "allow": {"addresses": list(addresses)}}
    return replaced(path, yaml.safe_dump(sections))


def replaced(path: Path, text: str) -> Path:
    path.write_text(text)
    stamp = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(stamp, stamp))
    return path


def source(config: Path) -> ServicesSource:
    return ServicesSource(Settings(config_paths=(str(config),), store=f"sqlite:///{config.parent / 'state.db'}"))


async def said(services: Services) -> str:
    handle = await runs.start(services, ALICE, "support.helper", ChatRequest(message="hi"), kind="chat")
    return (await handle.result()).message.text


async def tool_status(services: Services) -> str:
    (agent,) = (await clusters.get_cluster(services, ALICE, "default", "support")).agents
    return agent.tools[0].status


async def test_a_change_of_the_configuration_reaches_tools_that_are_open(config: Path):
    get = source(config)
    services = await get()
    await applied(services, manifest({"tools": [TOOL]}))
    await said(services)
    assert await tool_status(services) == "unavailable"
    written(config, "hello again", addresses=("127.0.0.1",))
    renewed = await get()
    assert await said(renewed) == "hello again"
    assert await tool_status(renewed) == "available"
    await close_services(renewed)


async def test_a_run_in_progress_keeps_what_it_began_with(config: Path):
    written(config, "the old words", delay="300ms")
    get = source(config)
    services = await get()
    await applied(services, manifest({}))
    running = asyncio.create_task(said(services))
    await asyncio.sleep(0.1)
    written(config, "the new words")
    renewed = await get()
    assert renewed is not services
    assert await said(renewed) == "the new words"
    assert await running == "the old words"
    assert await said(services) == "the old words"  # admitted before the change, started after it
    await close_services(renewed)


async def test_a_wrong_change_leaves_the_old_configuration(config: Path, capfd: pytest.CaptureFixture[str]):
    get = source(config)
    services = await get()
    replaced(config, "providers: {skripted: {}}")
    assert await get() is services
    assert "did you mean 'scripted'?" in capfd.readouterr().err
    replaced(config, "server: {timeout: 7s}")
    renewed = await get()
    assert renewed.config.server.timeout == 7
    await close_services(renewed)
