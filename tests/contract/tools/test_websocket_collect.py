"""`mode: collect`: what ends it, and what the model gets."""

import asyncio
import itertools
import json
from typing import Any

import pytest
from tests.support.http_tools import text_of
from tests.support.websocket_tools import call, server, websocket_tool
from websockets.asyncio.server import ServerConnection

from goagents.errors import ToolFailed

SUBSCRIBE = {
    "message": {"op": "subscribe", "of": "{topic}"},
    "parameters": {"type": "object", "properties": {"topic": {}}},
}


class Feed:
    """Sends what it is told to for each subscription; remembers what it was sent."""

    def __init__(self, *messages: Any, then: str = "wait") -> None:
        self.messages = messages
        self.then = then
        self.seen: list[Any] = []

    async def __call__(self, socket: ServerConnection) -> None:
        async for message in socket:
            self.seen.append(json.loads(message))
            if self.seen[-1].get("op") == "subscribe":
                await self.publish(socket)

    async def publish(self, socket: ServerConnection) -> None:
        for message in self.messages:
            await socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
        if self.then == "abort":
            socket.transport.abort()
        elif self.then == "close":
            await socket.close(1000, "that is all")


def lines(result: Any) -> list[str]:
    return text_of(result).splitlines()


async def test_until_a_number_of_messages_came():
    feed = Feed({"n": 1}, "two", b"\x00\x01", {"n": 4})
    async with (
        server(feed) as url,
        websocket_tool(
            url=url, mode="collect", until={"count": 3}, unsubscribe={"op": "bye {topic}"}, **SUBSCRIBE
        ) as tool,
    ):
        result = await call(tool, topic="a")
        assert not result.is_error
        assert lines(result) == [
            '{"n":1}',
            "two",
            "[a binary message of 2 bytes is not shown]",
            "[3 messages; ended by: the number of messages asked for]",
        ]
        for _ in range(100):
            if len(feed.seen) == 2:
                break
            await asyncio.sleep(0.01)
        assert feed.seen == [{"op": "subscribe", "of": "a"}, {"op": "bye a"}]


async def test_until_a_field_has_a_value():
    feed = Feed({"state": {"done": 1}}, {"state": {"done": True}, "x": 2}, {"more": 1})
    until = {"field": "state.done", "equals": True, "count": 10}
    async with server(feed) as url, websocket_tool(url=url, mode="collect", until=until, **SUBSCRIBE) as tool:
        assert lines(await call(tool, topic="a")) == [
            '{"state":{"done":1}}',
            '{"state":{"done":true},"x":2}',
            "[2 messages; ended by: state.done is true]",
        ]


async def test_until_silence():
    feed = Feed({"n": 1}, {"n": 2})
    async with (
        server(feed) as url,
        websocket_tool(url=url, mode="collect", until={"silence": "50ms"}, **SUBSCRIBE) as tool,
    ):
        assert lines(await call(tool, topic="a"))[-1] == "[2 messages; ended by: silence of 0.05 s]"


async def test_without_a_message_it_listens():
    async def handler(socket: ServerConnection) -> None:
        await socket.send("welcome")
        await socket.wait_closed()

    async with server(handler) as url, websocket_tool(url=url, mode="collect", until={"count": 1}) as tool:
        assert tool.definition.parameters["properties"] == {}
        assert lines(await call(tool))[0] == "welcome"


async def test_the_time_for_the_call_ends_it_with_what_came():
    async with (
        server(Feed({"n": 1})) as url,
        websocket_tool(url=url, mode="collect", until={"count": 5}, timeout="300ms", **SUBSCRIBE) as tool,
    ):
        result = await call(tool, topic="a")
        assert lines(result)[0] == '{"n":1}'
        assert lines(result)[1].startswith("[1 message; ended by: the time for the call")


async def test_number_and_size_are_bounded():
    async def endless(socket: ServerConnection) -> None:
        for n in itertools.count():
            await socket.send(json.dumps({"n": n, "pad": "x" * 100}))
            await asyncio.sleep(0)

    async with server(endless) as url:
        common = {"url": url, "mode": "collect", "until": {"field": "n", "equals": "never"}}
        async with websocket_tool(**common, max_messages=7) as tool:
            found = lines(await call(tool))
            assert len(found) == 8
            assert "the bound of 7 messages" in found[-1]
        async with websocket_tool(**common) as tool:
            assert "the bound of 100 messages" in lines(await call(tool))[-1]
        async with websocket_tool(**common, max_output="1KiB") as tool:
            text = text_of(await call(tool))
            assert "the bound on the size of a result" in text
            assert len(text) < 4096


async def test_a_server_that_has_nothing_more_to_say_ends_it():
    async with (
        server(Feed({"n": 1}, then="close")) as url,
        websocket_tool(url=url, mode="collect", until={"count": 5}, **SUBSCRIBE) as tool,
    ):
        result = await call(tool, topic="a")
        assert not result.is_error
        assert lines(result)[-1].endswith("closed the connection (1000 normal: that is all)]")


async def test_a_connection_that_breaks_gives_what_came_as_an_error():
    common = {"mode": "collect", "until": {"count": 5}, **SUBSCRIBE}
    async with server(Feed({"n": 1}, then="abort")) as url, websocket_tool(url=url, **common) as tool:
        result = await call(tool, topic="a")
        assert result.is_error
        assert lines(result) == ['{"n":1}', "[1 message; ended by: 127.0.0.1 lost the connection]"]
    async with server(Feed(then="abort")) as url, websocket_tool(url=url, **common) as tool:
        with pytest.raises(ToolFailed, match="lost the connection; whether"):
            await call(tool, topic="a")


async def test_on_a_shared_connection_calls_take_turns():
    opened = []

    async def handler(socket: ServerConnection) -> None:
        opened.append(socket)
        of = None
        async for message in socket:
            asked = json.loads(message)
            of = asked.get("of")
            for n in range(2) if of else ():
                await socket.send(f"{of}{n}")

    fields = {"until": {"count": 2}, "unsubscribe": {"op": "unsubscribe"}, "connection": "shared", **SUBSCRIBE}
    async with server(handler) as url, websocket_tool(url=url, mode="collect", **fields) as tool:
        results = await asyncio.gather(*(call(tool, topic=topic) for topic in "abc"))
        assert [lines(result)[:2] for result in results] == [["a0", "a1"], ["b0", "b1"], ["c0", "c1"]]
    assert len(opened) == 1


async def test_a_cancelled_call_ends_its_connection():
    ended = asyncio.Event()

    async def handler(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.wait_closed()
        ended.set()

    async with (
        server(handler) as url,
        websocket_tool(url=url, mode="collect", until={"count": 2}, **SUBSCRIBE) as tool,
    ):
        waiting = asyncio.create_task(call(tool, topic="a"))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(ended.wait(), 60)
