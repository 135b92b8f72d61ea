"""Programs as servers: what they are given, what they may do wrong, and that none of them outlives its toolset."""

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.support.http_tools import text_of
from tests.support.mcp_tools import HOME, SAMPLE, McpOpener, call, command, eventually, named

from goagents.errors import ToolFailed, ToolUnavailable
from goagents.spec.load import load_files
from goagents.tools.mcp_session import Terms

RAW = HOME / "raw.py"
QUICK = Terms(setup=1.0)


def raw(fault: str) -> str:
    return command(RAW, fault)


async def test_an_old_server_without_discovery_works(mcp: McpOpener):
    tools = await mcp.tools(raw("none"))
    assert text_of(await call(tools["kb_say"])).startswith("said by")
    assert tools["kb_say"].definition.parameters == {"type": "object", "properties": {}}


async def test_lines_that_are_no_messages_are_skipped_and_logged(mcp: McpOpener, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "goagents")
    tools = await mcp.tools(raw("garbage"))
    assert text_of(await call(tools["kb_say"])).startswith("said by")
    assert "(not a message of the protocol) Loading… {not json" in caplog.text


async def test_a_slow_start_is_waited_for(mcp: McpOpener):
    tools = await mcp.tools(raw("slow-start"))
    assert text_of(await call(tools["kb_say"])).startswith("said by")


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ("/no/such/program --x", "kb: cannot start /no/such/program: No such file or directory"),
        ("knowlege-base", r"nor has `mcp_servers` such a name: did you mean 'knowledge-base'\?$"),
        ("notes", r"cannot start notes: No such file .*; nor has `mcp_servers` such a name: it has knowledge-base, x$"),
        (raw("crash"), "ended the connection before it was ready. It ended with status 7. It last wrote: cannot open"),
        (raw("never"), r"was not ready within 1 s\."),
        (raw("bad-list"), "does not speak the protocol: tools.0.inputSchema"),
        (raw("endless-list"), "its list of tools does not end within 10000 tools"),
        ("unclosed 'quote", "the command line cannot be read: No closing quotation"),
    ],
)
async def test_a_program_that_cannot_be_used_says_why(mcp: McpOpener, server: str, reason: str):
    servers = {name: {"url": "https://x.example/mcp"} for name in ("x", "knowledge-base")}
    toolset = mcp.toolset(server, terms=QUICK, servers=servers)
    with pytest.raises(ToolUnavailable, match=reason):
        await toolset.open()


async def test_where_no_name_is_configured_it_says_so(mcp: McpOpener):
    with pytest.raises(ToolUnavailable, match=r"nor has `mcp_servers` such a name: it is empty$"):
        await mcp.toolset("notes").open()


async def test_a_program_works_in_its_folder(mcp: McpOpener, tmp_path: Path):
    (tmp_path / "server.py").write_text(SAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    entry = {"command": sys.executable, "args": ["server.py", "stdio"], "cwd": str(tmp_path)}
    tools = await mcp.tools("here", servers={"here": entry})
    assert text_of(await call(tools["kb_add"], a=1, b=1)) == "2"
    gone = entry | {"cwd": str(tmp_path / "gone")}
    with pytest.raises(ToolUnavailable, match=r"cannot start .* in .*/gone: No such file or directory$"):
        await mcp.toolset("here", servers={"here": gone}).open()


def test_the_folder_is_relative_to_the_file(tmp_path: Path):
    path = tmp_path / "goagents.yaml"
    path.write_text("mcp_servers: {here: {command: python, cwd: tools}}", encoding="utf-8")
    assert load_files([path]).config.mcp_servers["here"].cwd == str(tmp_path / "tools")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("large", "the server answered with more than 16 MiB"),
        ("late-id", "the server answered with more than 16 MiB"),
        ("wrong-shape", "the server's answer is not valid: .*; whether it acted is unknown"),
        ("unknown-part", "the server's answer is not valid: .*; whether it acted is unknown"),
        ("error-code", r"the database is down \(-32000\)"),
        ("flood", "closed the connection before it answered"),
    ],
)
async def test_a_wrong_answer_fails_its_call(mcp: McpOpener, fault: str, reason: str):
    tools = await mcp.tools(raw(fault))
    with pytest.raises(ToolFailed, match=reason):
        await call(tools["kb_say"])


