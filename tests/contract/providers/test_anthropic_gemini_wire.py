"""What the wire can do to the anthropic and gemini adapters, the same for both."""

import asyncio
import gc
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.support.fakes import anthropic, gemini
from tests.support.fakes.wire import CUT, HANG, FakeServer, Reply, Step, stream

from goagents import errors
from goagents.messages import user_message
from goagents.providers.anthropic import AnthropicProvider
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, Provider, TextDelta
from goagents.providers.gemini import GeminiProvider

WORDS = ("one ", "two ", "three ")


@dataclass(frozen=True)
class Vendor:
    name: str
    provider: Any
    fake: type[FakeServer]
    model: str
    key: str
    events: list[bytes]  # a whole answer of three words
    first: int  # events up to the second word
    overloaded: Reply


VENDORS = (
    Vendor(
        "anthropic",
        AnthropicProvider,
        anthropic.FakeAnthropic,
        anthropic.MODEL,
        anthropic.KEY,
        anthropic.message([{"type": "text", "text": ""}, *({"type": "text_delta", "text": w} for w in WORDS)]),
        5,
        anthropic.error(529, "overloaded_error", retry_after="0.01"),
    ),
    Vendor(
        "gemini",
        GeminiProvider,
        gemini.FakeGemini,
        gemini.MODEL,
        gemini.KEY,
        gemini.chunks(*([gemini.text(word)] for word in WORDS)),
        2,
        gemini.error(503, "UNAVAILABLE", retry_after="0.01"),
    ),
)


@pytest.fixture(scope="module", params=VENDORS, ids=lambda vendor: vendor.name)
def vendor(request: pytest.FixtureRequest) -> Vendor:
    return request.param


@pytest.fixture(scope="module")
def server(vendor: Vendor) -> Iterator[FakeServer]:
    with vendor.fake(api_key=vendor.key) as running:
        yield running


@pytest.fixture
def fake(server: FakeServer) -> FakeServer:
    server.reset()
    return server


@pytest.fixture
async def provider(vendor: Vendor, fake: FakeServer) -> AsyncIterator[Provider]:
    adapter = vendor.provider(api_key=vendor.key, base_url=fake.url, max_retries=0)
    yield adapter
    await adapter.aclose()


@pytest.fixture
def request_(vendor: Vendor) -> ModelRequest:
    return ModelRequest(vendor.model, (user_message("hi"),), timeout=5.0)


async def collect(provider: Provider, request: ModelRequest, seen: list[ModelEvent] | None = None) -> ModelResponse:
    events: list[ModelEvent] = [] if seen is None else seen
    async with aclosing(provider.stream(request)) as opened:
        async for event in opened:
            events.append(event)  # noqa: PERF401 - what came before an error must be kept
    last = events[-1]
    assert isinstance(last, ModelResponse)
    return last


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ([CUT], errors.ProviderConnectionFailed),
        ([], errors.ProviderProtocolError),
        ([b'event: x\ndata: {"candidates": [{"content\n\n'], errors.ProviderProtocolError),
        ([b"event: x\ndata: \xff\xfe\n\n"], errors.ProviderProtocolError),
        ([b"event: x\ndata: [1, 2]\n\n"], errors.ProviderProtocolError),
    ],
    ids=["cut", "early end", "broken JSON", "not UTF-8", "no object"],
)
async def test_a_broken_stream_is_an_error_never_an_answer(
    vendor: Vendor,
    fake: FakeServer,
    provider: Provider,
    request_: ModelRequest,
    fault: list[Step],
    expected: type[errors.ProviderError],
):
    # The pause lets the client read what came before: a reset connection may take unread bytes with it.
    fake.replies.append(stream([*vendor.events[: vendor.first], 0.05, *fault]))
    seen: list[ModelEvent] = []
    with pytest.raises(expected) as caught:
        await collect(provider, request_, seen)
    assert type(caught.value) is expected
    assert caught.value.retryable
    assert seen == [TextDelta("one "), TextDelta("two ")]


async def test_every_cut_of_the_stream_is_noticed(
    vendor: Vendor, fake: FakeServer, provider: Provider, request_: ModelRequest
):
    for length in range(len(vendor.events)):
        fake.replies.append(stream(vendor.events[:length]))
        with pytest.raises(errors.ProviderProtocolError, match="before the answer was finished"):
            await collect(provider, request_)


