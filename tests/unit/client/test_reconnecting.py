"""Streams over connections that really break: whatever happens on the way, no event is missing and none comes twice."""

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from starlette.responses import Response
from tests.support.breaking_server import Asked, BreakingServer, Reply, reply
from tests.support.contract_server import (
    ContractServer,
    about,
    completed,
    event_stream,
    failure,
    problem,
    sent_event,
    waiting,
)
from tests.support.ports import free_port
from tests.support.scripted_run import AFTER, BEFORE

from goagents.client import AsyncClient, Client, ServerUnreachable, StreamEnded, Transcript
from goagents.errors import GoAgentsError, Invalid, NotFound, ProviderOverloaded, RunCancelled
from goagents.events import Cursor, RunEvent

STREAM = "POST /api/v1/agents/support.helper/stream"
EVENTS = "GET /api/v1/runs/run_1/events"
Happened = tuple[str, str, dict[str, Any]]


def log(run: str) -> list[Happened]:
    ids = {"run_id": run, "session_id": "session_1"}
    return [
        ("1-1", "run.started", ids),
        ("1-2", "message.delta", {"text": "Hé"}),
        ("1-3", "message.delta", {"text": "llo"}),
        ("1-4", "run.completed", ids),
    ]


IDS = [event_id for event_id, _, _ in log("run_1")]


def stream_of(run: str, after: str | None = None) -> bytes:
    place = Cursor.parse(after) if after else Cursor(0, 0)
    rest = [each for each in log(run) if Cursor.parse(each[0]) > place]
    lines = (f"id: {i}\nevent: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n" for i, kind, data in rest)
    return "".join(lines).encode()


class CutOnce:
    """The agent `x.N` streams its run, the first time only N bytes of it."""

    def __init__(self, *, chunked: bool, reset: bool) -> None:
        self.chunked = chunked
        self.reset = reset
        self.keys: dict[str, set[str]] = {}
        self.seen: set[str] = set()

    def __call__(self, asked: Asked) -> Reply:
        _, _, _, kind, name, _ = asked.path.split("/")
        position = int(name.rpartition("." if kind == "agents" else "_")[2])
        run = f"run_{position}"
        whole = reply(stream_of(run, asked.headers.get("last-event-id")), chunked=self.chunked)
        if kind == "agents":
            self.keys.setdefault(run, set()).add(asked.headers["idempotency-key"])
        first = run not in self.seen
        self.seen.add(run)
        return Reply(whole, position, self.reset) if first else Reply(whole)


def told(events: list[RunEvent]) -> list[tuple[str, Any]]:
    return [(event.id, event.data.get("text")) for event in events]


WHOLE = [("1-1", None), ("1-2", "Hé"), ("1-3", "llo"), ("1-4", None)]


async def read_async(url: str, agents: list[str]) -> list[list[RunEvent]]:
    width = asyncio.Semaphore(40)

    async def one(client: AsyncClient, agent: str) -> list[RunEvent]:
        async with width:
            return [event async for event in client.stream(agent, "Hi")]

    async with AsyncClient(url) as client:
        return await asyncio.gather(*(one(client, agent) for agent in agents))


def read_blocking(url: str, agents: list[str]) -> list[list[RunEvent]]:
    with Client(url) as client, ThreadPoolExecutor(24) as pool:
        return list(pool.map(lambda agent: list(client.stream(agent, "Hi")), agents))


@pytest.mark.parametrize(("chunked", "reset", "step"), [(True, False, 1), (False, False, 1), (True, True, 7)])
@pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
async def test_a_stream_cut_at_any_byte_is_whole(chunked: bool, reset: bool, step: int, blocking: bool):
    size = len(reply(stream_of("run_999"), chunked=chunked))
    agents = [f"x.{position}" for position in range(0, size, step)]
    answer = CutOnce(chunked=chunked, reset=reset)
    async with BreakingServer(answer) as server:
        read = asyncio.to_thread(read_blocking, server.url, agents) if blocking else read_async(server.url, agents)
        for agent, events in zip(agents, await read, strict=True):
            assert told(events) == WHOLE, agent
    assert {len(keys) for keys in answer.keys.values()} == {1}  # sent again, it is the same request
    assert len(server.asked) > 1.9 * len(agents)


