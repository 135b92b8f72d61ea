"""`goagents mcp`: a person signs in at the command line, and instances in other processes use it."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.cli_process import GOAGENTS, TIMEOUT, environment, running
from tests.support.http_tools import Serve, serve  # noqa: F401 - a fixture
from tests.support.mcp_oauth import AuthServer, People, agreeing
from tests.support.mcp_tools import eventually
from tests.support.stores import UnreliableStore

from goagents.client import AsyncClient
from goagents.store.sqlite import SQLiteStore

CALLER = Path(__file__).parents[1] / "support" / "mcp_caller.py"


async def goagents(*arguments: str, cwd: Path, **env: str) -> tuple[int, str, str]:
    """Run a command while this loop serves it; what `--no-browser` prints is opened by somebody who agrees."""
    process = await asyncio.create_subprocess_exec(
        *(*GOAGENTS, *arguments),
        cwd=cwd,
        env=environment(**env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    lines = []
    async with asyncio.timeout(TIMEOUT):
        errors = asyncio.create_task(process.stderr.read())
        async for line in process.stdout:
            lines.append(line.decode())
            if line.startswith(b"http") and "--no-browser" in arguments:
                await agreeing(lines[-1].strip())
        return await process.wait(), "".join(lines), (await errors).decode()


def configured(folder: Path, servers: Mapping[str, Any], **more: Any) -> str:
    text = yaml.safe_dump({"store": {"url": f"sqlite:///{folder}/store.db"}, "mcp_servers": dict(servers), **more})
    (folder / "goagents.yaml").write_text(text, encoding="utf-8")
    return "--config=goagents.yaml"


async def test_a_login_from_beginning_to_end(tmp_path: Path, serve: Serve):  # noqa: F811
    server = AuthServer(scopes=["read"])
    url = await serve(server.routes())
    servers = {"team": {"url": f"{url}/mcp", "oauth": {}}, "files": {"command": "files"}}
    config = configured(tmp_path, servers)

    status, out, _ = await goagents("mcp", "list", config, cwd=tmp_path)
    assert status == 0
    assert "nobody; run goagents mcp login team" in out
    assert "a program" in out

    status, out, err = await goagents("mcp", "login", "team", config, "--no-browser", cwd=tmp_path)
    assert status == 0, err
    assert "Signed in to team, which offers 1 tool; the login is renewed without you." in err
    assert out.startswith(f"{url}/authorize?")

    status, listed, err = await goagents("mcp", "list", "-o", "json", cwd=tmp_path, GOAGENTS_CONFIG="goagents.yaml")
    assert status == 0, err
    (row,) = (each for each in json.loads(listed)["items"] if each["name"] == "team")
    expected = {"name": "team", "address": f"{url}/mcp", "login": "signed in", "until": "renewed", "scopes": "read"}
    assert row == expected
    for token in (*server.access, *server.grants[0].refresh, *server.secrets.values()):
        assert token not in out + listed + err

    said = await calls(tmp_path, url, 1)
    assert said == [["TextPart(text='you sent Bearer [redacted]', type='text')"]]

    status, _, err = await goagents("mcp", "logout", "team", config, cwd=tmp_path)
    assert (status, err.strip()) == (0, "Signed out of team.")
    status, _, err = await goagents("mcp", "logout", "team", config, cwd=tmp_path)
    assert (status, err.strip()) == (0, "Nobody was signed in to team.")


async def test_a_browser_is_opened(tmp_path: Path, serve: Serve):  # noqa: F811
    server = AuthServer()
    url = await serve(server.routes())
    config = configured(tmp_path, {"team": {"url": f"{url}/mcp", "oauth": {}}})
    browser = tmp_path / "browser.py"
    browser.write_text("import sys, urllib.request; urllib.request.urlopen(sys.argv[1]).read()", encoding="utf-8")
    started = f"{sys.executable} {browser} %s"
    status, out, err = await goagents("mcp", "login", "team", config, cwd=tmp_path, BROWSER=started)
    assert status == 0, err
    assert "No browser could be started" not in err
    assert out.startswith(f"{url}/authorize?")
    assert len(server.grants) == 1


async def calls(folder: Path, url: str, processes: int, times: int = 1) -> list[list[str]]:
    """Return what the calls of so many processes came to, each making as many."""
    arguments = [sys.executable, str(CALLER), str(folder / "store.db"), f"{url}/mcp", str(times)]
    started = [
        await asyncio.create_subprocess_exec(
            *arguments, cwd=CALLER.parents[2], env=environment(), stdout=asyncio.subprocess.PIPE
        )
        for _ in range(processes)
    ]
    async with asyncio.timeout(2 * TIMEOUT):
        answers = await asyncio.gather(*(process.communicate() for process in started))
    return [json.loads(out) for out, _ in answers]


async def test_processes_that_renew_all_the_time_lose_no_login(tmp_path: Path, serve: Serve):  # noqa: F811
    server = AuthServer(lifetime=2)  # so short that each call renews it
    url = await serve(server.routes())
    store = SQLiteStore(str(tmp_path / "store.db"))
    await People(UnreliableStore(store)).sign_in(url)
    await store.aclose()
    said = await calls(tmp_path, url, 2, 15)
    assert {each for process in said for each in process} == {
        "TextPart(text='you sent Bearer [redacted]', type='text')"
    }
    assert server.asked_for("refresh_token") >= 30
    assert not server.grants[0].over


CLUSTER = """
apiVersion: goagents.dev/v1
kind: AgentCluster
metadata: {name: desk}
spec:
  agents:
    - name: clerk
      provider: scripted
      model: clerk
      tools: [{type: mcp, name: crm, server: team}]
