"""Connections that fail, end, idle and come back; handshakes that are refused; what nobody may see."""

import asyncio
import json
import logging
import ssl
from pathlib import Path

import pytest
from aiohttp import web
from tests.support.http_tools import Lent, Serve, text_of
from tests.support.outbound import FakeNames
from tests.support.ports import free_port
from tests.support.websocket_tools import CORRELATED, call, server, toolset_of, websocket_tool
from websockets.asyncio.server import ServerConnection
from websockets.typing import Subprotocol

from goagents.errors import AddressRefused, ToolError, ToolFailed, ToolTimedOut, ToolUnavailable
from goagents.tools.websocket_keeper import Terms
from goagents.tools.websocket_session import MAX_MESSAGE


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


def settled() -> bool:
    """Whether no task but the test's own and the servers' is left."""
    return not any("websocket_" in repr(task.get_coro()) for task in asyncio.all_tasks())


@pytest.mark.parametrize("effect", ["unsafe", "idempotent"])
async def test_a_server_that_dies_in_a_call_and_comes_back(effect: str):
    port = free_port()
    seen = []

    async def dying(socket: ServerConnection) -> None:
        async for message in socket:
            seen.append(json.loads(message)["text"])
            if len(seen) == 1:
                socket.transport.abort()
                return
            await socket.send(message)

    async with server(dying, port) as url, websocket_tool(url=url, effect=effect, **CORRELATED) as tool:
        if effect == "unsafe":
            with pytest.raises(ToolFailed, match=r"lost the connection; whether the message took effect is unknown"):
                await call(tool, message="once")
            assert seen == ["once"]
        assert '"text":"again"' in text_of(await call(tool, message="again"))
        assert len(seen) == 2


async def test_every_waiting_call_is_told_and_the_next_one_finds_the_new_server():
    port = free_port()
    arrived = asyncio.Queue[object]()

    async def silent(socket: ServerConnection) -> None:
        async for message in socket:
            arrived.put_nowait(message)

    async with websocket_tool(url=f"ws://127.0.0.1:{port}", **CORRELATED) as tool:
        async with server(silent, port):
            calls = [asyncio.create_task(call(tool, message=f"m{i}")) for i in range(10)]
            for _ in calls:
                await arrived.get()
        for failed in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(failed, ToolFailed)
            assert "1001 going away" in str(failed)
        with pytest.raises(ToolFailed, match=r"cannot connect to 127.0.0.1: Connection refused"):
            await call(tool, message="nobody there")
        async with server(echo, port):
            assert "back" in text_of(await call(tool, message="back"))


async def test_attempts_go_on_until_the_server_is_there():
    port = free_port()
    reconnect = {"attempts": 10, "backoff": "20ms", "max_backoff": "40ms"}
    async with websocket_tool(url=f"ws://127.0.0.1:{port}", reconnect=reconnect, **CORRELATED) as tool:
        calls = [asyncio.create_task(call(tool, message=f"m{i}")) for i in range(3)]
        await asyncio.sleep(0.05)
        async with server(echo, port):
            for i, result in enumerate(await asyncio.gather(*calls)):
                assert f'"m{i}"' in text_of(result)


async def test_attempts_end_with_the_time_for_the_call():
    url = f"ws://127.0.0.1:{free_port()}"
    async with websocket_tool(url=url, reconnect={"attempts": 10, "backoff": "1s"}, timeout="100ms") as tool:
        with pytest.raises(ToolTimedOut, match=r"no connection within 0.1 s: cannot connect to .*: Connection refused"):
            await call(tool, message="x")
    assert settled()