def one_event_each(asked: Asked) -> Reply:
    """Every connection breaks in the middle of its second event."""
    whole = reply(stream_of("run_1", asked.headers.get("last-event-id")))
    second = whole.find(b"id:", whole.find(b"id:") + 1)
    return Reply(whole, second + 15 if second > 0 else None)


async def test_every_connection_may_break():
    async with BreakingServer(one_event_each) as server:
        assert [told(each) for each in await read_async(server.url, ["x.y"])] == [WHOLE]
        assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "1-1", "1-2", "1-3"]
        assert [told(each) for each in await asyncio.to_thread(read_blocking, server.url, ["x.y"])] == [WHOLE]


async def test_a_server_that_restarts_is_found_again():
    """It goes away in the middle of a stream, refuses connections for a while, and comes back."""
    was_asked = asyncio.Event()

    def answer(asked: Asked) -> Reply:
        was_asked.set()
        return one_event_each(asked)

    server = BreakingServer(answer)
    await server.start()

    async def restart() -> None:
        await asyncio.wait_for(was_asked.wait(), 60)
        was_asked.clear()
        await server.stop()
        await asyncio.sleep(0.8)
        await server.start()

    try:
        restarting = asyncio.create_task(restart())
        assert [told(each) for each in await read_async(server.url, ["x.y"])] == [WHOLE]
        await restarting
        was_asked.clear()
        restarting = asyncio.create_task(restart())
        assert [told(each) for each in await asyncio.to_thread(read_blocking, server.url, ["x.y"])] == [WHOLE]
        await restarting
    finally:
        await server.stop()


def refusing(_: Asked) -> Reply:
    return Reply(b"")


async def error_after(read: Callable[[], Any]) -> tuple[GoAgentsError, float]:
    begun = time.monotonic()
    with pytest.raises(GoAgentsError) as raised:
        await read()
    return raised.value, time.monotonic() - begun


async def errors_of(url: str, **options: Any) -> list[tuple[GoAgentsError, float]]:
    """What reading a stream raises, with both clients, and after how many seconds."""

    def blocking() -> None:
        with Client(url, **options) as client:
            list(client.stream("support.helper", "Hi"))

    async def awaiting() -> None:
        async with AsyncClient(url, **options) as client:
            async for _ in client.stream("support.helper", "Hi"):
                pass

    return [await error_after(lambda: asyncio.to_thread(blocking)), await error_after(awaiting)]


async def test_a_server_that_never_answers_is_given_up():
    async with BreakingServer(refusing) as server:
        for error, seconds in await errors_of(server.url, reconnect_timeout=0.5):
            assert isinstance(error, ServerUnreachable)
            assert 0.5 <= seconds < 10
        assert 4 < len(server.asked) < 30


async def test_a_run_that_is_lost_sight_of_is_named():
    first_only = reply(stream_of("run_1").partition(b"id: 1-2")[0])

    def answer(asked: Asked) -> Reply:
        return Reply(first_only) if asked.method == "POST" else Reply(b"")

    async with BreakingServer(answer) as server:
        for error, _ in await errors_of(server.url, reconnect_timeout=0.3):
            assert isinstance(error, StreamEnded)
            assert "could not be followed again within 0.3 s: the connection to http://" in error.detail
            assert (error.run_id, error.session_id) == ("run_1", "session_1")


async def test_without_time_to_reconnect_a_break_is_an_error():
    async with BreakingServer(one_event_each) as server:
        for error, _ in await errors_of(server.url, reconnect_timeout=0):
            assert "broke" in error.detail
        assert len(server.asked) == 2