"""
SCRIPT = [{"after": "crm_say", "failed": False, "text": "It said: {result}"}, {"after": "*", "text": "No tool."}]


async def test_a_run_does_without_until_somebody_has_signed_in(tmp_path: Path, serve: Serve):  # noqa: F811
    server = AuthServer()
    url = await serve(server.routes())
    more = {"providers": {"scripted": {"models": {"clerk": [*SCRIPT, {"tool_calls": [{"name": "crm_say"}]}]}}}}
    config = configured(tmp_path, {"team": {"url": f"{url}/mcp", "oauth": {}}}, **more)
    (tmp_path / "cluster.yaml").write_text(CLUSTER, encoding="utf-8")
    with running(config, "--cluster", tmp_path / "cluster.yaml", cwd=tmp_path) as one:
        async with AsyncClient(await asyncio.to_thread(lambda: one.url)) as client:
            assert (await client.chat("desk.clerk", "hello")).message.text == "No tool."
            (tool,) = (await client.get_agent("desk.clerk")).tools
            assert (tool.status, tool.detail) == (
                "unavailable",
                "crm: nobody is signed in: run `goagents mcp login team`",
            )
            assert server.authorized == []

            status, _, err = await goagents("mcp", "login", "team", config, "--no-browser", cwd=tmp_path)
            assert status == 0, err
            os.utime(tmp_path / "goagents.yaml", (0, 0))  # a new configuration opens tools anew, not in half a minute

            async def answers() -> bool:
                return (await client.chat("desk.clerk", "hello")).message.text == "It said: you sent Bearer [redacted]"

            await eventually(answers, "the tool is there")
        for token in (*server.access, *server.grants[0].refresh, *server.secrets.values()):
            assert token not in one.printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["login", "tema"], "mcp_servers has no 'tema'; did you mean 'team'?"),
        (["login", "robot"], "mcp_servers.robot: nobody signs in to it: the server signs in as itself"),
        (["login", "files"], "mcp_servers.files: nobody signs in to it: a program"),
        (["login", "plain"], "mcp_servers.plain: nobody signs in to it: it has no `oauth`"),
        (["login", "unset"], "mcp_servers.unset.oauth.client_secret needs THE_SECRET"),
        (["logout", "tema"], "mcp_servers has no 'tema'"),
    ],
)
async def test_what_cannot_be_signed_in_to_is_told(tmp_path: Path, arguments: list[str], message: str):
    machine = {"grant": "client_credentials", "client_id": "me", "client_secret": "x", "issuer": "https://a.example"}
    person = {"client_id": "me", "client_secret": "${THE_SECRET}", "issuer": "https://a.example"}
    servers = {
        "team": {"url": "https://team.example/mcp", "oauth": {}},
        "robot": {"url": "https://team.example/mcp", "oauth": machine},
        "unset": {"url": "https://team.example/mcp", "oauth": person},
        "plain": {"url": "https://team.example/mcp"},
        "files": {"command": "files"},
    }
    status, _, err = await goagents("mcp", *arguments, configured(tmp_path, servers), cwd=tmp_path)
    assert status == 1
    assert message in err


async def test_without_a_configuration_it_says_how_to_name_one(tmp_path: Path):
    status, _, err = await goagents("mcp", "list", cwd=tmp_path)
    assert (status, "--config FILE, or GOAGENTS_CONFIG" in err) == (1, True)
