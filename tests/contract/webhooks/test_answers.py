"""What a receiver may answer, and what the network may do: each is a receipt, none an error."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from tests.support.http_tools import Serve
from tests.support.ports import free_port
from tests.support.webhooks import BODY, Receiver, Send, hook

from goagents.webhooks.base import Receipt
from goagents.webhooks.http import MAX_RETRY_AFTER

AT = datetime.now(UTC).replace(microsecond=0)
SECRET = "t0psecret"  # stands in the URL, as with many receivers
MIB = 1 << 20


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_a_message_that_is_taken_is_delivered(send: Send, serve: Serve, status: int):
    receipt = await send(await hook(serve, Receiver(status=status)))
    assert (receipt.outcome, receipt.detail) == ("delivered", f"127.0.0.1 answered {status}")


async def test_gone_is_for_good(send: Send, serve: Serve):
    receipt = await send(await hook(serve, Receiver(status=410)))
    assert (receipt.outcome, receipt.detail) == ("gone", "127.0.0.1 answered 410")


@pytest.mark.parametrize("status", [304, 400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504, 599])
async def test_anything_else_is_tried_again(send: Send, serve: Serve, status: int):
    receipt = await send(await hook(serve, Receiver(status=status)))
    assert (receipt.outcome, receipt.retry_after) == ("retry", None)
    assert receipt.detail.startswith(f"127.0.0.1 answered {status}")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(send: Send, serve: Serve, status: int):
    elsewhere = Receiver()
    target = await hook(serve, elsewhere)
    receipt = await send(await hook(serve, Receiver(status=status, headers={"Location": f"{target}?{SECRET}"})))
    assert receipt.outcome == "retry"
    assert f"answered {status}: redirects are not followed" in receipt.detail
    assert SECRET not in receipt.detail
    assert elsewhere.requests == []


def _date(seconds: float) -> str:
    return format_datetime(AT + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 400, MAX_RETRY_AFTER),
        (_date(90), 90.0),
        (_date(-90), 0.0),
        (_date(10 * 86_400), MAX_RETRY_AFTER),
        (_date(30).replace("GMT", "-0000"), 30.0),
        ("-7", None),
        ("1.5", None),
        ("\u0667", None),
        ("soon", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("", None),
    ],
    # named here: some hold the time, and two workers that collect them must name them alike
    ids=[
        "seconds",
        "none",
        "spaces",
        "huge",
        "date",
        "past",
        "far",
        "zone",
        "negative",
        "fraction",
        "digits",
        "word",
        "year",
        "empty",
    ],
)
async def test_a_busy_receiver_says_when_to_come_again(
    send: Send, serve: Serve, status: int, asked: str, seconds: float | None
):
    receipt = await send(await hook(serve, Receiver(status=status, headers={"Retry-After": asked})), at=AT)
    assert (receipt.outcome, receipt.retry_after) == ("retry", seconds)


@pytest.mark.parametrize("status", [200, 400, 410, 500])
async def test_nobody_else_is_asked_when(send: Send, serve: Serve, status: int):
    receipt = await send(await hook(serve, Receiver(status=status, headers={"Retry-After": "7"})))
    assert receipt.retry_after is None


async def test_a_receiver_that_does_not_answer_is_left(send: Send, serve: Serve):
    left = asyncio.Event()

    async def silent(_request: web.Request) -> web.Response:
        await left.wait()
        return web.Response()

    started = time.monotonic()
    receipt = await send(await hook(serve, silent), seconds=0.2)
    left.set()
    assert (receipt.outcome, receipt.detail) == ("retry", "127.0.0.1 did not answer within 0.2 s")
    assert time.monotonic() - started < 5


async def test_a_head_that_comes_byte_by_byte_does_not_hold_the_sender(send: Send):
    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            writer.write(b"y")
            await writer.drain()
            await asyncio.sleep(0.01)

    receipt = await _raw(send, dripping, seconds=0.3)
    assert (receipt.outcome, receipt.detail) == ("retry", "127.0.0.1 did not answer within 0.3 s")


async def test_a_body_without_end_is_left_at_once(send: Send, serve: Serve):
    sent = 0
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
                sent += 65_536
        except ConnectionError:
            gone.set()
        return response

    receipt = await send(await hook(serve, endless), seconds=5.0)
    assert receipt.outcome == "delivered"
    await asyncio.wait_for(gone.wait(), 60)
    assert sent < 32 * MIB  # what fits into the sockets' buffers, not what there was


async def test_a_body_that_never_comes_changes_nothing(send: Send, serve: Serve):
    ended = asyncio.Event()

    async def promising(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await ended.wait()
        return response

    receipt = await send(await hook(serve, promising), seconds=5.0)
    ended.set()
    assert receipt.outcome == "delivered"


async def test_a_receiver_that_answers_before_it_has_read_is_heard(send: Send):
    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await reader.read()  # until the sender leaves

    receipt = await _raw(send, hasty, body="x" * 32 * MIB)
    assert (receipt.outcome, receipt.detail) == ("retry", "127.0.0.1 answered 413")


async def test_a_large_message_arrives_whole(send: Send, serve: Serve):
    body = BODY.replace("run_1", "é" * (MIB // 4))
    receiver = Receiver()
    assert (await send(await hook(serve, receiver), body=body)).outcome == "delivered"
    assert receiver.bodies == [body.encode()]


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (b"", "closed the connection before it answered"),
        (b"220 mail.example ESMTP\r\n", "does not speak proper HTTP"),
        (b"HTTP/1.1 two hundred\r\n\r\n", "does not speak proper HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n", "does not speak proper HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: t0psecret", "closed the connection before it answered"),
    ],
)
async def test_what_is_no_answer_is_tried_again(send: Send, answer: bytes, detail: str):
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    receipt = await _raw(send, odd)
    assert receipt.outcome == "retry"
    assert receipt.detail.startswith(f"127.0.0.1 {detail}")
    assert SECRET not in receipt.detail


async def test_a_refused_connection_is_tried_again(send: Send):
    receipt = await send(f"http://127.0.0.1:{free_port()}/hook/{SECRET}?token={SECRET}")
    assert (receipt.outcome, receipt.detail) == ("retry", "cannot connect to 127.0.0.1: Connection refused")


async def test_what_cannot_be_sent_is_tried_again_and_not_shown(send: Send, serve: Serve):
    receiver = Receiver()
    receipt = await send(await hook(serve, receiver), body=f"{SECRET} \ud800")
    assert receipt.outcome == "retry"
    assert receipt.detail == "the request to 127.0.0.1 cannot be sent: UnicodeEncodeError"
    assert receiver.requests == []


async def test_many_at_once(send: Send, serve: Serve):
    receiver = Receiver()
    url = await hook(serve, receiver)
    receipts = await asyncio.gather(*(send(url) for _ in range(100)))
    assert {receipt.outcome for receipt in receipts} == {"delivered"}
    assert len(receiver.verified) == 100


async def _raw(send: Send, answer: Callable[..., Awaitable[None]], **more: Any) -> Receipt:
    """Send to a server that is no HTTP server, at a URL that holds a secret."""
    ended = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # the sender has left, as it should
            await answer(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        receipt = await send(f"http://127.0.0.1:{port}/hook/{SECRET}?token={SECRET}", **more)
        await asyncio.wait_for(ended.wait(), 60)
    return receipt