async def test_after_an_answer_beyond_the_bound_the_program_goes_on(mcp: McpOpener):
    toolset = mcp.toolset(raw("large"))
    tools = named(await toolset.open())
    for _ in range(2):
        with pytest.raises(ToolFailed, match="16 MiB"):
            await call(tools["kb_say"])
    assert len(await toolset.open()) == 1


async def test_a_program_that_ignores_sigterm_is_killed(mcp: McpOpener):
    toolset = mcp.toolset(raw("stubborn"))
    tools = named(await toolset.open())
    pid = int(text_of(await call(tools["kb_say"])).rsplit(" ", 1)[1])
    await toolset.aclose()
    assert not psutil.pid_exists(pid)


async def test_the_children_of_a_program_end_with_it(mcp: McpOpener, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "goagents")
    toolset = mcp.toolset(raw("child"))
    await toolset.open()
    child = int(caplog.text.partition("child ")[2].split()[0])
    assert psutil.pid_exists(child)
    await toolset.aclose()

    async def gone() -> bool:
        return not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE

    await eventually(gone, "the child is gone")


async def test_a_program_gets_its_own_variables_and_none_of_ours(mcp: McpOpener, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key-of-ours")
    server = {"command": sys.executable, "args": [str(SAMPLE), "stdio"], "env": {"REGION": "north"}}
    tools = await mcp.tools("sample", servers={"sample": server})
    assert text_of(await call(tools["kb_variable"], name="REGION")) == "north"
    assert text_of(await call(tools["kb_variable"], name="ANTHROPIC_API_KEY")) == "(not set)"
    assert text_of(await call(tools["kb_variable"], name="PATH")) == os.environ["PATH"]


async def test_standard_error_is_logged_without_the_programs_secrets(mcp: McpOpener, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "goagents")
    server = {"command": sys.executable, "args": [str(SAMPLE), "stdio"], "env": {"SAMPLE_KEY": "sk-very-secret"}}
    toolset = mcp.toolset("sample", servers={"sample": server})
    await toolset.open()
    assert "tool kb: its server: sample: ready, and the key is [redacted]" in caplog.text
    assert "sk-very-secret" not in caplog.text + repr(toolset._target) + repr(toolset._environment.mcp_servers)


async def test_references_on_a_command_line_stay_one_argument(mcp: McpOpener, tmp_path: Path):
    mcp.lent.variables = {"PROGRAM": str(RAW), "FAULT": "none; touch x"}
    with pytest.raises(ToolUnavailable, match="It ended with status 0"):
        await mcp.toolset(f"{sys.executable} -c 'import sys; sys.exit(len(sys.argv) != 2)' ${{FAULT}}").open()
    tools = await mcp.tools(f"{sys.executable} ${{PROGRAM}} none")
    assert "kb_say" in tools


async def test_a_posted_cluster_starts_nothing_but_what_the_configuration_names(mcp: McpOpener):
    with pytest.raises(ToolUnavailable, match=r"is no entry of the server's `mcp_servers:`.*starts no command"):
        await mcp.toolset(command(), trusted=False).open()
    server = {"command": sys.executable, "args": [str(RAW), "none"]}
    assert "kb_say" in await mcp.tools("raw", trusted=False, servers={"raw": server})


async def test_headers_do_not_go_with_a_program(mcp: McpOpener):
    with pytest.raises(ToolUnavailable, match="`headers` go with a URL"):
        await mcp.toolset(command(), headers={"X-A": "b"}).open()


async def test_a_call_without_an_answer_can_be_given_up(mcp: McpOpener):
    tools = await mcp.tools(raw("silent-call"))
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await call(tools["kb_say"])
    assert time.monotonic() - began < 5