async def test_a_close_code_and_its_reason_are_told():
    async def handler(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(1008, "no such plan")

    async with server(handler) as url, websocket_tool(url=url) as tool:
        for _ in range(2):
            with pytest.raises(ToolFailed, match=r"closed the connection \(1008 policy violation: no such plan\)"):
                await call(tool, message="x")


async def test_a_message_too_long_ends_its_connection_only():
    async def handler(socket: ServerConnection) -> None:
        async for message in socket:
            await socket.send("x" * (MAX_MESSAGE + 1) if "huge" in str(message) else message)

    async with server(handler) as url, websocket_tool(url=url) as tool:
        with pytest.raises(ToolFailed, match=r"sent a message of more than 4 MiB"):
            await call(tool, message="huge")
        assert "small" in text_of(await call(tool, message="small"))


async def test_a_long_message_arrives_whole_both_ways():
    async with server(echo, max_size=MAX_MESSAGE) as url, websocket_tool(url=url, message="{message}") as tool:
        text = "ä" * 1_000_000
        assert text_of(await call(tool, message=text)) == text


async def test_a_server_that_answers_no_ping_is_given_up(serve: Serve):
    async def deaf(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    url = (await serve({"/": deaf})).replace("http", "ws")
    async with websocket_tool(url=url, heartbeat="100ms", **CORRELATED) as tool:
        with pytest.raises(ToolFailed, match=r"127.0.0.1 did not answer a ping within 0.05 s"):
            await call(tool, message="x")


async def test_a_connection_that_idles_is_closed_and_opened_again():
    opened = []

    async def handler(socket: ServerConnection) -> None:
        opened.append(socket)
        await echo(socket)

    async with server(handler) as url, websocket_tool(url=url, terms=Terms(idle=0.05), **CORRELATED) as tool:
        await call(tool, message="x")
        await asyncio.wait_for(opened[0].wait_closed(), 60)
        assert opened[0].close_code == 1000
        assert "again" in text_of(await call(tool, message="again"))
    assert len(opened) == 2


@pytest.mark.parametrize("floods", [False, True])
async def test_nothing_is_left_after_closing_whatever_the_server_does(serve: Serve, floods: bool):
    async def stuck(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoclose=False)
        await socket.prepare(request)
        while floods:  # reads nothing, answers no close frame
            await socket.send_str("x" * 1000)
            await asyncio.sleep(0)
        await asyncio.sleep(30)
        return socket

    url = (await serve({"/": stuck})).replace("http", "ws")
    async with websocket_tool(url=url, terms=Terms(farewell=0.1), **CORRELATED) as tool:
        waiting = asyncio.create_task(call(tool, message="x" * 1_000_000))
        await asyncio.sleep(0.05)
    with pytest.raises(ToolError):
        await waiting
    assert settled()


async def test_closing_while_a_connection_is_being_opened(serve: Serve):
    asked = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        asked.set()
        await asyncio.sleep(30)
        return web.Response()

    url = (await serve({"/": handler})).replace("http", "ws")
    async with websocket_tool(url=url, **CORRELATED) as tool:
        calls = [asyncio.create_task(call(tool, message="x")) for _ in range(2)]
        await asked.wait()
    for failed in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(failed, ToolUnavailable)
        assert "the toolset is closed" in str(failed)
    assert settled()


async def test_cancelling_a_call_that_waits_for_a_connection_leaves_it_to_the_others(serve: Serve):
    go_on = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        await go_on.wait()
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    url = (await serve({"/": handler})).replace("http", "ws")
    async with websocket_tool(url=url, **CORRELATED) as tool:
        first, second = (asyncio.create_task(call(tool, message=name)) for name in ("first", "second"))
        await asyncio.sleep(0.02)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go_on.set()
        assert "second" in text_of(await second)


async def test_opening_again_keeps_what_is_open():
    opened = []

    async def handler(socket: ServerConnection) -> None:
        opened.append(socket)
        await echo(socket)

    async with server(handler) as url:
        toolset = toolset_of(url=url, **CORRELATED)
        (before,) = await toolset.open()
        await call(before, message="x")
        (after,) = await toolset.open()
        await asyncio.gather(call(before, message="x"), call(after, message="x"))
        await toolset.aclose()
        await toolset.aclose()
    assert len(opened) == 1


async def test_answers_that_repeat_another_id_are_told_to_the_operator(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "goagents.tools")

    async def handler(socket: ServerConnection) -> None:
        async for _ in socket:
            await socket.send('{"id": true}')
            await socket.send('{"id": null}')

    async with server(handler) as url, websocket_tool(url=url, timeout="100ms", **CORRELATED) as tool:
        with pytest.raises(ToolTimedOut):
            await call(tool, message="x")
    assert "no answer, but 2 messages that repeat no awaited id" in caplog.text


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, r"HTTP 401 Unauthorized; are the `headers` right"),
        (404, r"HTTP 404 Not Found; is this"),
        (503, "HTTP 503"),
    ],
)
async def test_a_refused_handshake(serve: Serve, status: int, told: str):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, text=f"you sent {request.headers['Authorization']}")

    lent = Lent({"KEY": "secret-value-1"})
    url = (await serve({"/": handler})).replace("http", "ws")
    headers = {"Authorization": "Bearer ${KEY}"}
    async with websocket_tool(url=f"{url}/?key=${{KEY}}", headers=headers, lent=lent) as tool:
        with pytest.raises(ToolFailed, match=told) as caught:
            await call(tool, message="x")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("to", ["http://127.0.0.2:1/", "ws://127.0.0.1:1/", "/elsewhere"])