async def test_bytes_may_be_cut_anywhere(vendor: Vendor, fake: FakeServer, provider: Provider, request_: ModelRequest):
    whole = b"".join(vendor.events)
    fake.replies.append(stream([piece for byte in whole for piece in (bytes([byte]), 0)]))
    assert (await collect(provider, request_)).message.text == "one two three "


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json"])
async def test_another_content_type_blames_the_base_url(
    vendor: Vendor, fake: FakeServer, provider: Provider, request_: ModelRequest, kind: str
):
    fake.replies.append(stream(vendor.events, content_type=kind))
    with pytest.raises(errors.ProviderProtocolError, match=rf"providers\.{vendor.name}\.base_url"):
        await collect(provider, request_)


async def test_an_error_page_of_a_gateway_is_still_ours(
    fake: FakeServer, provider: Provider, request_: ModelRequest, vendor: Vendor
):
    fake.replies.append(Reply((b"<html>Bad gateway</html>",), 502, "text/html"))
    with pytest.raises(errors.ProviderUnavailable, match="502"):
        await collect(provider, request_)


@pytest.mark.parametrize("place", ["before", "within", "slowly"])
async def test_the_timeout_covers_the_whole_stream(
    vendor: Vendor, fake: FakeServer, provider: Provider, request_: ModelRequest, place: str
):
    head, tail = vendor.events[: vendor.first], vendor.events[vendor.first :]
    steps: dict[str, list[Step]] = {
        "before": [HANG, *head],
        "within": [*head, HANG],
        "slowly": [step for event in head + tail for step in (0.15, event)],
    }
    await collect(provider, request_)  # the first call makes the client, which may take as long
    fake.replies.append(stream(steps[place]))
    start = time.monotonic()
    with pytest.raises(errors.ProviderTimedOut, match=r"within 0\.3 s"):
        await collect(provider, replace(request_, timeout=0.3))
    assert time.monotonic() - start < 2
    assert await asyncio.to_thread(fake.left_early.wait, 5)


async def test_a_slow_consumer_is_not_timed_out_by_its_own_work(
    vendor: Vendor, fake: FakeServer, provider: Provider, request_: ModelRequest
):
    async with aclosing(provider.stream(replace(request_, timeout=0.5))) as opened:
        assert await anext(opened)
        await asyncio.sleep(0.01)  # cancelled here, if a timer of the stream went on
        assert isinstance([event async for event in opened][-1], ModelResponse)


async def test_nobody_listens(vendor: Vendor, request_: ModelRequest):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        adapter = vendor.provider(api_key=vendor.key, base_url=url, max_retries=0)
        start = time.monotonic()
        with pytest.raises(errors.ProviderConnectionFailed):
            await collect(adapter, request_)
        assert time.monotonic() - start < 1
    await adapter.aclose()


async def test_closing_the_generator_closes_the_connection_at_once(
    vendor: Vendor, fake: FakeServer, provider: Provider, request_: ModelRequest
):
    fake.replies.append(stream([*vendor.events[: vendor.first], HANG]))
    opened: Any = provider.stream(replace(request_, timeout=60))
    assert await anext(opened) == TextDelta("one ")
    start = time.monotonic()
    await opened.aclose()
    assert await asyncio.to_thread(fake.left_early.wait, 5)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("first_byte", [True, False])
async def test_a_cancelled_consumer_closes_the_connection(
    vendor: Vendor, fake: FakeServer, provider: Provider, request_: ModelRequest, first_byte: bool
):
    fake.replies.append(stream([*vendor.events[: vendor.first], HANG] if first_byte else [HANG]))
    task = asyncio.create_task(collect(provider, replace(request_, timeout=60)))
    assert await asyncio.to_thread(fake.asked.wait, 5)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(fake.left_early.wait, 5)


async def test_the_connection_serves_the_next_call(fake: FakeServer, provider: Provider, request_: ModelRequest):
    for _ in range(3):
        await collect(provider, request_)
    assert len(fake.connections) == 1


async def test_200_streams_at_once_lose_nothing(
    vendor: Vendor, fake: FakeServer, provider: Provider, request_: ModelRequest
):
    many = [replace(request_, messages=(user_message(f"number {n}"),), timeout=30) for n in range(200)]
    answers = await asyncio.gather(*(collect(provider, one) for one in many))
    assert [answer.message.text for answer in answers] == [f"number {n}" for n in range(200)]


async def test_more_streams_at_once_than_the_sdks_default_of_connections(
    vendor: Vendor, fake: FakeServer, provider: Provider, request_: ModelRequest
):
    fake.replies.extend(
        stream([*vendor.events[: vendor.first], 0.5, *vendor.events[vendor.first :]]) for _ in range(120)
    )
    await asyncio.gather(*(collect(provider, replace(request_, timeout=30)) for _ in range(120)))
    assert len(fake.connections) == 120


