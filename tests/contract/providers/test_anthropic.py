"""The anthropic adapter over the wire: against a fake that refuses what the vendor refuses."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from tests.support.fakes.anthropic import (
    KEY,
    MODEL,
    FakeAnthropic,
    error,
    error_event,
    event,
    message,
    redacted,
    sign,
    text,
    thinking,
    tool_use,
)
from tests.support.fakes.wire import stream

from goagents import errors
from goagents.messages import Message, ReasoningPart, TextPart, ToolCallPart, ToolResultPart, Usage, user_message
from goagents.providers.anthropic import AnthropicProvider, plain_base_url
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, ReasoningDelta, TextDelta, ToolSchema

TOOLS = (
    ToolSchema("weather", "Weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}}),
    ToolSchema("time", "Time of a city", {"type": "object", "properties": {"city": {"type": "string"}}}),
)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as running:
        yield running


@pytest.fixture
def fake(server: FakeAnthropic) -> FakeAnthropic:
    server.reset()
    return server


@pytest.fixture
async def provider(fake: FakeAnthropic) -> AsyncIterator[AnthropicProvider]:
    adapter = AnthropicProvider(api_key=KEY, base_url=fake.url, max_retries=0)
    yield adapter
    await adapter.aclose()


def asked(*messages: Message, **values: Any) -> ModelRequest:
    history = messages or (user_message("hi"),)
    return ModelRequest(**{"model": MODEL, "messages": history, "timeout": 5.0, **values})


async def collect(provider: AnthropicProvider, request: ModelRequest, seen: list[ModelEvent] | None = None) -> Any:
    events: list[ModelEvent] = [] if seen is None else seen
    async with aclosing(provider.stream(request)) as opened:
        async for item in opened:
            events.append(item)  # noqa: PERF401 - what came before an error must be kept
    assert isinstance(events[-1], ModelResponse)
    return events[-1]


async def test_text_streams_and_ends_with_the_whole(fake: FakeAnthropic, provider: AnthropicProvider):
    fake.replies.append(stream(message(text("Grüße aus Zürich 👋"))))
    seen: list[ModelEvent] = []
    last = await collect(provider, asked(system="Be brief."), seen)
    assert "".join(item.text for item in seen if isinstance(item, TextDelta)) == "Grüße aus Zürich 👋"
    assert len(seen) == 4
    assert last == ModelResponse(
        Message("assistant", (TextPart("Grüße aus Zürich 👋"),), provider="anthropic", model=MODEL),
        "end_turn",
        Usage(input_tokens=25, output_tokens=15),
        MODEL,
        "msg_01",
    )


async def test_thinking_and_parallel_calls_go_back_whole(fake: FakeAnthropic, provider: AnthropicProvider):
    calls = (
        tool_use("toolu_1", "weather", {"city": "Zürich"}),
        tool_use("toolu_2", "time", {"city": "Bern"}),
        tool_use("toolu_3", "time", {}),
    )
    fake.replies.append(stream(message(thinking("I should look."), redacted("opaque"), text("Let me see."), *calls)))
    settings = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    seen: list[ModelEvent] = []
    first = await collect(provider, asked(tools=TOOLS, settings=settings), seen)
    assert "".join(item.text for item in seen if isinstance(item, ReasoningDelta)) == "I should look."
    assert first.stop_reason == "tool_use"
    assert first.message.parts == (
        ReasoningPart("I should look.", signature=sign("I should look.")),
        ReasoningPart("", signature="opaque", redacted=True),
        TextPart("Let me see."),
        ToolCallPart("toolu_1", "weather", {"city": "Zürich"}),
        ToolCallPart("toolu_2", "time", {"city": "Bern"}),
        ToolCallPart("toolu_3", "time", {}),
    )
    results = tuple(
        ToolResultPart(call.id, call.name, (TextPart("ok"),), is_error=call.name == "time")
        for call in first.message.tool_calls
    )
    history = (user_message("hi"), first.message, Message("tool", results), user_message("thanks"))
    second = await collect(provider, asked(*history, tools=TOOLS, settings=settings))
    assert second.message.text == "thanks"
    assert [block["type"] for block in fake.last["messages"][1]["content"]] == [
        "thinking",
        "redacted_thinking",
        "text",
        *["tool_use"] * 3,
    ]
    assert fake.last["thinking"] == settings["thinking"]


@pytest.mark.parametrize("raw", ['{"city": ', "[1]", "nonsense"])
async def test_malformed_arguments_are_kept_as_they_came(fake: FakeAnthropic, provider: AnthropicProvider, raw: str):
    fake.replies.append(stream(message(tool_use("toolu_1", "weather", raw))))
    last = await collect(provider, asked(tools=TOOLS))
    (call,) = last.message.tool_calls
    assert (call.malformed, call.arguments) == (raw, {})
    result = Message("tool", (ToolResultPart(call.id, call.name, (TextPart("no JSON"),), is_error=True),))
    await collect(provider, asked(user_message("hi"), last.message, result, tools=TOOLS))


async def test_a_result_that_answers_no_call_is_refused_by_the_fake(provider: AnthropicProvider):
    lost = Message("tool", (ToolResultPart("nobody", "weather", (TextPart("x"),)),))
    with pytest.raises(errors.ProviderInvalidRequest, match="exactly one"):
        await collect(provider, asked(user_message("hi"), lost))


async def test_usage_counts_what_the_cache_gave_and_took(fake: FakeAnthropic, provider: AnthropicProvider):
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 30},
    }
    fake.replies.append(stream(message(text("x"), usage=usage)))
    assert (await collect(provider, asked())).usage == Usage(130, 50, 100, 20, 30)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "end_turn"),
        ("max_tokens", "max_tokens"),
        ("model_context_window_exceeded", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("refusal", "refusal"),
        ("pause_turn", "end_turn"),
        ("something_new", "end_turn"),
    ],
)
async def test_stop_reasons(fake: FakeAnthropic, provider: AnthropicProvider, reason: str, expected: str):
    fake.replies.append(stream(message(text("some text"), stop_reason=reason)))
    assert (await collect(provider, asked())).stop_reason == expected


async def test_a_refusal_without_a_word_is_an_error(fake: FakeAnthropic, provider: AnthropicProvider):
    fake.replies.append(stream(message(stop_reason="refusal")))
    with pytest.raises(errors.ProviderRefused):
        await collect(provider, asked())


async def test_headers_settings_and_schema_reach_the_server(fake: FakeAnthropic, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fake, "version", "2026-10-21")
    adapter = AnthropicProvider(api_key=KEY, base_url=f"{fake.url}/v1/", version="2026-10-21")
    settings = {"temperature": 0.5, "betas": ["one", "two"], "stop_sequences": ["END"]}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    await collect(adapter, asked(settings=settings, output_schema=schema))
    await adapter.aclose()
    assert fake.requests[0].headers["anthropic-beta"] == "one,two"
    assert (fake.last["temperature"], fake.last["stop_sequences"]) == (0.5, ["END"])
    assert "betas" not in fake.last
    assert fake.last["output_config"]["format"]["type"] == "json_schema"


async def test_an_old_model_makes_no_noise(fake: FakeAnthropic, provider: AnthropicProvider):
    await collect(provider, asked(model="claude-3-5-haiku-20241022"))  # the SDK would warn, and a warning fails a test
    assert fake.last["model"] == "claude-3-5-haiku-20241022"


async def test_the_environment_changes_nothing(fake: FakeAnthropic, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-somebody")
    adapter = AnthropicProvider(api_key=KEY, base_url=fake.url)
    await collect(adapter, asked())
    await adapter.aclose()
    assert fake.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_a_setting_the_vendor_does_not_know_is_its_own_error(provider: AnthropicProvider):
    with pytest.raises(errors.ProviderInvalidRequest, match="frequency_penalty"):
        await collect(provider, asked(settings={"frequency_penalty": 1}))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", errors.ProviderOverloaded),
        ("rate_limit_error", errors.ProviderRateLimited),
        ("api_error", errors.ProviderUnavailable),
        ("invalid_request_error", errors.ProviderInvalidRequest),
    ],
)
async def test_an_error_event_in_the_stream(
    fake: FakeAnthropic, provider: AnthropicProvider, kind: str, expected: type[errors.ProviderError]
):
    fake.replies.append(stream([*message(text("a long answer"))[:5], error_event(kind)]))
    seen: list[ModelEvent] = []
    with pytest.raises(expected, match="something broke") as caught:
        await collect(provider, asked(), seen)
    assert type(caught.value) is expected
    assert len(seen) == 2


@pytest.mark.parametrize(
    "bad",
    [
        event("content_block_delta", index=7, delta={"type": "text_delta", "text": "x"}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": 5}),
        event("content_block_start", index=0, content_block="x"),
        b"event: content_block_delta\ndata: {}\n\n",
        b"event: ping\ndata: []\n\n",
        event("message_stop"),
    ],
)
async def test_events_of_another_shape_are_a_protocol_error(
    fake: FakeAnthropic, provider: AnthropicProvider, bad: bytes
):
    fake.replies.append(stream([*message(text("x"))[:3], bad]))
    with pytest.raises(errors.ProviderProtocolError):
        await collect(provider, asked())


async def test_tool_use_without_a_tool_is_a_protocol_error(fake: FakeAnthropic, provider: AnthropicProvider):
    fake.replies.append(stream(message(text("x"), stop_reason="tool_use")))
    with pytest.raises(errors.ProviderProtocolError, match="named none"):
        await collect(provider, asked())


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "invalid_request_error", errors.ProviderInvalidRequest),
        (401, "authentication_error", errors.ProviderAuthenticationFailed),
        (402, "billing_error", errors.ProviderPermissionDenied),
        (403, "permission_error", errors.ProviderPermissionDenied),
        (404, "not_found_error", errors.ProviderModelNotFound),
        (413, "request_too_large", errors.ProviderContextTooLong),
        (429, "rate_limit_error", errors.ProviderRateLimited),
        (500, "api_error", errors.ProviderUnavailable),
        (504, "timeout_error", errors.ProviderTimedOut),
        (529, "overloaded_error", errors.ProviderOverloaded),
    ],
)
async def test_each_status_in_the_vendors_format(
    fake: FakeAnthropic, provider: AnthropicProvider, status: int, kind: str, expected: type[errors.ProviderError]
):
    fake.replies.append(error(status, kind, f"refused {KEY}", retry_after="3"))
    with pytest.raises(expected, match="refused") as caught:
        await collect(provider, asked())
    assert type(caught.value) is expected
    assert caught.value.retry_after == 3.0
    assert KEY not in caught.value.detail


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com"),
        ("https://api.anthropic.com/v1/", "https://api.anthropic.com"),
        ("https://host/anthropic/v1", "https://host/anthropic"),
        ("https://host/v1/messages", "https://host"),
    ],
)
def test_base_url_with_or_without_its_version(given: str, plain: str):
    assert plain_base_url(given) == plain


def test_a_malformed_version_is_refused(fake: FakeAnthropic):
    with pytest.raises(errors.ConfigurationError, match="version"):
        AnthropicProvider(api_key=KEY, base_url=fake.url, version="x\r\ny: z")