async def test_where_nobody_listens_nobody_is_waited_for():
    for error, seconds in await errors_of(f"http://127.0.0.1:{free_port()}"):
        assert isinstance(error, ServerUnreachable)
        assert "Is it running?" in error.detail
        assert seconds < 10


# The server's side as the contract has it: it ends streams early, replays, hands off.


async def both(url: str, read: Callable[[Any], Any]) -> list[RunEvent]:
    """The events both clients yield; that they are the same is asserted by the way."""
    with Client(url) as client:
        found = list(read(client))
    async with AsyncClient(url) as client:
        assert [event async for event in read(client)] == found
    return found


def said(client: Any) -> Any:
    return client.stream("support.helper", "Hi")


def sent(*happened: Happened) -> Callable[[Any], Response]:
    return lambda _: event_stream(*(sent_event(*each) for each in happened))


HANDED_OFF: Happened = ("1-3", "run.handed_off", about())
RESUMED: list[Happened] = [
    ("2-1", "attempt", about(attempt=2, resumed_after="1-3")),
    ("2-2", "message.delta", {"text": "Done"}),
    ("2-3", "run.completed", completed("Done")),
]


async def test_a_run_that_is_handed_off_is_followed(server: ContractServer, url: str):
    server.on(STREAM, sent(*BEFORE[:2], HANDED_OFF))
    server.on(EVENTS, sent(*RESUMED))
    events = await both(url, said)
    assert [e.id for e in events] == ["1-1", "1-2", "1-3", "2-1", "2-2", "2-3"]
    followed = [r["headers"].get("last-event-id") for r in server.requests if r["method"] == "GET"]
    assert followed == ["1-3", "1-3"]


async def test_streams_that_the_server_ends_are_opened_again(server: ContractServer, url: str):
    """Most of them bring nothing."""
    server.on(STREAM, sent(*BEFORE[:2]))
    rounds = [sent(), sent(), sent(RESUMED[0]), sent(), sent(*RESUMED[1:])]
    server.on(EVENTS, *rounds, *rounds)
    assert [e.id for e in await both(url, said)] == ["1-1", "1-2", "2-1", "2-2", "2-3"]


async def test_what_is_replayed_is_not_seen_twice(server: ContractServer, url: str):
    server.on(STREAM, sent(*BEFORE[:2]))
    server.on(EVENTS, sent(*BEFORE[:2], HANDED_OFF, *RESUMED))
    assert [e.id for e in await both(url, said)] == ["1-1", "1-2", "1-3", "2-1", "2-2", "2-3"]


async def test_a_lost_attempt_can_be_forgotten(server: ContractServer, url: str):
    server.on(STREAM, sent(*BEFORE[:2], ("1-3", "message.delta", {"text": ", then I"})))
    server.on(EVENTS, sent(("2-1", "attempt", about(attempt=2, resumed_after="1-2")), *RESUMED[1:]))
    shown = Transcript()
    lost = [each.id for event in await both(url, said) for each in shown.add(event)]
    assert lost == ["1-3"]
    assert shown.text == "I askDone"


async def test_a_stream_the_server_loses_sight_of_is_taken_up_again(server: ContractServer, url: str):
    lost = sent_event("1-2", "error", {"code": "store_unavailable", "status": 503, "detail": "The store is gone."})
    server.on(STREAM, lambda _: event_stream(sent_event(*BEFORE[0]), lost))
    server.on(EVENTS, sent(*BEFORE[1:2], *RESUMED))
    assert [e.id for e in await both(url, said)] == ["1-1", "1-2", "2-1", "2-2", "2-3"]
    server.on(EVENTS, lambda _: event_stream(lost))
    for error, _ in await errors_of(url, reconnect_timeout=0.2):
        assert isinstance(error, StreamEnded)
        assert "the server ended the stream: The store is gone." in error.detail


