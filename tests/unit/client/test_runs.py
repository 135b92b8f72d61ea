"""The stream of a run over one connection: its events, its end, and every way it can fail to have one."""

from contextlib import aclosing
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from tests.support.contract_server import Answer, ContractServer, completed, event_stream, problem, sent_event

from goagents.client import AsyncClient, Client, StreamEnded, UnexpectedAnswer
from goagents.errors import GoAgentsError, ProviderOverloaded, RunTimedOut
from goagents.events import RunEvent

STREAM = "POST /api/v1/agents/support.helper/stream"
STARTED = {"run_id": "run_1", "session_id": "session_1", "agent": "support.helper", "attempt": 1}


def event(seq: int, kind: str, data: Any) -> bytes:
    return sent_event(f"1-{seq}", kind, data)


HELLO = (
    event(1, "run.started", STARTED),
    event(2, "message.delta", {"text": "Hel"}),
    b": keep-alive\n\n",
    event(3, "message.delta", {"text": "lo"}),
    event(4, "run.completed", completed()),
)
FAILED = {
    "run_id": "run_1",
    "session_id": "session_1",
    "error": {"type": "t", "title": "x", "status": 502, "detail": "529 of it", "code": "provider_overloaded"},
}


async def events_of(server: ContractServer, url: str, answer: Answer) -> list[RunEvent]:
    """What both clients yield; that it is the same is asserted by the way."""
    server.on(STREAM, answer)
    with Client(url) as client:
        found = list(client.stream("support.helper", "Hi"))
    async with AsyncClient(url) as client:
        assert [each async for each in client.stream("support.helper", "Hi")] == found
    return found


async def error_of(server: ContractServer, url: str, answer: Answer, before: int = 0) -> GoAgentsError:
    """What both clients raise, after `before` events, where they do not connect again."""
    server.on(STREAM, answer)
    with Client(url, reconnect_timeout=0) as client, pytest.raises(GoAgentsError) as raised:
        list(client.stream("support.helper", "Hi"))
    seen: list[RunEvent] = []

    async def read() -> None:
        async with AsyncClient(url, reconnect_timeout=0) as client:
            async for each in client.stream("support.helper", "Hi"):
                seen.append(each)  # noqa: PERF401 - what was seen before the error is asked for

    with pytest.raises(type(raised.value)) as same:
        await read()
    assert len(seen) == before
    assert str(same.value) == str(raised.value)
    return raised.value


async def test_events_come_in_order_with_their_ids(server: ContractServer, url: str):
    events = await events_of(server, url, lambda _: event_stream(*HELLO))
    assert [e.id for e in events] == ["1-1", "1-2", "1-3", "1-4"]
    assert "".join(e.data["text"] for e in events if e.type == "message.delta") == "Hello"
    assert events[-1].type == "run.completed"


async def test_events_cut_anywhere_are_the_same(server: ContractServer, url: str):
    whole = b"".join(HELLO)
    events = await events_of(server, url, lambda _: event_stream(*(whole[i : i + 3] for i in range(0, len(whole), 3))))
    assert len(events) == 4


async def test_events_this_client_does_not_know_are_handed_on(server: ContractServer, url: str):
    events = await events_of(server, url, lambda _: event_stream(event(1, "run.queued", {}), HELLO[-1]))
    assert [e.type for e in events] == ["run.queued", "run.completed"]


async def test_nothing_after_the_end_is_read(server: ContractServer, url: str):
    events = await events_of(server, url, lambda _: event_stream(*HELLO, event(5, "message.delta", {"text": "!"})))
    assert events[-1].type == "run.completed"


async def test_a_failed_run_raises_its_error_after_its_events(server: ContractServer, url: str):
    answer = event_stream
    error = await error_of(server, url, lambda _: answer(*HELLO[:2], event(3, "run.failed", FAILED)), before=2)
    assert isinstance(error, ProviderOverloaded)
    assert (error.detail, error.run_id, error.session_id) == ("529 of it", "run_1", "session_1")


async def test_a_stream_without_its_end_is_an_error(server: ContractServer, url: str):
    error = await error_of(server, url, lambda _: event_stream(*HELLO[:-1]), before=3)
    assert isinstance(error, StreamEnded)
    assert error.run_id == "run_1"


async def test_a_terminal_event_cut_short_is_no_end(server: ContractServer, url: str):
    error = await error_of(server, url, lambda _: event_stream(*HELLO[:2], HELLO[-1][:-1]), before=2)
    assert isinstance(error, StreamEnded)


@pytest.mark.parametrize("data", ["nonsense", "[1]", '"text"'])
async def test_a_malformed_event_is_an_error(server: ContractServer, url: str, data: str):
    chunk = f"id: 1-1\nevent: message.delta\ndata: {data}\n\n".encode()
    error = await error_of(server, url, lambda _: event_stream(chunk))
    assert isinstance(error, UnexpectedAnswer)


async def test_an_event_without_id_is_an_error(server: ContractServer, url: str):
    error = await error_of(server, url, lambda _: event_stream(b"event: message.delta\ndata: {}\n\n"))
    assert isinstance(error, UnexpectedAnswer)


async def test_a_refusal_instead_of_a_stream(server: ContractServer, url: str):
    error = await error_of(server, url, problem(504, "run_timed_out", "too slow", run_id="run_9"))
    assert isinstance(error, RunTimedOut)
    assert error.run_id == "run_9"


@pytest.mark.parametrize("answer", [JSONResponse({"hello": "world"}), Response("<html>", media_type="text/html")])
async def test_success_that_is_no_stream(server: ContractServer, url: str, answer: Response):
    error = await error_of(server, url, answer)
    assert isinstance(error, UnexpectedAnswer)


async def test_a_stream_can_be_left(server: ContractServer, url: str):
    server.on(STREAM, lambda _: event_stream(*HELLO))
    with Client(url) as client:
        events = client.stream("support.helper", "Hi")
        assert next(events).type == "run.started"
        events.close()
        assert list(client.stream("support.helper", "Hi"))[-1].type == "run.completed"
    async with AsyncClient(url) as client, aclosing(client.stream("support.helper", "Hi")) as stream:
        assert (await anext(stream)).type == "run.started"
