"""The openai adapter over the wire: against a fake that refuses what the vendor refuses, and fails in every way."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from tests.support.fakes.openai import KEY, FakeOpenAI, Reply

from goagents import errors
from goagents.errors import ConfigurationError
from goagents.messages import Message, ReasoningPart, TextPart, ToolCallPart, ToolResultPart, user_message
from goagents.providers.base import (
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ReasoningDelta,
    TextDelta,
    ToolSchema,
)
from goagents.providers.openai import OpenAIProvider, complete_base_url

TOOLS = (
    ToolSchema("weather", "Weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}}),
    ToolSchema("time", "Time of a city", {"type": "object", "properties": {"city": {"type": "string"}}}),
)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(models=("gpt-4o", "gpt-5")) as fake:
        yield fake


@pytest.fixture
def fake(server: FakeOpenAI) -> FakeOpenAI:
    server.reset()
    return server


@pytest.fixture
async def provider(fake: FakeOpenAI) -> AsyncIterator[OpenAIProvider]:
    adapter = OpenAIProvider(api_key=KEY, base_url=fake.url, max_retries=0)
    yield adapter
    await adapter.aclose()


def asked(text: str = "hi", **values: Any) -> ModelRequest:
    return ModelRequest(**{"model": "gpt-4o", "messages": (user_message(text),), "timeout": 5.0, **values})


async def collect(provider: OpenAIProvider, request: ModelRequest, seen: list[ModelEvent] | None = None) -> Any:
    events: list[ModelEvent] = [] if seen is None else seen
    async with aclosing(provider.stream(request)) as stream:
        async for event in stream:
            events.append(event)  # noqa: PERF401 - what came before an error must be kept
    return events[-1]


async def test_text_streams_and_ends_with_the_whole(fake: FakeOpenAI, provider: OpenAIProvider):
    fake.replies.append(Reply(text="Grüße aus Zürich 👋", piece=3))
    seen: list[ModelEvent] = []
    last = await collect(provider, asked(system="Be brief."), seen)
    assert [event.text for event in seen if isinstance(event, TextDelta)] == ["Grü", "ße ", "aus", " Zü", "ric", "h 👋"]
    assert [type(event) for event in seen].count(ModelResponse) == 1
    assert last == ModelResponse(
        message=Message("assistant", (TextPart("Grüße aus Zürich 👋"),), provider="openai", model="gpt-4o"),
        stop_reason="end_turn",
        usage=last.usage,
        model="gpt-4o",
        response_id="chatcmpl-fake1",
    )
    assert last.usage.input_tokens > 0
    assert last.usage.output_tokens > 0


async def test_parallel_tool_calls_and_their_results(fake: FakeOpenAI, provider: OpenAIProvider):
    calls = (("weather", '{"city": "Zürich"}'), ("time", '{"city": "Bern"}'))
    fake.replies.append(Reply(text="Let me see.", tool_calls=calls, piece=4))
    first = await collect(provider, asked(tools=TOOLS))
    assert first.stop_reason == "tool_use"
    assert [(call.name, call.arguments, call.malformed) for call in first.message.tool_calls] == [
        ("weather", {"city": "Zürich"}, None),
        ("time", {"city": "Bern"}, None),
    ]
    results = tuple(
        ToolResultPart(call.id, call.name, (TextPart(f"{call.name} ok"),)) for call in first.message.tool_calls
    )
    history = (user_message("hi"), first.message, Message("tool", results), user_message("thanks"))
    assert (await collect(provider, asked(messages=history, tools=TOOLS))).message.text == "thanks"


async def test_a_result_that_answers_no_call_is_refused_by_the_fake(fake: FakeOpenAI, provider: OpenAIProvider):
    lost = Message("tool", (ToolResultPart("nobody", "weather", (TextPart("x"),)),))
    with pytest.raises(errors.ProviderInvalidRequest, match="must answer"):
        await collect(provider, asked(messages=(user_message("hi"), lost)))


@pytest.mark.parametrize("arguments", ['{"city": ', "[1]", "nonsense"])
async def test_malformed_arguments_are_kept_as_they_came(fake: FakeOpenAI, provider: OpenAIProvider, arguments: str):
    fake.replies.append(Reply(tool_calls=(("weather", arguments),)))
    (call,) = (await collect(provider, asked(tools=TOOLS))).message.tool_calls
    assert call.malformed == arguments
    assert call.arguments == {}
    result = Message("tool", (ToolResultPart(call.id, call.name, (TextPart("no JSON"),), is_error=True),))
    history = (user_message("hi"), Message("assistant", (call,)), result)
    await collect(provider, asked(messages=history, tools=TOOLS))


async def test_calls_that_share_index_0_or_lack_an_id_stay_apart(fake: FakeOpenAI, provider: OpenAIProvider):
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    pieces = [
        {"index": 0, "id": "a", "function": {"name": "weather", "arguments": '{"city": "A"}'}},
        {"index": 0, "id": "b", "function": {"name": "time", "arguments": {"city": "B"}}},
        {"index": 1, "function": {"name": "time"}},
    ]
    fake.replies.append(Reply(raw_chunks=(*(chunk({"tool_calls": [p]}) for p in pieces), chunk({}, "stop"))))
    last = await collect(provider, asked(tools=TOOLS))
    assert [(c.name, c.arguments) for c in last.message.tool_calls] == [
        ("weather", {"city": "A"}),
        ("time", {"city": "B"}),
        ("time", {}),
    ]
    assert last.stop_reason == "tool_use"
    assert len({call.id for call in last.message.tool_calls}) == 3


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_of_compatible_servers(fake: FakeOpenAI, provider: OpenAIProvider, field: str):
    fake.replies.append(Reply(reasoning="think hard", text="42", reasoning_field=field))
    seen: list[ModelEvent] = []
    last = await collect(provider, asked(), seen)
    assert "".join(event.text for event in seen if isinstance(event, ReasoningDelta)) == "think hard"
    assert last.message.parts == (ReasoningPart("think hard"), TextPart("42"))
    assert last.usage.reasoning_tokens > 0
    again = (user_message("hi"), last.message, user_message("more"))
    assert (await collect(provider, asked(messages=again))).message.text == "more"


async def test_usage_with_cached_and_reasoning_tokens(fake: FakeOpenAI, provider: OpenAIProvider):
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    fake.replies.append(Reply(text="x", usage=usage))
    found = (await collect(provider, asked())).usage
    assert (found.input_tokens, found.output_tokens) == (100, 50)
    assert (found.cached_input_tokens, found.reasoning_tokens) == (64, 30)


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("eos", "end_turn")],
)
async def test_stop_reasons(fake: FakeOpenAI, provider: OpenAIProvider, finish: str, expected: str):
    fake.replies.append(Reply(text="some text", finish=finish))
    last = await collect(provider, asked())
    assert last.stop_reason == expected
    assert last.message.text == "some text"


async def test_a_refusal_in_words_is_an_answer_and_one_without_is_an_error(fake: FakeOpenAI, provider: OpenAIProvider):
    fake.replies.append(Reply(refusal="I cannot help with that."))
    last = await collect(provider, asked())
    assert (last.stop_reason, last.message.text) == ("refusal", "I cannot help with that.")
    fake.replies.append(Reply(finish="content_filter"))
    with pytest.raises(errors.ProviderRefused):
        await collect(provider, asked())


async def test_settings_headers_and_schema_reach_the_server(fake: FakeOpenAI):
    adapter = OpenAIProvider(api_key=KEY, base_url=f"{fake.url}/v1/", org_id="org-1", project_id="proj-1")
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    settings = {"temperature": 0.5, "max_tokens": 9}
    await collect(adapter, asked(model="gpt-5", settings=settings, output_schema=schema))
    await adapter.aclose()
    (sent,), (headers,) = fake.requests, fake.headers
    assert (sent["temperature"], sent["max_completion_tokens"]) == (0.5, 9)
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")


async def test_the_environment_never_adds_an_organization(fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-of-somebody")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    adapter = OpenAIProvider(api_key=KEY, base_url=fake.url)
    await collect(adapter, asked())
    await adapter.aclose()
    assert not {"openai-organization", "openai-project"} & fake.headers[0].keys()


async def test_a_setting_the_server_does_not_know_is_its_own_error(provider: OpenAIProvider):
    with pytest.raises(errors.ProviderInvalidRequest, match="top_k"):
        await collect(provider, asked(settings={"top_k": 4}))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("cut", errors.ProviderConnectionFailed),
        ("early_end", errors.ProviderProtocolError),
        ("bad_json", errors.ProviderProtocolError),
        ("error_event", errors.ProviderUnavailable),
        ("content_type", errors.ProviderProtocolError),
    ],
)
async def test_a_broken_stream_is_an_error_never_an_answer(
    fake: FakeOpenAI, provider: OpenAIProvider, fault: str, expected: type[errors.ProviderError]
):
    fake.replies.append(Reply(text="a long enough answer", fault=fault, fault_after=3))
    seen: list[ModelEvent] = []
    with pytest.raises(expected) as caught:
        await collect(provider, asked(), seen)
    assert type(caught.value) is expected
    assert not any(isinstance(event, ModelResponse) for event in seen)
    assert len(seen) == (0 if fault == "content_type" else 2)


async def test_an_answer_without_done_is_complete_when_it_says_so(fake: FakeOpenAI, provider: OpenAIProvider):
    fake.replies.append(Reply(text="whole", fault="no_done", fault_after=99))
    assert (await collect(provider, asked())).message.text == "whole"


@pytest.mark.parametrize(
    "chunk",
    [{"choices": [{"delta": {"content": 5}}]}, {"choices": 5}, {"choices": [5]}, {"choices": [{"delta": "x"}]}],
)
async def test_chunks_of_another_shape_are_a_protocol_error(
    fake: FakeOpenAI, provider: OpenAIProvider, chunk: dict[str, Any]
):
    fake.replies.append(Reply(raw_chunks=(chunk,)))
    with pytest.raises(errors.ProviderProtocolError, match="no Chat Completions chunk"):
        await collect(provider, asked())


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, {"code": "context_length_exceeded", "message": "too long"}, errors.ProviderContextTooLong),
        (401, {"code": "invalid_api_key", "message": "Incorrect API key"}, errors.ProviderAuthenticationFailed),
        (403, {"message": "no"}, errors.ProviderPermissionDenied),
        (429, {"code": "rate_limit_exceeded", "message": "slow"}, errors.ProviderRateLimited),
        (429, {"code": "insufficient_quota", "message": "pay"}, errors.ProviderPermissionDenied),
        (500, {"message": "oops"}, errors.ProviderUnavailable),
        (503, {"message": "busy"}, errors.ProviderOverloaded),
        (529, {"message": "busy"}, errors.ProviderOverloaded),
    ],
)
async def test_each_status_in_the_vendors_format(
    fake: FakeOpenAI,
    provider: OpenAIProvider,
    status: int,
    error: dict[str, Any],
    expected: type[errors.ProviderError],
):
    fake.replies.append(Reply(status=status, error=error, headers={"Retry-After": "3"}))
    with pytest.raises(expected, match=error["message"]) as caught:
        await collect(provider, asked())
    assert type(caught.value) is expected
    assert caught.value.retry_after == 3.0


async def test_an_error_page_in_html_is_still_ours(fake: FakeOpenAI, provider: OpenAIProvider):
    fake.replies.append(Reply(status=502, body=b"<html>Bad gateway</html>"))
    with pytest.raises(errors.ProviderUnavailable, match="502"):
        await collect(provider, asked())


async def test_the_sdk_repeats_what_may_be_repeated(fake: FakeOpenAI):
    adapter = OpenAIProvider(api_key=KEY, base_url=fake.url, max_retries=1)
    fake.replies.extend([Reply(status=500, headers={"retry-after-ms": "1"}), Reply(text="ok")])
    assert (await collect(adapter, asked())).message.text == "ok"
    await adapter.aclose()
    assert len(fake.requests) == 2


async def test_unknown_model_and_wrong_key(fake: FakeOpenAI, provider: OpenAIProvider):
    with pytest.raises(errors.ProviderModelNotFound):
        await collect(provider, asked(model="gpt-none"))
    wrong = OpenAIProvider(api_key="sk-wrong", base_url=fake.url)
    with pytest.raises(errors.ProviderAuthenticationFailed, match=r"providers\.openai\.api_key"):
        await collect(wrong, asked())
    await wrong.aclose()


async def test_a_wrong_path_blames_the_base_url(fake: FakeOpenAI):
    lost = OpenAIProvider(api_key=KEY, base_url=f"{fake.url}/elsewhere/v1")
    with pytest.raises(errors.ProviderModelNotFound, match="Invalid URL"):
        await collect(lost, asked())
    await lost.aclose()


@pytest.mark.parametrize(
    "reply",
    [Reply(text="x", first_delay=30), Reply(text="x" * 99, fault="hang"), Reply(text="x" * 99, chunk_delay=0.1)],
)
async def test_the_timeout_covers_the_whole_stream(fake: FakeOpenAI, provider: OpenAIProvider, reply: Reply):
    fake.replies.append(reply)
    start = time.monotonic()
    with pytest.raises(errors.ProviderTimedOut, match=r"within 0\.3 s"):
        await collect(provider, asked(timeout=0.3))
    assert time.monotonic() - start < 2


async def test_nobody_listens():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        adapter = OpenAIProvider(api_key=KEY, base_url=f"http://127.0.0.1:{unused.getsockname()[1]}", max_retries=0)
        with pytest.raises(errors.ProviderConnectionFailed):
            await collect(adapter, asked())
    await adapter.aclose()


async def test_closing_the_generator_closes_the_connection_at_once(fake: FakeOpenAI, provider: OpenAIProvider):
    fake.replies.append(Reply(text="x" * 100, fault="hang"))
    stream = provider.stream(asked(timeout=60))
    assert await anext(stream) == TextDelta("x" * 6)
    start = time.monotonic()
    await stream.aclose()
    assert await asyncio.to_thread(fake.left_early.wait, 5)
    assert time.monotonic() - start < 1


async def test_a_cancelled_consumer_closes_the_connection(fake: FakeOpenAI, provider: OpenAIProvider):
    fake.replies.append(Reply(text="x" * 100, fault="hang"))
    task = asyncio.create_task(collect(provider, asked(timeout=60)))
    await asyncio.to_thread(fake.asked.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(fake.left_early.wait, 5)


async def test_the_connection_serves_the_next_call(fake: FakeOpenAI, provider: OpenAIProvider):
    for _ in range(3):
        await collect(provider, asked())
    assert len(fake.connections) == 1


async def test_200_streams_at_once_lose_nothing(provider: OpenAIProvider, fake: FakeOpenAI):
    answers = await asyncio.gather(*(collect(provider, asked(f"number {n}", timeout=30)) for n in range(200)))
    assert [answer.message.text for answer in answers] == [f"number {n}" for n in range(200)]


@pytest.mark.parametrize(
    ("given", "complete"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1"),
        ("https://api.openai.com/", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("https://host/openai", "https://host/openai/v1"),
        ("https://host/v1beta/openai/", "https://host/v1beta/openai"),
        ("https://host/api/paas/v4", "https://host/api/paas/v4"),
        ("https://host/chat/completions", "https://host"),
    ],
)
def test_base_url_with_or_without_its_version(given: str, complete: str):
    assert complete_base_url(given) == complete


@pytest.mark.parametrize("url", ["api.openai.com", "ftp://host", "https://"])
def test_a_malformed_base_url_is_refused(url: str):
    with pytest.raises(ConfigurationError, match="base_url"):
        OpenAIProvider(api_key=KEY, base_url=url)


def test_offline_refuses_every_other_host():
    with pytest.raises(ConfigurationError, match="GOAGENTS_OFFLINE=1"):
        OpenAIProvider(api_key=KEY)


def test_an_empty_key_and_a_wrong_ca_are_configuration_errors(fake: FakeOpenAI, tmp_path: Any):
    with pytest.raises(ConfigurationError, match="api_key"):
        OpenAIProvider(api_key="", base_url=fake.url)
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")
    with pytest.raises(ConfigurationError, match="ca_bundle"):
        OpenAIProvider(api_key=KEY, base_url=fake.url, ca_bundle=str(empty))


async def test_a_tool_call_part_with_a_history_of_its_own(fake: FakeOpenAI, provider: OpenAIProvider):
    call = ToolCallPart("call_1", "weather", {"city": "Ö"})
    history = (
        user_message("hi"),
        Message("assistant", (call,)),
        Message("tool", (ToolResultPart("call_1", "weather", ()),)),
        user_message("x"),
    )
    assert (await collect(provider, asked(messages=history))).message.text == "x"
