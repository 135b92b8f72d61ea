"""`chat`, `start_run` and `wait_for_run`: answers that come late, by another way, or not at all."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from tests.support.breaking_server import Asked, BreakingServer, Reply, reply
from tests.support.contract_server import (
    ContractServer,
    about,
    accepted,
    completed,
    event_stream,
    failure,
    message,
    problem,
    run,
    sent_event,
    waiting,
    waiting_call,
)
from tests.support.ports import free_port
from tests.support.scripted_run import AFTER, BEFORE, Happened, ScriptedRun

from goagents.client import AsyncClient, Client, RunWaiting, ServerTimedOut, ServerUnreachable, UnexpectedAnswer
from goagents.errors import GoAgentsError, NotFound, ProviderOverloaded, RunCancelled, RunError, StoreUnavailable
from goagents.resources import ChatResponse

CHAT = "POST /api/v1/agents/support.helper/chat"
RUN = "GET /api/v1/runs/run_1"
EVENTS = "GET /api/v1/runs/run_1/events"
DONE: Happened = ("1-9", "run.completed", completed("Done"))
Ask = Callable[[Any], Any]


def chat(client: Any) -> Any:
    return client.chat("support.helper", "Hi")


def wait(client: Any) -> Any:
    return client.wait_for_run("run_1")


async def both(url: str, ask: Ask, **options: Any) -> Any:
    """What both clients return; that it is the same is asserted by the way."""

    def blocking() -> Any:
        with Client(url, **options) as client:
            return ask(client)

    answer = await asyncio.to_thread(blocking)
    async with AsyncClient(url, **options) as client:
        assert await ask(client) == answer
    return answer


async def errors_of(url: str, ask: Ask, **options: Any) -> list[GoAgentsError]:
    """What both clients raise."""

    def blocking() -> None:
        with Client(url, **options) as client:
            ask(client)

    with pytest.raises(GoAgentsError) as first:
        await asyncio.to_thread(blocking)
    async with AsyncClient(url, **options) as client:
        with pytest.raises(GoAgentsError) as second:
            await ask(client)
    return [first.value, second.value]


def stream(*happened: Happened) -> Callable[[Any], Response]:
    return lambda _: event_stream(*(sent_event(*each) for each in happened))


@pytest.mark.parametrize("status", ["queued", "running", "handed_off"])
async def test_a_run_that_outlasts_the_request_is_followed(server: ContractServer, url: str, status: str):
    server.on(CHAT, accepted(status))
    rounds = [stream(*BEFORE[:2]), stream(), stream(DONE)]
    server.on(EVENTS, *rounds, *rounds)
    answer = await both(url, chat)
    assert isinstance(answer, ChatResponse)
    assert answer.message.text == "Done"
    assert [r["headers"].get("last-event-id") for r in server.requests if r["method"] == "GET"] == [
        None,
        "1-2",
        "1-2",
    ] * 2


async def test_a_run_that_is_over_by_then_is_answered_from_its_record(server: ContractServer, url: str):
    server.on(CHAT, accepted("succeeded", stop_reason="max_tokens"))
    answer = await both(url, chat)
    assert (answer.run_id, answer.session_id, answer.agent) == ("run_1", "session_1", "support.helper")
    assert (answer.message.text, answer.stop_reason, answer.usage.input_tokens) == ("Hello", "max_tokens", 7)


@pytest.mark.parametrize("ask", [chat, wait])
async def test_a_run_that_waits_for_a_person_is_an_error_that_names_it(server: ContractServer, url: str, ask: Ask):
    ScriptedRun().behind(server)
    for error in await errors_of(url, ask):
        assert isinstance(error, RunWaiting)
        assert "waits for a person to decide on refund: `approve_run` or `goagents runs approve run_1`" in str(error)
        assert (error.run_id, error.session_id) == ("run_1", "session_1")
        assert error.waiting is not None
        assert error.waiting.calls[0].arguments == {"order": 7}


async def test_a_run_that_comes_to_wait_is_noticed(server: ContractServer, url: str):
    server.on(CHAT, accepted("running"))
    server.on(EVENTS, stream(*BEFORE))
    server.on(RUN, JSONResponse(run("waiting", waiting=waiting(waiting_call(), waiting_call("c2", "mail")))))
    for error in await errors_of(url, chat):
        assert isinstance(error, RunWaiting)
        assert "on refund, mail" in str(error)


async def test_what_was_decided_by_then_is_not_waited_for(server: ContractServer, url: str):
    """The events tell of a wait that is over."""
    server.on(RUN, JSONResponse(run("running")))
    server.on(EVENTS, stream(*BEFORE), stream(*AFTER), stream(*BEFORE), stream(*AFTER))
    assert (await both(url, wait)).message.text == "Done"


async def test_a_caller_may_wait_for_the_person_too(server: ContractServer, url: str):
    server.on(CHAT, accepted("waiting"))
    server.on(RUN, JSONResponse(run("waiting")))
    server.on(EVENTS, stream(*BEFORE), stream(), stream(*AFTER))
    answer = await both(url, lambda client: client.chat("support.helper", "Hi", wait_for_approval=True))
    assert answer.message.text == "Done"
    answer = await both(url, lambda client: client.wait_for_run("run_1", wait_for_approval=True))
    assert answer.message.text == "Done"


OUTCOMES: list[tuple[dict[str, Any], type[GoAgentsError]]] = [
    (run("failed", error=failure()["error"]), ProviderOverloaded),
    (run("failed"), RunError),
    (run("cancelled", error=failure("run_cancelled", 409)["error"]), RunCancelled),
    (run("cancelled"), RunCancelled),
    (run("succeeded", output=None), UnexpectedAnswer),
]


@pytest.mark.parametrize(("body", "error"), OUTCOMES)
async def test_a_run_that_failed_raises_its_error(
    server: ContractServer, url: str, body: dict[str, Any], error: type[GoAgentsError]
):
    server.on(RUN, JSONResponse(body))
    for raised in await errors_of(url, wait):
        assert type(raised) is error
        assert raised.run_id == "run_1" or error is UnexpectedAnswer


async def test_a_run_that_fails_while_it_is_waited_for_raises_its_error(server: ContractServer, url: str):
    server.on(CHAT, accepted("running"))
    server.on(EVENTS, stream(BEFORE[0], ("1-2", "run.failed", failure())))
    for raised in await errors_of(url, chat):
        assert isinstance(raised, ProviderOverloaded)
        assert (raised.detail, raised.run_id) == ("529 of it", "run_1")


async def test_an_end_that_is_malformed_is_said_to_be(server: ContractServer, url: str):
    server.on(CHAT, accepted("running"))
    server.on(EVENTS, stream(("1-2", "run.completed", about())))
    for raised in await errors_of(url, chat):
        assert isinstance(raised, UnexpectedAnswer)


async def test_a_run_that_is_unknown_is_an_error(server: ContractServer, url: str):
    server.on(RUN, problem(404, "not_found", "There is no run run_1."))
    for raised in await errors_of(url, wait):
        assert isinstance(raised, NotFound)


# Answers that get lost


class LosingAnswers:
    """Cuts the answers off at the given places, one after the other; then answers whole."""

    def __init__(self, body: bytes, *cuts: int, status: str = "200 OK") -> None:
        self.whole = reply(body, content="application/json", status=status, chunked=False).replace(
            b"\r\n\r\n", f"\r\ncontent-length: {len(body)}\r\n\r\n".encode(), 1
        )
        self.cuts = list(cuts)
        self.keys: list[str] = []

    def __call__(self, asked: Asked) -> Reply:
        self.keys.append(asked.headers["idempotency-key"])
        return Reply(self.whole, self.cuts.pop(0) if self.cuts else None)


def body_of(value: Any) -> bytes:
    return bytes(JSONResponse(value).body)


async def test_a_chat_whose_answer_is_lost_is_sent_again_with_the_same_key():
    answer = LosingAnswers(body_of(completed()), 0, 40, 300)
    async with BreakingServer(answer) as server:
        assert (await both(server.url, chat)).message.text == "Hello"
        answer.cuts = [0, 40, 300]
        async with AsyncClient(server.url) as client:
            assert (await chat(client)).message.text == "Hello"
    assert len(answer.keys) == 9
    assert [len(set(keys)) for keys in (answer.keys[:4], answer.keys[4:5], answer.keys[5:])] == [1, 1, 1]
    assert len(set(answer.keys)) == 3


async def test_a_key_of_the_callers_is_kept():
    answer = LosingAnswers(body_of(completed()), 0)
    async with BreakingServer(answer) as server:
        await both(server.url, lambda client: client.chat("support.helper", "Hi", idempotency_key="mine"))
    assert answer.keys == ["mine"] * 3


async def test_a_start_whose_answer_is_lost_is_sent_again_with_the_same_key():
    answer = LosingAnswers(body_of(run("queued")), 0, 60, status="202 Accepted")
    async with BreakingServer(answer) as server, AsyncClient(server.url) as client:
        started = await client.start_run("support.helper", "Hi")
        assert (started.id, started.status) == ("run_1", "queued")
        await client.start_run("support.helper", "Hi")
    assert len(set(answer.keys[:3])) == 1
    assert answer.keys[3] != answer.keys[0]


async def test_a_server_that_never_answers_a_chat_is_given_up():
    async with BreakingServer(lambda _: Reply(b"")) as server:
        for error in await errors_of(server.url, chat, reconnect_timeout=0.4):
            assert isinstance(error, ServerUnreachable)
        assert 4 < len(server.asked) < 30


async def test_where_nobody_listens_nobody_is_waited_for():
    begun = time.monotonic()
    for error in await errors_of(f"http://127.0.0.1:{free_port()}", chat):
        assert isinstance(error, ServerUnreachable)
    assert time.monotonic() - begun < 10


async def test_a_problem_after_a_lost_answer_is_asked_for_again_unless_it_is_the_runs(server: ContractServer, url: str):
    page = Response("<html>bad gateway", 502)
    server.on(CHAT, page, problem(503, "store_unavailable"), JSONResponse(completed()))
    with Client(url) as client:
        assert client.chat("support.helper", "Hi").message.text == "Hello"
    server.on(CHAT, page, problem(502, "provider_overloaded", run_id="run_1"), JSONResponse(completed()))
    async with AsyncClient(url) as client:
        with pytest.raises(ProviderOverloaded):
            await client.chat("support.helper", "Hi")
    server.on(CHAT, problem(503, "store_unavailable"), JSONResponse(completed()))
    with Client(url) as client, pytest.raises(StoreUnavailable):
        client.chat("support.helper", "Hi")


# Time


def open_stream(_: Any) -> Response:
    async def body() -> Any:
        for _ in range(100):
            yield b": keep-alive\n\n"
            await asyncio.sleep(0.05)

    return type(event_stream())(body(), media_type="text/event-stream")


async def test_a_chat_takes_at_most_its_time_however_it_waits(server: ContractServer, url: str):
    server.on(CHAT, accepted("running"))
    server.on(EVENTS, open_stream)
    server.on(RUN, JSONResponse(run("running")))
    for ask, options in ((chat, {"run_timeout": 0.3}), (lambda c: c.wait_for_run("run_1", timeout=0.3), {})):
        begun = time.monotonic()
        for error in await errors_of(url, ask, **options):
            assert isinstance(error, ServerTimedOut)
            assert error.run_id == "run_1"
        assert time.monotonic() - begun < 5


async def test_a_chat_that_is_not_answered_in_time_is_not_sent_again(server: ContractServer, url: str):
    server.on(CHAT, open_stream)  # a body without its end
    for error in await errors_of(url, chat, run_timeout=0.02):
        assert isinstance(error, ServerTimedOut)
    assert len(server.requests) == 2


async def test_an_answer_that_is_no_run_is_said_to_be(server: ContractServer, url: str):
    server.on(CHAT, JSONResponse({"message": message("x")}, 202))
    for error in await errors_of(url, chat):
        assert isinstance(error, UnexpectedAnswer)
        assert "answered 202" in error.detail
