"""A third party's package, installed by pip, served by `goagents run`: its type of tool, and its function."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from tests.support.acme import PACKAGE
from tests.support.cli_process import Running, goagents, running

from goagents.client import Client

ACME = {"type": "acme", "name": "counter", "greeting": "Welcome", "bell": {"rings": 2}}
SHOUT = {"type": "python", "name": "shout", "target": "acme-shout", "effect": "read"}
HTTP = {"type": "http", "name": "site", "url": "https://site.example.com"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, as pip installs it."""
    folder = tmp_path_factory.mktemp("acme")
    source = folder / "source"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-build-isolation", "--no-deps", "--target", str(folder / "site")]
    subprocess.run([*pip, *options, str(source)], check=True, timeout=120, capture_output=True)
    return folder / "site"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    steps: list[dict[str, Any]] = [
        {"after": "*", "text": "{result}"},
        {"when": "shout", "tool_calls": [{"name": "shout", "arguments": {"text": "hello"}}]},
        {"tool_calls": [{"name": "counter_ring", "arguments": {"who": "Ada"}}]},
    ]
    config = {"providers": {"scripted": {"models": {"m": steps}}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(manifest("shop", ACME, SHOUT, HTTP)))
    return tmp_path


def manifest(name: str, *tools: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "goagents.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": name},
        "spec": {"agents": [{"name": "clerk", "provider": "scripted", "model": "m", "tools": list(tools)}]},
    }


def posted(server: Running, *tools: dict[str, Any]) -> tuple[int, list[str]]:
    """Send a cluster and return the status, and the places of what is wrong."""
    body = manifest("posted", *tools)
    answer = httpx2.post(f"{server.url}/api/v1/clusters", json=body, timeout=60, trust_env=False)
    return answer.status_code, [error["path"] for error in answer.json().get("errors", [])]


def allow(folder: Path, **names: list[str]) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["allow"] = names
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_a_type_and_a_function_of_a_package_are_used(folder: Path, site: Path):
    env = {"PYTHONPATH": str(site)}
    with running(cwd=folder, env=env) as server, Client(server.url) as client:
        assert client.chat("shop.clerk", "ring").message.text == "Ding! Ding! Welcome, Ada!"
        assert client.chat("shop.clerk", "shout").message.text == "HELLO"
        tools = client.get_agent("shop.clerk").tools
        assert [(tool.name, tool.type, tool.status) for tool in tools][:2] == [
            ("counter", "acme", "available"),
            ("shout", "python", "available"),
        ]
        assert posted(server, ACME) == (422, ["spec.agents.0.tools.0.type"])
        assert posted(server, SHOUT) == (422, ["spec.agents.0.tools.0.target"])
    allow(folder, tool_types=["acme"], python=["acme-shout"])
    with running(cwd=folder, env=env) as server, Client(server.url) as client:
        assert posted(server, ACME, SHOUT) == (201, [])
        assert client.chat("posted.clerk", "ring").message.text == "Ding! Ding! Welcome, Ada!"
        assert client.chat("posted.clerk", "shout").message.text == "HELLO"


def test_where_the_package_is_gone_its_tools_are_and_nothing_else(folder: Path, site: Path):
    env = {"PYTHONPATH": str(site)}
    with running(cwd=folder, env=env) as server:
        assert server.url
    (folder / "cluster.yaml").write_text(yaml.safe_dump(manifest("other")))
    with running(cwd=folder) as server, Client(server.url) as client:
        assert client.get_cluster("shop").name == "shop"
        counter = client.get_agent("shop.clerk").tools[0]
        assert (counter.name, counter.type, counter.status) == ("counter", "acme", "unavailable")
        assert "No package here brings the tool type 'acme'" in (counter.detail or "")
        assert client.chat("shop.clerk", "shout").message.text.startswith("There is no tool")
        assert client.get_agent("shop.clerk").tools[1].status == "unavailable"


def test_validate_says_what_is_wrong_and_what_is_unknown(folder: Path, site: Path):
    (folder / "cluster.yaml").write_text(yaml.safe_dump(manifest("shop", {**ACME, "bell": {"rings": 10}})))
    env = {"PYTHONPATH": str(site)}
    wrong = goagents("validate", "config.yaml", "cluster.yaml", cwd=folder, env=env)
    assert wrong.returncode == 1
    assert "spec.agents.0.tools.0.bell.rings: should be less than or equal to 9" in wrong.stdout
    unknown = goagents("validate", "config.yaml", "cluster.yaml", cwd=folder)
    assert unknown.returncode == 1
    assert "unknown type 'acme'; known are http, mcp, websocket, python" in unknown.stdout


def test_the_working_directory_is_no_place_for_modules(folder: Path):
    (folder / "local_tools.py").write_text('def f() -> str:\n    """F."""\n    return "found"\n')
    tool = {"type": "python", "name": "shout", "target": "local_tools:f"}
    (folder / "cluster.yaml").write_text(yaml.safe_dump(manifest("shop", tool)))
    with running(cwd=folder) as server, Client(server.url) as client:
        client.chat("shop.clerk", "hi")
        detail = client.get_agent("shop.clerk").tools[0].detail or ""
        assert "there is no module 'local_tools' here" in detail
    config = yaml.safe_load((folder / "config.yaml").read_text()) | {"python": {"path": ["."]}}
    config["providers"]["scripted"]["models"]["m"][1]["tool_calls"][0]["arguments"] = {}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with running(cwd=folder) as server, Client(server.url) as client:
        assert client.chat("shop.clerk", "shout").message.text == "found"
