"""Connections that break, are opened again, go idle and are closed; calls that are repeated, or are not."""

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest
from tests.support.cutting_proxy import cutting_proxy
from tests.support.http_tools import text_of
from tests.support.mcp_tools import HOME, McpOpener, call, command, eventually, named, running

from goagents.errors import ToolFailed, ToolUnavailable
from goagents.messages import TextPart
from goagents.tools.mcp_session import Terms


def pid_of(result: object) -> int:
    return int(str(result).rsplit(" ", 1)[1])


async def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("words", [(), ("legacy",), ("sse",)], ids=["stateless", "session", "sse"])
async def test_a_server_that_was_restarted_is_used_again(mcp: McpOpener, words: tuple[str, ...]):
    with running(*words) as server:
        toolset = mcp.toolset(server.url)
        tools = named(await toolset.open())
        server.stop()
        with pytest.raises(
            (ToolFailed, ToolUnavailable), match=r"cannot connect to 127\.0\.0\.1|closed the connection"
        ):
            await call(tools["kb_note"], text="lost")
        server.start()
        answers = await asyncio.gather(*(call(tools["kb_note"], text=f"note {n}") for n in range(20)))
        assert all(text_of(answer).startswith("noted") for answer in answers)
        written = [part.text for part in (await call(tools["kb_notes"])).content if isinstance(part, TextPart)]
        assert sorted(written) == sorted(f"note {n}" for n in range(20))  # each once
        assert not toolset.stale


async def test_a_session_that_the_server_forgot_costs_nobody_a_call(mcp: McpOpener):
    with running("legacy") as server:
        tools = await mcp.tools(server.url)
        server.stop()
        server.start()
        assert text_of(await call(tools["kb_note"], text="after")).startswith("noted")


async def test_an_unsafe_call_that_died_with_its_program_is_not_repeated(mcp: McpOpener):
    tools = await mcp.tools(command())
    first = pid_of(text_of(await call(tools["kb_note"], text="a")))
    with pytest.raises(ToolFailed, match="closed the connection before it answered; whether it acted is unknown"):
        await call(tools["kb_die"])
    second = pid_of(text_of(await call(tools["kb_note"], text="b")))  # another program, started for this call
    assert first != second
    assert await gone(first)


async def test_a_reading_call_that_died_with_its_program_is_repeated_once(mcp: McpOpener, tmp_path: Path):
    tools = await mcp.tools(command())
    assert text_of(await call(tools["kb_die_once"], flag=str(tmp_path / "flag"))) == "alive"


async def test_an_effect_that_the_entry_states_goes_before_the_servers(mcp: McpOpener, tmp_path: Path):
    tools = await mcp.tools(command(), effect="unsafe")
    with pytest.raises(ToolFailed, match="unknown"):
        await call(tools["kb_die_once"], flag=str(tmp_path / "flag"))


async def test_a_program_killed_between_calls_is_started_again(mcp: McpOpener):
    tools = await mcp.tools(command())
    pid = pid_of(text_of(await call(tools["kb_note"], text="a")))
    os.kill(pid, 9)
    await eventually(lambda: gone(pid), "it is dead")
    await call(tools["kb_notes"])  # it only reads, so it is repeated where nobody has noticed yet
    assert pid_of(text_of(await call(tools["kb_note"], text="b"))) != pid


async def test_the_calls_of_one_connection_fail_together_and_the_next_works(mcp: McpOpener):
    tools = await mcp.tools(command())
    slow = [asyncio.create_task(call(tools["kb_slow"], seconds=30)) for _ in range(5)]

    async def begun() -> bool:
        return text_of(await call(tools["kb_notes"])).count("begins") == 5

    await eventually(begun, "five calls begin")
    with pytest.raises(ToolFailed):
        await call(tools["kb_die"])
    results = await asyncio.gather(*slow, return_exceptions=True)
    assert [type(result) for result in results] == [ToolFailed] * 5
    assert text_of(await call(tools["kb_add"], a=1, b=1)) == "2"


async def test_an_idle_connection_is_closed_and_opened_again(mcp: McpOpener):
    toolset = mcp.toolset(command(), terms=Terms(idle=0.2))
    tools = named(await toolset.open())
    pid = pid_of(text_of(await call(tools["kb_note"], text="a")))
    await eventually(lambda: gone(pid), "the program has ended")
    assert pid_of(text_of(await call(tools["kb_note"], text="b"))) != pid


async def test_a_connection_in_use_is_not_idle(mcp: McpOpener):
    tools = named(await mcp.toolset(command(), terms=Terms(idle=0.2)).open())
    assert text_of(await call(tools["kb_slow"], seconds=1)) == "at last"


async def test_a_restarted_server_with_other_tools_is_noticed(mcp: McpOpener):
    with running() as server:
        toolset = mcp.toolset(server.url, terms=Terms(idle=0.2))
        tools = named(await toolset.open())
        assert "kb_grown" not in tools
        await call(tools["kb_grow"])
        await asyncio.sleep(0.5)
        toolset._stale = False  # as if nobody had listened
        await call(tools["kb_add"], a=1, b=1)
        assert toolset.stale


async def test_changes_are_heard_of_again_where_their_stream_was_cut(mcp: McpOpener):
    with running() as server:
        directly = await mcp.tools(server.url)
        async with cutting_proxy(f"127.0.0.1:{server.port}") as proxy:
            toolset = mcp.toolset(f"http://{proxy.address}/mcp", terms=Terms(listen=0.3))
            await toolset.open()
            await asyncio.sleep(0.2)  # it listens
            proxy.disconnect()
            await call(directly["kb_grow"])  # while nobody listens

            async def stale() -> bool:
                return toolset.stale

            async def settled() -> bool:
                await toolset.open()
                await asyncio.sleep(0.5)
                return not toolset.stale

            await eventually(stale, "what was missed is found")
            assert "kb_grown" in named(await toolset.open())
            await eventually(settled, "nothing more is to be heard of it")
            await call(directly["kb_grow"])
            await eventually(stale, "what comes now is heard of")


async def test_closing_ends_the_program(mcp: McpOpener):
    toolset = mcp.toolset(command())
    tools = named(await toolset.open())
    pid = pid_of(text_of(await call(tools["kb_note"], text="a")))
    await toolset.aclose()
    assert await gone(pid)


async def test_closing_while_calls_are_open_fails_them(mcp: McpOpener):
    toolset = mcp.toolset(command())
    tools = named(await toolset.open())
    slow = asyncio.create_task(call(tools["kb_slow"], seconds=30))
    await asyncio.sleep(0.2)
    await toolset.aclose()
    with pytest.raises((ToolFailed, ToolUnavailable)):
        await slow


async def test_opening_that_is_given_up_leaves_nothing_running(mcp: McpOpener):
    toolset = mcp.toolset(command(HOME / "raw.py", "never"))
    opening = asyncio.create_task(toolset.open())

    async def started() -> list[psutil.Process]:
        children = psutil.Process().children(recursive=True)
        return [child for child in children if "raw.py" in " ".join(child.cmdline())]

    (program,) = await eventually(started, "the program is started")
    began = time.monotonic()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert await gone(program.pid)
    assert time.monotonic() - began < 8  # the time a program has to end by itself, and not that of a whole opening