async def test_max_connections_is_a_limit(vendor: Vendor, fake: FakeServer, request_: ModelRequest):
    adapter = vendor.provider(api_key=vendor.key, base_url=fake.url, max_connections=2)
    await asyncio.gather(*(collect(adapter, request_) for _ in range(10)))
    await adapter.aclose()
    assert len(fake.connections) <= 2


async def test_what_may_be_repeated_is_and_then_told(vendor: Vendor, fake: FakeServer, request_: ModelRequest):
    adapter = vendor.provider(api_key=vendor.key, base_url=fake.url, max_retries=1)
    fake.replies.append(vendor.overloaded)
    assert (await collect(adapter, request_)).message.text == "hi"
    assert len(fake.requests) == 2
    fake.replies.extend([vendor.overloaded] * 2)
    with pytest.raises(errors.ProviderOverloaded) as caught:
        await collect(adapter, request_)
    await adapter.aclose()
    assert len(fake.requests) == 4
    assert caught.value.retry_after == 0.01


async def test_a_wrong_key_is_told_without_the_key(vendor: Vendor, fake: FakeServer, request_: ModelRequest):
    adapter = vendor.provider(api_key="a-secret-nobody-sees", base_url=fake.url)
    with pytest.raises(errors.ProviderAuthenticationFailed, match=rf"providers\.{vendor.name}\.api_key") as caught:
        await collect(adapter, request_)
    await adapter.aclose()
    assert "a-secret-nobody-sees" not in f"{caught.value!r} {caught.value.problem()} {adapter!r}"
    assert len(fake.requests) == 1


async def test_a_closed_provider_opens_again_and_leaves_nothing_behind(
    vendor: Vendor, fake: FakeServer, request_: ModelRequest
):
    adapter = vendor.provider(api_key=vendor.key, base_url=fake.url)
    await adapter.aclose()  # it had opened nothing
    for _ in range(2):
        assert (await collect(adapter, request_)).message.text == "hi"
        await adapter.aclose()
    del adapter
    gc.collect()  # whatever was left unclosed would warn now, and a warning fails the test


def test_a_provider_opens_nothing_when_it_is_made(vendor: Vendor):
    vendor.provider(api_key=vendor.key, base_url="http://127.0.0.1:9")  # no loop runs here


@pytest.mark.parametrize("url", ["api.example.com", "ftp://host", "https://"])
def test_a_malformed_base_url_is_refused(vendor: Vendor, url: str):
    with pytest.raises(errors.ConfigurationError, match=rf"providers\.{vendor.name}\.base_url"):
        vendor.provider(api_key=vendor.key, base_url=url)


def test_offline_refuses_every_other_host(vendor: Vendor):
    for url in (None, "https://example.com", "http://127.0.0.1.example.com"):
        with pytest.raises(errors.ConfigurationError, match="GOAGENTS_OFFLINE=1"):
            vendor.provider(api_key=vendor.key, base_url=url)


def test_an_empty_key_and_a_wrong_ca_are_configuration_errors(vendor: Vendor, fake: FakeServer, tmp_path: Path):
    with pytest.raises(errors.ConfigurationError, match="api_key"):
        vendor.provider(api_key="", base_url=fake.url)
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")
    with pytest.raises(errors.ConfigurationError, match="ca_bundle"):
        vendor.provider(api_key=vendor.key, base_url=fake.url, ca_bundle=str(empty))


async def test_tls_is_verified_and_a_private_ca_can_be_trusted(vendor: Vendor, request_: ModelRequest, tmp_path: Path):
    certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    answer = b"".join(vendor.events)
    server = await asyncio.start_server(lambda r, w: _https(r, w, answer), "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    strict = vendor.provider(api_key=vendor.key, base_url=url, max_retries=0)
    with pytest.raises(errors.ProviderConnectionFailed, match="CERTIFICATE_VERIFY_FAILED"):
        await collect(strict, request_)
    trusting = vendor.provider(api_key=vendor.key, base_url=url, max_retries=0, ca_bundle=str(certificate))
    assert (await collect(trusting, request_)).message.text == "one two three "
    await strict.aclose()
    await trusting.aclose()
    server.close()


def _certificate(folder: Path) -> Path:
    """Make a self-signed certificate for 127.0.0.1; return the PEM file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "goagents test")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return path


async def _https(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    assert json.loads(await reader.readexactly(int(length.split(b":")[1])))
    fields = b"content-type: text/event-stream\r\nconnection: close\r\n"
    writer.write(b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (fields, len(answer), answer))
    await writer.drain()
    writer.close()
