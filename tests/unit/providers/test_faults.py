"""Faults of the wire, the deadline of a stream, the offline switch."""

import asyncio
import itertools
import json
import ssl
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import httpx2
import pytest

from goagents import errors
from goagents.errors import ConfigurationError
from goagents.providers.faults import (
    Deadline,
    parse_json,
    refuse_outside,
    retry_after,
    status_fault,
    transport_fault,
    vendor_message,
)


def chained(*chain: BaseException) -> BaseException:
    for above, below in itertools.pairwise(chain):
        above.__cause__ = below
    return chain[0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx2.ConnectError("x"), errors.ProviderConnectionFailed),
        (httpx2.ReadError("x"), errors.ProviderConnectionFailed),
        (httpx2.RemoteProtocolError("x"), errors.ProviderConnectionFailed),
        (httpx2.ReadTimeout("x"), errors.ProviderTimedOut),
        (httpx2.PoolTimeout("x"), errors.ProviderTimedOut),
        (httpx2.DecodingError("x"), errors.ProviderProtocolError),
        (aiohttp.ServerDisconnectedError(), errors.ProviderConnectionFailed),
        (aiohttp.ClientPayloadError("x"), errors.ProviderConnectionFailed),
        (aiohttp.ServerTimeoutError(), errors.ProviderTimedOut),
        (TimeoutError(), errors.ProviderTimedOut),
        (ConnectionResetError(), errors.ProviderConnectionFailed),
        (ssl.SSLError("x"), errors.ProviderConnectionFailed),
        (json.JSONDecodeError("x", "", 0), errors.ProviderProtocolError),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "x"), errors.ProviderProtocolError),
        (chained(RuntimeError("sdk"), httpx2.ReadError("x")), errors.ProviderConnectionFailed),
        (chained(httpx2.ConnectTimeout("x"), aiohttp.ServerDisconnectedError()), errors.ProviderConnectionFailed),
    ],
)
def test_each_fault_has_its_class(error: BaseException, expected: type[errors.ProviderError]):
    fault = transport_fault(error, "acme")
    assert type(fault) is expected
    assert fault.detail.startswith("acme ")


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("x"), asyncio.CancelledError()])
def test_a_bug_and_a_cancellation_are_no_faults(error: BaseException):
    assert transport_fault(error, "acme") is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, errors.ProviderProtocolError),
        (400, errors.ProviderInvalidRequest),
        (401, errors.ProviderAuthenticationFailed),
        (404, errors.ProviderModelNotFound),
        (422, errors.ProviderInvalidRequest),
        (429, errors.ProviderRateLimited),
        (500, errors.ProviderUnavailable),
        (503, errors.ProviderOverloaded),
        (504, errors.ProviderTimedOut),
        (529, errors.ProviderOverloaded),
    ],
)
def test_statuses(status: int, expected: type[errors.ProviderError]):
    assert status_fault(status) is expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after": "inf"}, 86_400.0),
        ({"retry-after": "soon"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None):
    assert retry_after(httpx2.Headers(headers)) == seconds


def test_retry_after_as_a_date():
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert retry_after(httpx2.Headers({"Retry-After": then})) == pytest.approx(60, abs=3)


def test_a_vendors_message_is_one_bounded_line_without_secrets():
    assert vendor_message("bad\n key sk-1 ", "sk-1", "") == "bad key [redacted]"
    assert len(vendor_message("x" * 9999)) == 500


@pytest.mark.parametrize("text", ["{", "[1]", "null", b"\xff", "[" * 100_000])
def test_anything_but_a_json_object_is_a_protocol_error(text: str | bytes):
    with pytest.raises(errors.ProviderProtocolError, match="acme"):
        parse_json(text, "acme")


async def ticks(interval: float, closed: asyncio.Event) -> AsyncGenerator[int, None]:
    try:
        for number in range(100):
            await asyncio.sleep(interval)
            yield number
    finally:
        closed.set()


async def test_a_deadline_covers_all_items_and_closes_the_source():
    closed = asyncio.Event()
    seen = []

    async def consume() -> None:
        async for number in Deadline(0.1, "acme").each(ticks(0.03, closed)):
            seen.append(number)  # noqa: PERF401 - what came before the error must be kept

    with pytest.raises(errors.ProviderTimedOut, match=r"acme .* 0\.1 s"):
        await consume()
    assert seen[:2] == [0, 1]
    assert len(seen) < 4
    assert closed.is_set()


async def test_a_deadline_never_cancels_the_consumer():
    closed = asyncio.Event()
    source = Deadline(0.02, "acme").each(ticks(0, closed))
    assert await anext(source) == 0
    await asyncio.sleep(0.05)  # past the deadline: a timer around the generator would end this sleep
    await source.aclose()
    assert closed.is_set()


async def test_a_stream_that_ends_in_time_ends():
    async def three() -> AsyncGenerator[int, None]:
        for number in range(3):
            yield number

    assert [number async for number in Deadline(1, "acme").each(three())] == [0, 1, 2]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://localhost/v1", "http://[::1]:80/"])
def test_loopback_is_allowed_offline(url: str):
    refuse_outside(url)


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "http://10.0.0.1", "http://localhost.example.com", "x"])
def test_everything_else_is_refused_offline(url: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigurationError, match="GOAGENTS_OFFLINE=1"):
        refuse_outside(url)
    monkeypatch.delenv("GOAGENTS_OFFLINE")
    refuse_outside(url)
