"""`mode: request`: which message is the answer to which call, over a real server."""

import asyncio
import json

import pytest
from tests.support.http_tools import text_of
from tests.support.websocket_tools import CORRELATED, call, server, websocket_tool
from websockets.asyncio.server import ServerConnection

from goagents.errors import ToolInvalidArguments, ToolTimedOut, ToolUnavailable


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


async def test_the_next_message_is_the_answer():
    async with server(echo) as url, websocket_tool(url=url) as tool:
        assert tool.definition.parameters["required"] == ["message"]
        assert tool.definition.effect == "unsafe"
        assert text_of(await call(tool, message="hello")) == '{"message":"hello"}'


async def test_text_mode_sends_a_text():
    async with server(echo) as url, websocket_tool(url=url, message="SAY {message}!") as tool:
        assert text_of(await call(tool, message='a "b" ä')) == 'SAY a "b" ä!'


async def test_answers_out_of_order_find_their_calls():
    opened = []

    async def backwards(socket: ServerConnection) -> None:
        opened.append(socket)
        held = [json.loads(await socket.recv()) for _ in range(3)]
        await socket.send(json.dumps({"push": "of no interest"}))
        await socket.send("no JSON")
        await socket.send(b"\x00")
        await socket.send(json.dumps({"id": "of nobody"}))
        for asked in reversed(held):
            await socket.send(json.dumps({"id": asked["id"], "said": asked["text"]}))

    async with server(backwards) as url, websocket_tool(url=url, **CORRELATED) as tool:
        results = await asyncio.gather(*(call(tool, message=f"m{i}") for i in range(3)))
        assert [json.loads(text_of(result))["said"] for result in results] == ["m0", "m1", "m2"]
    assert len(opened) == 1


@pytest.mark.parametrize("numeric", [False, True])
async def test_fifty_concurrent_calls_share_one_connection(numeric: bool):
    opened = []

    async def answer(socket: ServerConnection, message: str) -> None:
        asked = json.loads(message)
        await asyncio.sleep(hash(asked["text"]) % 20 / 1000)
        await socket.send(json.dumps({"reply": {"to": asked["meta"]["id"]}, "said": asked["text"]}))

    async def handler(socket: ServerConnection) -> None:
        opened.append(socket)
        async with asyncio.TaskGroup() as group:
            async for message in socket:
                group.create_task(answer(socket, str(message)))

    correlation = {"field": "meta.id", "answer": "reply.to", "numeric": numeric}
    async with (
        server(handler) as url,
        websocket_tool(url=url, message={"text": "{message}"}, correlation=correlation) as tool,
    ):
        results = await asyncio.gather(*(call(tool, message=f"m{i}") for i in range(50)))
        answers = [json.loads(text_of(result)) for result in results]
        assert [found["said"] for found in answers] == [f"m{i}" for i in range(50)]
        ids = {found["reply"]["to"] for found in answers}
        assert len(ids) == 50
        assert not numeric or ids == set(range(1, 51))
    assert len(opened) == 1


async def test_without_correlation_calls_take_turns():
    at_once = [0, 0]

    async def handler(socket: ServerConnection) -> None:
        async for message in socket:
            at_once[0] += 1
            at_once[1] = max(at_once)
            await asyncio.sleep(0.002)
            await socket.send(message)
            at_once[0] -= 1

    async with server(handler) as url, websocket_tool(url=url, message="{message}") as tool:
        results = await asyncio.gather(*(call(tool, message=f"m{i}") for i in range(10)))
        assert [text_of(result) for result in results] == [f"m{i}" for i in range(10)]
    assert at_once[1] == 1


async def test_per_call_opens_and_closes_one_each():
    closed = []

    async def handler(socket: ServerConnection) -> None:
        await echo(socket)
        closed.append(socket.close_code)

    async with server(handler) as url:
        async with websocket_tool(url=url, connection="per_call", message="{message}") as tool:
            results = await asyncio.gather(*(call(tool, message=f"m{i}") for i in range(5)))
            assert sorted(text_of(result) for result in results) == [f"m{i}" for i in range(5)]
        for _ in range(100):
            if len(closed) == 5:
                break
            await asyncio.sleep(0.01)
    assert closed == [1000] * 5


