"""Server-sent events: of real runs over a real server, and each corner of the connection."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.support.api import Api, problem

from goagents.api.calls import Call, begin
from goagents.api.responses import render
from goagents.api.shutdown import Shutdown
from goagents.api.sse import EventStream, encode
from goagents.dispatch.base import Task
from goagents.errors import DispatchFailed, StoreUnavailable
from goagents.telemetry.base import RequestFinished


def parse(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    events = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            events.append((lines.get("id", ""), lines["event"], json.loads(lines["data"])))
    return events


async def test_a_run_is_told_as_events(api: Api):
    response = await api.say("echo", verb="stream")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"].startswith("no-cache")
    assert response.headers["x-accel-buffering"] == "no"
    events = parse(response.text)
    assert [event for _, event, _ in events] == ["run.started", "message.delta", "message.completed", "run.completed"]
    assert [id_ for id_, _, _ in events] == [f"1-{n}" for n in range(1, 5)]
    assert events[1][2] == {"text": "hello"}
    assert events[3][2]["session_id"] == events[0][2]["session_id"]


async def test_a_failure_in_the_run_is_its_last_event(api: Api):
    response = await api.say("busy", verb="stream")
    assert response.status_code == 200
    id_, event, data = parse(response.text)[-1]
    assert (event, data["error"]["code"], data["error"]["status"]) == ("run.failed", "provider_overloaded", 502)
    assert id_
    (told,) = [e for e in api.seen if isinstance(e, RequestFinished)]
    assert (told.status, told.error_code) == (200, "provider_overloaded")


async def test_a_failure_before_the_run_is_answered_with_its_status(api: Api):
    problem(await api.say("nobody", verb="stream"), 404, "not_found")
    first = asyncio.create_task(api.say("slow", {"message": "a", "session_id": "s1"}))
    await asyncio.sleep(0.1)
    second = {"message": "b", "session_id": "s1", "session_policy": "reject"}
    problem(await api.say("slow", second, verb="stream"), 409, "session_busy")
    assert (await first).status_code == 200


async def test_a_client_that_leaves_stops_nothing(api: Api):
    sent: list[dict[str, Any]] = []
    left = asyncio.Event()
    body = iter([{"type": "http.request", "body": b'{"message": "hi", "session_id": "s1"}'}])

    async def receive() -> dict[str, Any]:
        if (message := next(body, None)) is not None:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if b"run.started" in message.get("body", b""):
            left.set()

    scope = {
        "type": "http", "method": "POST", "path": "/api/v1/agents/support.slow/stream", "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")], "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await api.app(scope, receive, send)
    assert b"run.completed" not in b"".join(m.get("body", b"") for m in sent)
    for handle in tuple(api.services.handles.values()):  # it goes on by itself
        await handle.finished()
    session = (await api.call("GET", "/api/v1/sessions/s1")).json()
    assert (session["active_run"], session["messages"]) == (None, 2)


class Client:
    """An ASGI connection: `leave` ends it; `blocked` lets no write through."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.leave = asyncio.Event()
        self.blocked = False
        self.fault: Exception | None = None

    async def receive(self) -> dict[str, Any]:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self.fault:
            raise self.fault
        if self.blocked:
            await asyncio.Event().wait()
        self.sent.append(message)

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    @property
    def ended(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False

    async def follow(self, items: AsyncIterator[Any], **options: Any) -> None:
        async def get_services() -> Any:
            raise AssertionError("nothing needs services here")

        scope: dict[str, Any] = {"type": "http"}
        begin(scope, Call("req_1", "GET", frozenset(), get_services))
        await EventStream(items, lambda item: encode("item", item), **options)(scope, self.receive, self.send)


async def numbers(count: int, pause: float = 0.0, fault: Exception | None = None) -> AsyncIterator[int]:
    for n in range(count):
        await asyncio.sleep(pause)
        yield n
    if fault:
        raise fault


@pytest.fixture
def client() -> Client:
    return Client()


async def test_silence_is_filled_with_comments(client: Client):
    await client.follow(numbers(2, 0.25), keep_alive=0.05)
    assert ": keep-alive\n\n" in client.text
    assert [data for _, _, data in parse(client.text)] == [0, 1]
    assert client.ended


async def test_events_without_pause_need_no_comments(client: Client):
    await client.follow(numbers(20, 0.02), keep_alive=0.1)
    assert "keep-alive" not in client.text


async def test_a_fault_before_the_first_event_is_raised(client: Client):
    with pytest.raises(StoreUnavailable):
        await client.follow(numbers(0, fault=StoreUnavailable()))
    assert client.sent == []


@pytest.mark.parametrize(
    ("fault", "code"), [(StoreUnavailable("gone"), "store_unavailable"), (KeyError("x"), "internal")]
)
async def test_a_later_fault_is_an_event(client: Client, fault: Exception, code: str, caplog: pytest.LogCaptureFixture):
    await client.follow(numbers(1, fault=fault))
    assert parse(client.text)[-1][1:] == ("error", parse(client.text)[-1][2])
    assert parse(client.text)[-1][2]["code"] == code
    assert client.ended


async def test_a_backlog_does_not_keep_others_from_their_turn(client: Client):
    """A server that has lost its client takes all that is sent, and never makes anybody wait."""
    taken = 0

    async def items() -> AsyncIterator[int]:
        nonlocal taken
        for taken in range(10_000):
            yield taken

    client.leave.set()
    await client.follow(items())
    assert taken < 1000


@pytest.mark.parametrize("how", ["leaves", "vanishes", "stalls"])
async def test_the_answer_waits_for_the_work_whatever_the_client_does(client: Client, how: str):
    done = asyncio.Event()
    closed = asyncio.Event()

    async def items() -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.sleep(0.01)
            if how == "leaves":
                client.leave.set()
            elif how == "vanishes":
                client.fault = ConnectionResetError()
            else:
                client.blocked = True
            for n in range(1, 1000):
                yield n
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    task = asyncio.create_task(client.follow(items(), finished=done.wait, keep_alive=0.05, stalled=0.1))
    await asyncio.wait_for(closed.wait(), 60)
    assert not task.done()
    done.set()
    await asyncio.wait_for(task, 60)
    assert not client.ended


async def test_a_stream_without_an_end_is_ended(client: Client):
    await asyncio.wait_for(client.follow(numbers(10_000, 0.01), longest=0.1, keep_alive=0.05), 60)
    assert client.ended
    assert 1 < len(parse(client.text)) < 1000


async def test_the_end_of_the_process_ends_a_stream_without_an_end(client: Client, monkeypatch: pytest.MonkeyPatch):
    shutdown = Shutdown()
    monkeypatch.setattr(Shutdown, "of_process", classmethod(lambda cls: shutdown))
    task = asyncio.create_task(client.follow(numbers(10_000, 0.01), longest=60, keep_alive=0.05))
    await asyncio.sleep(0.1)
    assert not task.done()
    shutdown.begun = True
    await asyncio.wait_for(task, 60)
    assert client.ended


async def test_logs_are_followed(api: Api):
    api.configure(server={"timeout": "2s"})
    following = asyncio.create_task(api.call("GET", "/api/v1/clusters/support/logs?follow=true"))
    await asyncio.sleep(0.3)
    run = (await api.say("echo")).json()["run_id"]
    events = parse((await following).text)
    assert {event for _, event, _ in events} == {"log"}
    assert run in {data["run_id"] for _, _, data in events}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": "x\ny\r\u2028é"}, '{"a":"x\\ny\\r\u2028é"}'),
        ({"a": float("nan"), "b": float("inf")}, '{"a":null,"b":null}'),
        ({"a": "half \ud83d"}, '{"a": "half \\ud83d"}'),
    ],
)
def test_data_is_one_line_of_valid_json(value: Any, text: str):
    assert render(value).decode() == text
    assert encode("e", value, "1-1").count(b"\n") == 4


async def test_signals_are_noted_and_passed_on(api: Api, monkeypatch: pytest.MonkeyPatch):
    import signal  # noqa: PLC0415 - this test alone handles signals

    got: list[int] = []
    handlers: dict[int, Callable[..., None]] = {
        n: lambda number, frame: got.append(number) for n in (signal.SIGTERM, signal.SIGINT)
    }
    monkeypatch.setattr(signal, "getsignal", handlers.__getitem__)
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    Shutdown.of_process.cache_clear()  # type: ignore[attr-defined] # a cached class method
    shutdown = Shutdown.of_process()
    assert not shutdown.begun
    late = asyncio.create_task(asyncio.sleep(60))
    api.services.tasks.add(late)
    shutdown.interrupt_late(api.services)
    monkeypatch.setattr("goagents.api.shutdown.GRACE", 0.05)
    handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert shutdown.begun
    assert not late.done()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(late, 60)
    assert got == [signal.SIGTERM]
    api.services.tasks.discard(late)
    with pytest.raises(DispatchFailed):
        await api.services.dispatch.enqueue(Task("run", "default", "run_1", "t"))
    Shutdown.of_process.cache_clear()  # type: ignore[attr-defined]