@pytest.mark.parametrize(
    "answer",
    [problem(503, "store_unavailable"), problem(500, "internal"), Response("<html>bad gateway", 502),
     problem(429, "limit_exceeded", headers={"Retry-After": "0.1"})],
)  # fmt: skip
async def test_a_server_that_fails_for_a_while_is_asked_again(server: ContractServer, url: str, answer: Response):
    server.on(STREAM, sent(*BEFORE[:2]))
    server.on(EVENTS, answer, sent(*RESUMED), answer, sent(*RESUMED))
    assert [e.id for e in await both(url, said)] == ["1-1", "1-2", "2-1", "2-2", "2-3"]


async def test_a_gateway_that_fails_is_sent_the_same_request_again(server: ContractServer, url: str):
    page = Response("<html>no instance", 503)
    server.on(STREAM, page, sent(*BEFORE[:2], *RESUMED), page, sent(*BEFORE[:2], *RESUMED))
    assert len(await both(url, said)) == 5
    keys = [request["headers"]["idempotency-key"] for request in server.requests]
    assert keys[0] == keys[1] != keys[2] == keys[3]


async def test_a_run_that_is_gone_is_an_error_at_once(server: ContractServer, url: str):
    server.on(STREAM, sent(*BEFORE[:2]))
    server.on(EVENTS, problem(404, "not_found", "There is no run run_1."))
    for error, seconds in await errors_of(url):
        assert isinstance(error, NotFound)
        assert (error.detail, error.run_id) == ("There is no run run_1.", "run_1")
        assert seconds < 5


@pytest.mark.parametrize(
    ("kind", "data", "error"),
    [
        ("run.failed", failure(), ProviderOverloaded),
        ("run.cancelled", failure("run_cancelled", 409, "Cancelled by ann."), RunCancelled),
    ],
)
async def test_a_failure_after_a_break_is_the_runs(
    server: ContractServer, url: str, kind: str, data: dict[str, Any], error: type[GoAgentsError]
):
    server.on(STREAM, sent(*BEFORE[:2]))
    server.on(EVENTS, sent(("2-1", kind, data)))
    for raised, _ in await errors_of(url):
        assert type(raised) is error
        assert raised.run_id == "run_1"


async def test_a_stream_ends_where_the_run_waits_and_following_goes_on(server: ContractServer, url: str):
    server.on(STREAM, sent(*BEFORE))
    assert [e.type for e in await both(url, said)] == ["run.started", "message.delta", "run.waiting"]
    assert [r["method"] for r in server.requests] == ["POST", "POST"]
    server.on(EVENTS, sent(), sent(*AFTER), sent(), sent(*AFTER))
    after = await both(url, lambda client: client.follow_run("run_1", after="1-3"))
    assert [e.id for e in after] == ["2-1", "2-2", "2-3"]


async def test_following_goes_through_waiting(server: ContractServer, url: str):
    again: Happened = ("2-2", "run.waiting", about(waiting=waiting()))
    rounds = [sent(*BEFORE), sent(AFTER[0], again), sent(("3-1", "run.completed", completed()))]
    server.on(EVENTS, *rounds, *rounds)
    events = await both(url, lambda client: client.follow_run("run_1"))
    assert [e.id for e in events] == ["1-1", "1-2", "1-3", "2-1", "2-2", "3-1"]
    assert [r["headers"].get("last-event-id") for r in server.requests] == [None, "1-3", "2-2"] * 2


def test_a_place_that_is_none_is_refused_here(client: Client, server: ContractServer):
    with pytest.raises(Invalid, match="is no event's id"):
        client.follow_run("run_1", after="yesterday")
    assert server.requests == []


def test_a_followed_run_can_be_left(client: Client, server: ContractServer):
    server.on(EVENTS, sent(*BEFORE))
    with closing(client.follow_run("run_1")) as events:
        assert next(events).id == "1-1"
    assert len(server.requests) == 1