async def test_arguments_keep_their_types_and_absent_ones_leave_no_field():
    parameters = {
        "type": "object",
        "properties": {"count": {"type": "integer"}, "tags": {"type": "array"}, "who": {"type": "string"}},
    }
    message = {
        "n": "{count}",
        "list": ["{tags}", 1],
        "text": "{count} for {who}",
        "as_is": "{{count}}",
        "key": "{call.key}",
    }
    async with server(echo) as url, websocket_tool(url=url, parameters=parameters, message=message) as tool:
        assert json.loads(text_of(await call(tool, count=3, tags=["a"], who="${HOME} {tags}"))) == {
            "n": 3,
            "list": [["a"], 1],
            "text": "3 for ${HOME} {tags}",
            "as_is": "{count}",
            "key": "run_1/3/call_1",
        }
        sent = json.loads(text_of(await call(tool)))
        assert sent == {"list": [1], "text": " for ", "as_is": "{count}", "key": "run_1/3/call_1"}


async def test_the_id_needs_an_object_to_go_into():
    parameters = {"type": "object", "properties": {"meta": {}}}
    async with (
        server(echo) as url,
        websocket_tool(url=url, parameters=parameters, message={"m": "{meta}"}, correlation={"field": "m.id"}) as tool,
    ):
        assert json.loads(text_of(await call(tool, meta={"a": 1})))["m"]["a"] == 1
        with pytest.raises(ToolInvalidArguments, match="no object"):
            await call(tool, meta=[1])


async def test_half_a_surrogate_pair_is_refused():
    async with server(echo) as url, websocket_tool(url=url) as tool:
        with pytest.raises(ToolInvalidArguments, match="surrogate"):
            await call(tool, message="\ud800")
        assert text_of(await call(tool, message="then")) == '{"message":"then"}'


async def test_binary_and_empty_answers_become_notes():
    async def handler(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(b"\x00" * 42)
        await socket.recv()
        await socket.send("")

    async with server(handler) as url, websocket_tool(url=url) as tool:
        assert text_of(await call(tool, message="x")) == "[a binary message of 42 bytes is not shown]"
        assert text_of(await call(tool, message="x")) == "[an empty message]"


async def test_a_server_that_never_answers():
    async def silent(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with server(silent) as url, websocket_tool(url=url, timeout="50ms", **CORRELATED) as tool:
        with pytest.raises(ToolTimedOut, match=r"127.0.0.1 did not answer within 0.05 s; whether .* is unknown"):
            await call(tool, message="x")


async def test_a_cancelled_call_leaves_the_connection_to_the_others():
    opened = []

    async def handler(socket: ServerConnection) -> None:
        opened.append(socket)
        async for message in socket:
            if "never" not in str(message):
                await socket.send(message)

    async with server(handler) as url, websocket_tool(url=url, **CORRELATED) as tool:
        waiting = asyncio.create_task(call(tool, message="never"))
        await call(tool, message="first")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert '"text":"second"' in text_of(await call(tool, message="second"))
    assert len(opened) == 1


async def test_a_late_answer_is_never_taken_for_the_next_calls():
    late = asyncio.Event()

    async def handler(socket: ServerConnection) -> None:
        async for message in socket:
            if message == "slow":
                await late.wait()
            await socket.send(message)

    async with server(handler) as url, websocket_tool(url=url, message="{message}") as tool:
        slow = asyncio.create_task(call(tool, message="slow"))
        await asyncio.sleep(0.05)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        late.set()
        assert text_of(await call(tool, message="quick")) == "quick"


async def test_after_closing_there_is_nothing_to_call():
    async with server(echo) as url:
        async with websocket_tool(url=url) as tool:
            await call(tool, message="x")
        with pytest.raises(ToolUnavailable, match="the toolset is closed"):
            await call(tool, message="x")
