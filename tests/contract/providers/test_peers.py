"""All real adapters over the wire against fakes that others wrote: what one of them can do, each of them must.

aimock speaks from the fixtures in `tests/support/peers/aimock.json`; llmock breaks the wire on demand and judges how
its client took it.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest
from tests.support.peers import Peer, aimock, llmock

from goagents import errors
from goagents.messages import ImagePart, Message, TextPart, ToolResultPart, user_message
from goagents.providers.anthropic import AnthropicProvider
from goagents.providers.base import (
    ModelEvent,
    ModelRequest,
    ModelResponse,
    Provider,
    ReasoningDelta,
    TextDelta,
    ToolSchema,
)
from goagents.providers.gemini import GeminiProvider
from goagents.providers.openai import OpenAIProvider

KEY = "test-key-0123456789"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = (ToolSchema("weather", "Weather of a city", CITY), ToolSchema("time", "Time of a city", CITY))
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


@dataclass(frozen=True)
class Vendor:
    name: str
    model: str
    make: Callable[[str, int], Provider]  # (base_url, max_retries)
    llmock_path: str
    thinker: str  # a model of which aimock believes that it reasons


VENDORS = (
    Vendor(
        "openai",
        "gpt-4o",
        lambda url, retries: OpenAIProvider(api_key=KEY, base_url=url, max_retries=retries),
        "",
        "o3-mini",
    ),
    Vendor(
        "anthropic",
        "claude-sonnet-4-20250514",
        lambda url, retries: AnthropicProvider(api_key=KEY, base_url=url, max_retries=retries),
        "/anthropic",
        "claude-sonnet-4-20250514",
    ),
    Vendor(
        "gemini",
        "gemini-2.5-flash",
        lambda url, retries: GeminiProvider(api_key=KEY, base_url=url, api_version="v1beta", max_retries=retries),
        "/gemini",
        "gemini-2.5-flash",
    ),
)


@pytest.fixture(params=VENDORS, ids=lambda vendor: vendor.name)
def vendor(request: pytest.FixtureRequest) -> Vendor:
    return request.param


@pytest.fixture(scope="module")
def aimock_server() -> Iterator[Peer]:
    with aimock() as peer:
        yield peer


@pytest.fixture(scope="module")
def llmock_server() -> Iterator[Peer]:
    with llmock() as peer:
        yield peer


@pytest.fixture
async def from_aimock(aimock_server: Peer, vendor: Vendor) -> AsyncIterator[Provider]:
    provider = vendor.make(aimock_server.url, 0)
    yield provider
    await provider.aclose()


@pytest.fixture
def scenario(llmock_server: Peer) -> Callable[..., None]:
    llmock_server.control("POST", "/_llmock/reset")

    def queue(*behaviors: dict[str, Any]) -> None:
        llmock_server.control("POST", "/_llmock/scenario", {"behaviors": behaviors})

    return queue


@pytest.fixture
async def from_llmock(llmock_server: Peer, vendor: Vendor) -> AsyncIterator[Provider]:
    provider = vendor.make(llmock_server.url + vendor.llmock_path, 2)
    yield provider
    await provider.aclose()


def asked(vendor: Vendor, *messages: str | Message, **values: Any) -> ModelRequest:
    parts = tuple(user_message(item) if isinstance(item, str) else item for item in messages)
    settings = {"max_tokens": 500} if vendor.name == "anthropic" else {}
    return ModelRequest(**{"model": vendor.model, "messages": parts, "timeout": 10.0, "settings": settings, **values})


async def collect(provider: Provider, request: ModelRequest, seen: list[ModelEvent] | None = None) -> ModelResponse:
    events: list[ModelEvent] = [] if seen is None else seen
    async with aclosing(provider.stream(request)) as stream:
        async for event in stream:
            events.append(event)  # noqa: PERF401 - what came before an error must be kept
    last = events[-1]
    assert isinstance(last, ModelResponse)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == last.message.text
    return last


def verdict(server: Peer) -> dict[str, Any]:
    return server.control("GET", "/_llmock/verdict")


@pytest.mark.peers
async def test_text(from_aimock: Provider, vendor: Vendor):
    seen: list[ModelEvent] = []
    last = await collect(from_aimock, asked(vendor, "hello", system="Be kind."), seen)
    assert last.message.text == "Grüezi! How can I help? 👋"
    assert last.stop_reason == "end_turn"
    assert last.message.provider == vendor.name
    assert len(seen) > 2  # it came in pieces


@pytest.mark.peers
async def test_tools_in_parallel_then_their_results(from_aimock: Provider, vendor: Vendor):
    first = await collect(from_aimock, asked(vendor, "weather?", tools=TOOLS))
    assert first.stop_reason == "tool_use"
    assert first.message.text == "Let me look."
    assert [(call.name, call.arguments) for call in first.message.tool_calls] == [
        ("weather", {"city": "Zürich"}),
        ("time", {"city": "Bern"}),
    ]
    assert len({call.id for call in first.message.tool_calls}) == 2
    image = ImagePart(media_type="image/png", data=PIXEL)
    results = tuple(
        ToolResultPart(call.id, call.name, (TextPart("ok"), image), is_error=call.name == "time")
        for call in first.message.tool_calls
    )
    if vendor.name != "anthropic":  # there an image goes beside the result, and aimock takes it for a new user message
        results = tuple(ToolResultPart(r.call_id, r.name, (TextPart("ok"),), r.is_error) for r in results)
    history = ("weather?", first.message, Message("tool", results))
    second = await collect(from_aimock, asked(vendor, *history, tools=TOOLS))
    assert second.message.text == "Sunny in Zürich, noon in Bern."
    third = await collect(from_aimock, asked(vendor, *history, second.message, "hello", tools=TOOLS))
    assert third.message.text.startswith("Grüezi")


@pytest.mark.peers
async def test_reasoning(from_aimock: Provider, vendor: Vendor):
    seen: list[ModelEvent] = []
    last = await collect(from_aimock, asked(vendor, "think", model=vendor.thinker), seen)
    assert "".join(event.text for event in seen if isinstance(event, ReasoningDelta)) == "Six times seven."
    assert last.message.text == "It is 42."
    again = await collect(from_aimock, asked(vendor, "think", last.message, "hello", model=vendor.thinker))
    assert again.message.text.startswith("Grüezi")


@pytest.mark.peers
async def test_usage_and_the_limit_of_tokens(from_aimock: Provider, vendor: Vendor):
    counted = (await collect(from_aimock, asked(vendor, "count"))).usage
    assert (counted.input_tokens, counted.output_tokens) == (11, 7)
    assert (await collect(from_aimock, asked(vendor, "long"))).stop_reason == "max_tokens"


@pytest.mark.peers
async def test_images_are_taken(from_aimock: Provider, vendor: Vendor):
    parts = (TextPart("hello"), ImagePart(media_type="image/png", data=PIXEL))
    assert (await collect(from_aimock, asked(vendor, Message("user", parts)))).message.text.startswith("Grüezi")


@pytest.mark.peers
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, errors.ProviderAuthenticationFailed),
        (429, errors.ProviderRateLimited),
        (500, errors.ProviderUnavailable),
        (529, errors.ProviderOverloaded),
    ],
)
async def test_statuses(from_aimock: Provider, vendor: Vendor, status: int, expected: type[errors.ProviderError]):
    with pytest.raises(expected) as caught:
        await collect(from_aimock, asked(vendor, f"error {status}"))
    assert type(caught.value) is expected
    assert KEY not in caught.value.detail


@pytest.mark.peers
async def test_a_cut_in_the_stream_is_an_error(from_aimock: Provider, vendor: Vendor):
    seen: list[ModelEvent] = []
    with pytest.raises((errors.ProviderConnectionFailed, errors.ProviderProtocolError)):
        await collect(from_aimock, asked(vendor, "cut"), seen)
    assert not any(isinstance(event, ModelResponse) for event in seen)


@pytest.mark.peers
async def test_the_timeout_covers_the_whole_stream(from_aimock: Provider, vendor: Vendor):
    with pytest.raises(errors.ProviderTimedOut):
        await collect(from_aimock, asked(vendor, "slow", timeout=0.8))


async def test_llmock_text_and_tools(from_llmock: Provider, vendor: Vendor, scenario: Callable[..., None]):
    scenario({"type": "reply", "text": "Hello from afar."})
    assert (await collect(from_llmock, asked(vendor, "hello"))).message.text == "Hello from afar."
    first = await collect(from_llmock, asked(vendor, "weather in Paris", tools=TOOLS[:1]))
    (call,) = first.message.tool_calls
    assert call.name == "weather"
    assert isinstance(call.arguments["city"], str)
    result = Message("tool", (ToolResultPart(call.id, call.name, (TextPart("sunny"),)),))
    second = await collect(from_llmock, asked(vendor, "weather in Paris", first.message, result, tools=TOOLS[:1]))
    assert second.message.text
    assert second.stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("disconnect", (errors.ProviderConnectionFailed,)),
        ("truncate", (errors.ProviderProtocolError,)),
        ("malformed", (errors.ProviderProtocolError,)),
    ],
)
async def test_a_broken_stream_is_an_error_that_may_be_repeated(
    from_llmock: Provider,
    vendor: Vendor,
    scenario: Callable[..., None],
    llmock_server: Peer,
    kind: str,
    expected: tuple[type[errors.ProviderError], ...],
):
    scenario({"type": "stream_fault", "kind": kind, "after_chunks": 3})
    seen: list[ModelEvent] = []
    with pytest.raises(expected) as caught:
        await collect(from_llmock, asked(vendor, "tell me a story"), seen)
    assert caught.value.retryable
    assert not any(isinstance(event, ModelResponse) for event in seen)
    assert (await collect(from_llmock, asked(vendor, "tell me a story"))).message.text
    assert [found for found in verdict(llmock_server)["findings"] if found["severity"] == "error"] == []


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_the_sdk_repeats_and_waits_as_asked(
    from_llmock: Provider, vendor: Vendor, scenario: Callable[..., None], llmock_server: Peer, status: int
):
    scenario({"type": "fail", "status": status, "retry_after": 0.2})
    assert (await collect(from_llmock, asked(vendor, "hello"))).message.text
    judged = verdict(llmock_server)
    assert [found for found in judged["findings"] if found["severity"] == "error"] == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, errors.ProviderInvalidRequest),
        (401, errors.ProviderAuthenticationFailed),
        (403, errors.ProviderPermissionDenied),
        (404, errors.ProviderModelNotFound),
    ],
)
async def test_what_cannot_be_repeated_is_not(
    from_llmock: Provider,
    vendor: Vendor,
    scenario: Callable[..., None],
    llmock_server: Peer,
    status: int,
    expected: type[errors.ProviderError],
):
    scenario({"type": "fail", "status": status, "times": None})
    with pytest.raises(expected) as caught:
        await collect(from_llmock, asked(vendor, "hello"))
    assert type(caught.value) is expected
    assert len(llmock_server.control("GET", "/_llmock/requests")["requests"]) == 1
    assert verdict(llmock_server)["findings"] == []


async def test_an_unknown_tool_is_handed_on(from_llmock: Provider, vendor: Vendor, scenario: Callable[..., None]):
    scenario({"type": "tool_fault", "kind": "unknown_tool"})
    last = await collect(from_llmock, asked(vendor, "weather in Paris", tools=TOOLS))
    assert last.message.tool_calls
    assert {call.name for call in last.message.tool_calls}.isdisjoint({"weather", "time"})


async def test_malformed_arguments_are_kept_as_they_came(
    from_llmock: Provider, vendor: Vendor, scenario: Callable[..., None]
):
    if vendor.name == "gemini":
        pytest.skip("Gemini sends arguments as an object: they cannot be malformed")
    scenario({"type": "tool_fault", "kind": "malformed_arguments"})
    (call,) = (await collect(from_llmock, asked(vendor, "weather in Paris", tools=TOOLS[:1]))).message.tool_calls
    assert call.malformed
    assert call.arguments == {}
    result = Message("tool", (ToolResultPart(call.id, call.name, (TextPart("no JSON"),), is_error=True),))
    again = asked(vendor, "weather in Paris", Message("assistant", (call,)), result, tools=TOOLS[:1])
    assert (await collect(from_llmock, again)).message.text


async def test_a_slow_first_token_is_bounded_by_the_timeout(
    from_llmock: Provider, vendor: Vendor, scenario: Callable[..., None]
):
    scenario({"type": "slow_first_token", "seconds": 5})
    with pytest.raises(errors.ProviderTimedOut):
        await collect(from_llmock, asked(vendor, "hello", timeout=0.5))