async def test_a_redirect_is_not_followed(serve: Serve, to: str):
    reached = []

    async def handler(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response(status=302, headers={"Location": to})

    url = (await serve({"/{rest:.*}": handler})).replace("http", "ws")
    async with websocket_tool(url=url) as tool:
        with pytest.raises(AddressRefused, match=r"redirects \(HTTP 302\), and a WebSocket follows no redirect"):
            await call(tool, message="x")
    assert reached == ["/"]


async def test_a_handshake_that_never_ends(serve: Serve):
    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    url = (await serve({"/": handler})).replace("http", "ws")
    async with websocket_tool(url=url, terms=Terms(setup=0.05)) as tool:
        with pytest.raises(ToolTimedOut, match=r"127.0.0.1 did not answer within 0.05 s"):
            await call(tool, message="x")


@pytest.mark.parametrize("url", ["ws://127.0.0.1:9/", "wss://169.254.169.254/", "ws://localhost/", "ws://2130706433/"])
async def test_addresses_are_refused_before_anything_is_sent(url: str):
    with pytest.raises(ToolUnavailable, match=r"^ws: "):
        async with websocket_tool(url=url, allowed=()):
            raise AssertionError("opened")


async def test_a_name_is_looked_up_once_and_checked():
    async with server(echo) as url:
        port = int(url.rpartition(":")[2])
        names = FakeNames(["127.0.0.1"], ["10.0.0.1"])
        named = f"ws://rebind.example:{port}/"
        async with websocket_tool(url=named, allowed=("127.0.0.1",), lookup=names, connection="per_call") as tool:
            for _ in range(2):
                await call(tool, message="x")
        assert names.asked == [("rebind.example", port)]
        async with websocket_tool(url=named, allowed=(), lookup=FakeNames(["127.0.0.1"])) as tool:
            with pytest.raises(AddressRefused, match=r"rebind.example leads to a loopback address"):
                await call(tool, message="x")


async def test_certificates_are_verified(authority: tuple[Path, ssl.SSLContext]):
    ca_file, context = authority
    async with server(echo, ssl=context) as url:
        async with websocket_tool(url=url, ca_bundle=str(ca_file)) as tool:
            assert "hello" in text_of(await call(tool, message="hello"))
        async with websocket_tool(url=url, reconnect={"attempts": 5}) as tool:
            with pytest.raises(ToolFailed, match=r"certificate of 127.0.0.1 is refused.*`ca_bundle`"):
                await call(tool, message="hello")


async def test_headers_and_subprotocol_arrive():
    async def handler(socket: ServerConnection) -> None:
        await socket.recv()
        assert socket.request is not None
        key = socket.request.headers["X-Key"]
        await socket.send(json.dumps({"agent": socket.request.headers["User-Agent"], "spoken": socket.subprotocol}))
        await socket.recv()
        await socket.send(f"your key is {key}")
        await socket.recv()
        await socket.close(1011, f"bad key {key}")

    lent = Lent({"KEY": "secret-value-1"})
    offered = [Subprotocol("v2.chat"), Subprotocol("v1.chat")]
    async with (
        server(handler, subprotocols=offered[1:]) as url,
        websocket_tool(url=url, subprotocols=offered, headers={"X-Key": "${KEY}"}, lent=lent) as tool,
    ):
        told = json.loads(text_of(await call(tool, message="x")))
        assert told["spoken"] == "v1.chat"
        assert told["agent"].startswith("goagents/")
        assert text_of(await call(tool, message="x")) == "your key is [redacted]"
        with pytest.raises(ToolFailed, match=r"1011 internal error: bad key \[redacted\]"):
            await call(tool, message="x")


async def test_a_server_that_takes_no_subprotocol(serve: Serve):
    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        return socket

    url = (await serve({"/": handler})).replace("http", "ws")
    async with websocket_tool(url=url, subprotocols=["v2.chat"]) as tool:
        with pytest.raises(ToolFailed, match=r"takes none of the `subprotocols` \(v2.chat\)"):
            await call(tool, message="x")


async def test_secrets_are_resolved_where_they_are_used_and_never_shown(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "goagents")
    lent = Lent({"KEY": "secret-value-1"})
    message = {"auth": "Bearer ${KEY}", "say": "{message}"}
    async with server(echo) as url, websocket_tool(url=url, message=message, lent=lent) as tool:
        assert "secret" not in repr(tool)
        told = json.loads(text_of(await call(tool, message="${KEY}")))
        assert told == {"auth": "Bearer [redacted]", "say": "${KEY}"}
        lent.variables["KEY"] = "secret-value-2"
        assert "secret" not in text_of(await call(tool, message="x"))
        del lent.variables["KEY"]
        with pytest.raises(ToolFailed, match="KEY is not set"):
            await call(tool, message="x")
    assert "secret-value" not in caplog.text


async def test_an_unset_header_makes_it_unavailable():
    with pytest.raises(ToolUnavailable, match="ws: the variable KEY is not set"):
        async with websocket_tool(url="wss://example.com", headers={"X": "${KEY}"}):
            raise AssertionError("opened")


@pytest.mark.parametrize(
    ("base", "told"),
    [("https://example.com", "has to start with"), ("wss://u:secret@example.com", "credentials belong into")],
)
async def test_a_url_made_of_variables_is_checked(base: str, told: str):
    with pytest.raises(ToolUnavailable, match=told):
        async with websocket_tool(url="${BASE}/x", lent=Lent({"BASE": base})):
            raise AssertionError("opened")
