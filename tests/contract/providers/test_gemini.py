"""The gemini adapter over the wire: against a fake that refuses what the vendor refuses."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from tests.support.fakes.gemini import (
    KEY,
    MODEL,
    SKIP_SIGNATURE,
    FakeGemini,
    call,
    chunks,
    error,
    error_body,
    event,
    sign,
    text,
    thought,
)
from tests.support.fakes.wire import stream

from goagents import errors
from goagents.messages import (
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
    user_message,
)
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, ReasoningDelta, TextDelta, ToolSchema
from goagents.providers.gemini import GeminiProvider, split_base_url

TOOLS = (
    ToolSchema("weather", "Weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}}),
    ToolSchema("3d-view", "View of a city", {"type": "object", "properties": {"city": {"type": "string"}}}),
)
NEW = "gemini-3-flash-preview"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeGemini]:
    with FakeGemini() as running:
        yield running


@pytest.fixture
def fake(server: FakeGemini) -> FakeGemini:
    server.reset()
    return server


@pytest.fixture
async def provider(fake: FakeGemini) -> AsyncIterator[GeminiProvider]:
    adapter = GeminiProvider(api_key=KEY, base_url=fake.url, max_retries=0)
    yield adapter
    await adapter.aclose()


def asked(*messages: Message, **values: Any) -> ModelRequest:
    history = messages or (user_message("hi"),)
    return ModelRequest(**{"model": MODEL, "messages": history, "timeout": 5.0, **values})


async def collect(provider: GeminiProvider, request: ModelRequest, seen: list[ModelEvent] | None = None) -> Any:
    events: list[ModelEvent] = [] if seen is None else seen
    async with aclosing(provider.stream(request)) as opened:
        async for item in opened:
            events.append(item)  # noqa: PERF401 - what came before an error must be kept
    assert isinstance(events[-1], ModelResponse)
    return events[-1]


async def test_text_streams_and_ends_with_the_whole(fake: FakeGemini, provider: GeminiProvider):
    fake.replies.append(stream(chunks([text("Grüße ")], [text("aus Zürich 👋")], [text("")])))
    seen: list[ModelEvent] = []
    last = await collect(provider, asked(system="Be brief."), seen)
    assert [item.text for item in seen if isinstance(item, TextDelta)] == ["Grüße ", "aus Zürich 👋"]
    assert last == ModelResponse(
        Message("assistant", (TextPart("Grüße aus Zürich 👋"),), provider="gemini", model=MODEL),
        "end_turn",
        Usage(input_tokens=12, output_tokens=7),
        MODEL,
        "r1",
    )
    assert fake.last["systemInstruction"] == {"parts": [{"text": "Be brief."}]}


async def test_thoughts_signatures_and_parallel_calls_go_back_whole(fake: FakeGemini, provider: GeminiProvider):
    answer = chunks(
        [thought("I should ")],
        [thought("look."), text("Let me "), text("see.")],
        [text("", thoughtSignature=sign("see"))],
        [call("weather", {"city": "Zürich"}, signed=True), call("_3d-view", {"city": "Bern"}, id="vendor-1")],
        [call("weather", None)],
    )
    fake.replies.append(stream(answer))
    seen: list[ModelEvent] = []
    first = await collect(provider, asked(tools=TOOLS, model=NEW), seen)
    assert "".join(item.text for item in seen if isinstance(item, ReasoningDelta)) == "I should look."
    assert first.stop_reason == "tool_use"
    one, two, three = first.message.tool_calls
    assert (one.name, one.arguments, one.signature) == ("weather", {"city": "Zürich"}, sign("weather"))
    assert (two.id, two.name, three.arguments) == ("vendor-1", "3d-view", {})
    assert len({one.id, two.id, three.id}) == 3
    assert first.message.parts[:3] == (
        ReasoningPart("I should look."),
        TextPart("Let me see."),
        ReasoningPart("", signature=sign("see")),
    )
    results = tuple(ToolResultPart(c.id, c.name, (TextPart("ok"),), is_error=c is two) for c in (one, two, three))
    history = (user_message("hi"), first.message, Message("tool", results), user_message("thanks"))
    second = await collect(provider, asked(*history, tools=TOOLS, model=NEW))
    assert second.message.text == "thanks"
    said, given = fake.last["contents"][1]["parts"], fake.last["contents"][2]["parts"]
    assert said[0] == {"text": "Let me see.", "thoughtSignature": sign("see")}
    assert said[1]["thoughtSignature"] == sign("weather")
    assert [part["functionResponse"]["response"] for part in given[:3]] == [
        {"output": "ok"},
        {"error": "ok"},
        {"output": "ok"},
    ]
    assert given[1]["functionResponse"]["name"] == "_3d-view"


async def test_calls_of_another_model_pass_without_its_signature(fake: FakeGemini, provider: GeminiProvider):
    calls = (ToolCallPart("c1", "weather", {}, signature="of-another"), ToolCallPart("c2", "weather", {}))
    results = Message("tool", tuple(ToolResultPart(c.id, c.name, (TextPart("x"),)) for c in calls))
    for said in (
        Message("assistant", (ReasoningPart("hm", signature="x"), *calls), provider="anthropic", model="claude"),
        Message("assistant", (ReasoningPart("hm", signature="x"), *calls), provider="gemini", model="gemini-2.5-pro"),
    ):
        await collect(provider, asked(user_message("hi"), said, results, tools=TOOLS, model=NEW))
        parts = fake.last["contents"][1]["parts"]
        assert [part.get("thoughtSignature") for part in parts] == [SKIP_SIGNATURE, None]
    await collect(provider, asked(user_message("hi"), said, results, tools=TOOLS))  # 2.5 needs none
    assert not any("thoughtSignature" in part for part in fake.last["contents"][1]["parts"])


async def test_arguments_that_are_no_object_are_malformed(fake: FakeGemini, provider: GeminiProvider):
    fake.replies.append(stream(chunks([call("weather", [1]), call("weather", '{"city": ')])))
    last = await collect(provider, asked(tools=TOOLS))
    assert [c.malformed for c in last.message.tool_calls] == ["[1]", '{"city": ']
    results = tuple(ToolResultPart(c.id, c.name, (TextPart("no"),), is_error=True) for c in last.message.tool_calls)
    await collect(provider, asked(user_message("hi"), last.message, Message("tool", results), tools=TOOLS))


async def test_images_of_users_tools_and_models(fake: FakeGemini, provider: GeminiProvider):
    picture = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
    fake.replies.append(stream(chunks([picture, call("weather", {}, id="c1")])))
    first = await collect(provider, asked(tools=TOOLS))
    image = ImagePart("image/png", "iVBORw0KGgo=")
    assert first.message.parts[0] == image
    shown = Message("user", (TextPart("look"), ImagePart(url="https://example.com/a.webp?x=1"), image))
    result = Message("tool", (ToolResultPart("c1", "weather", (image,)),))
    await collect(provider, asked(shown, first.message, result, tools=TOOLS))
    sent = fake.last["contents"]
    assert sent[0]["parts"][1:] == [
        {"fileData": {"mimeType": "image/webp", "fileUri": "https://example.com/a.webp?x=1"}},
        picture,
    ]
    assert "functionResponse" in sent[2]["parts"][0]
    assert sent[2]["parts"][2] == picture
    with pytest.raises(errors.ProviderInvalidRequest, match="needs a url"):
        await collect(provider, asked(Message("user", (ImagePart(),))))


async def test_usage_counts_thoughts_and_the_cache(fake: FakeGemini, provider: GeminiProvider):
    usage = {
        "promptTokenCount": 100,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "cachedContentTokenCount": 64,
    }
    fake.replies.append(stream(chunks([text("x")], usage=usage)))
    assert (await collect(provider, asked())).usage == Usage(105, 50, 64, 0, 30)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("STOP", "end_turn"), ("MAX_TOKENS", "max_tokens"), ("SAFETY", "refusal"), ("OTHER", "end_turn")],
)
async def test_stop_reasons(fake: FakeGemini, provider: GeminiProvider, reason: str, expected: str):
    fake.replies.append(stream(chunks([text("some text")], finish=reason)))
    last = await collect(provider, asked())
    assert (last.stop_reason, last.message.text) == (expected, "some text")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("SAFETY", errors.ProviderRefused),
        ("RECITATION", errors.ProviderRefused),
        ("MALFORMED_FUNCTION_CALL", errors.ProviderProtocolError),
        ("MISSING_THOUGHT_SIGNATURE", errors.ProviderInvalidRequest),
        ("OTHER", errors.ProviderProtocolError),
    ],
)
async def test_an_answer_of_nothing_is_an_error(
    fake: FakeGemini, provider: GeminiProvider, reason: str, expected: type[errors.ProviderError]
):
    fake.replies.append(stream(chunks([], finish=reason)))
    with pytest.raises(expected, match=reason) as caught:
        await collect(provider, asked())
    assert type(caught.value) is expected


async def test_a_prompt_that_is_blocked_is_refused(fake: FakeGemini, provider: GeminiProvider):
    fake.replies.append(stream([event({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})]))
    with pytest.raises(errors.ProviderRefused, match="PROHIBITED_CONTENT"):
        await collect(provider, asked())


async def test_headers_settings_and_schema_reach_the_server(fake: FakeGemini):
    adapter = GeminiProvider(api_key=KEY, base_url=f"{fake.url}/v1beta/", api_version="v9", project_id="proj-1")
    settings = {
        "temperature": 0.5,
        "topP": 0.9,
        "max_tokens": 99,
        "reasoning": "low",
        "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "seed": None,
    }
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    await collect(adapter, asked(settings=settings, output_schema=schema))
    await adapter.aclose()
    assert fake.requests[0].headers["x-goog-user-project"] == "proj-1"
    assert fake.last["generationConfig"] == {
        "temperature": 0.5,
        "topP": 0.9,
        "maxOutputTokens": 99,
        "thinkingConfig": {"thinkingBudget": 2048, "includeThoughts": True},
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }
    assert fake.last["safetySettings"] == [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]


async def test_a_schema_beside_tools_is_told_in_words_to_older_models(fake: FakeGemini, provider: GeminiProvider):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    await collect(provider, asked(tools=TOOLS, output_schema=schema, system="Be brief."))
    assert '"integer"' in fake.last["systemInstruction"]["parts"][0]["text"]
    assert "generationConfig" not in fake.last
    await collect(provider, asked(tools=TOOLS, output_schema=schema, model=NEW))
    assert fake.last["generationConfig"]["responseJsonSchema"] == schema


async def test_reasoning_is_a_budget_or_a_level(fake: FakeGemini, provider: GeminiProvider):
    await collect(provider, asked(settings={"reasoning": "high"}, model=NEW))
    assert fake.last["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "HIGH", "includeThoughts": True}
    await collect(provider, asked(settings={"reasoning": "none"}))
    assert fake.last["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 0, "includeThoughts": False}
    with pytest.raises(errors.ProviderInvalidRequest, match=r"model_settings\.reasoning"):
        await collect(provider, asked(settings={"reasoning": "deep"}))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"logit_bias": {}}, "model_settings.logit_bias"),
        ({"temperature": "warm"}, "model_settings.temperature"),
        ({"thinking_config": {"depth": 1}}, "model_settings.thinking_config.depth"),
        ({"tools": []}, "model_settings.tools"),
        ({"systemInstruction": "x"}, "model_settings.system_instruction"),
    ],
)
async def test_a_setting_that_cannot_be_sent_is_named(
    fake: FakeGemini, provider: GeminiProvider, settings: dict[str, Any], field: str
):
    with pytest.raises(errors.ProviderInvalidRequest, match=field):
        await collect(provider, asked(settings=settings))
    assert fake.requests == []


@pytest.mark.parametrize("model", ["", "gemini/../x", "a?b", "a:generateContent?x="])
async def test_what_is_no_models_name_never_becomes_a_path(provider: GeminiProvider, model: str):
    with pytest.raises(errors.ProviderInvalidRequest, match="no name of a Gemini model"):
        await collect(provider, asked(model=model))


async def test_a_conversation_without_content_is_refused(provider: GeminiProvider):
    with pytest.raises(errors.ProviderInvalidRequest, match="no content"):
        await collect(provider, asked(user_message("")))


async def test_the_environment_changes_nothing(fake: FakeGemini, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_API_KEY", "key-of-somebody")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    adapter = GeminiProvider(api_key=KEY, base_url=fake.url)
    assert (await collect(adapter, asked())).message.text == "hi"
    await adapter.aclose()


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        (429, "RESOURCE_EXHAUSTED", errors.ProviderRateLimited),
        (503, "UNAVAILABLE", errors.ProviderOverloaded),
        (500, "INTERNAL", errors.ProviderUnavailable),
        (400, "INVALID_ARGUMENT", errors.ProviderInvalidRequest),
    ],
)
async def test_an_error_in_the_stream(
    fake: FakeGemini, provider: GeminiProvider, code: int, status: str, expected: type[errors.ProviderError]
):
    broken = event(error_body(code, status, "something broke"))
    fake.replies.append(stream([*chunks([text("a")], [text("b")])[:1], broken]))
    seen: list[ModelEvent] = []
    with pytest.raises(expected, match="something broke") as caught:
        await collect(provider, asked(), seen)
    assert type(caught.value) is expected
    assert seen == [TextDelta("a")]


@pytest.mark.parametrize(
    "bad",
    [
        {"candidates": [{"content": {"parts": [{"text": 5}]}}]},
        {"candidates": 5},
        {"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]},
        {"promptFeedback": "x"},
    ],
)
async def test_chunks_of_another_shape_are_a_protocol_error(
    fake: FakeGemini, provider: GeminiProvider, bad: dict[str, Any]
):
    fake.replies.append(stream([event(bad)]))
    with pytest.raises(errors.ProviderProtocolError, match="no GenerateContentResponse"):
        await collect(provider, asked())


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        (400, "INVALID_ARGUMENT", errors.ProviderInvalidRequest),
        (400, "FAILED_PRECONDITION", errors.ProviderPermissionDenied),
        (401, "UNAUTHENTICATED", errors.ProviderAuthenticationFailed),
        (403, "PERMISSION_DENIED", errors.ProviderPermissionDenied),
        (404, "NOT_FOUND", errors.ProviderModelNotFound),
        (429, "RESOURCE_EXHAUSTED", errors.ProviderRateLimited),
        (499, "CANCELLED", errors.ProviderUnavailable),
        (500, "INTERNAL", errors.ProviderUnavailable),
        (503, "UNAVAILABLE", errors.ProviderOverloaded),
        (504, "DEADLINE_EXCEEDED", errors.ProviderTimedOut),
    ],
)
async def test_each_status_in_the_vendors_format(
    fake: FakeGemini, provider: GeminiProvider, code: int, status: str, expected: type[errors.ProviderError]
):
    fake.replies.append(error(code, status, f"refused {KEY}", retry_after="3"))
    with pytest.raises(expected, match="refused") as caught:
        await collect(provider, asked())
    assert type(caught.value) is expected
    assert caught.value.retry_after == 3.0
    assert KEY not in caught.value.detail


async def test_how_long_to_wait_also_stands_in_the_body(fake: FakeGemini, provider: GeminiProvider):
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]
    fake.replies.append(error(429, "RESOURCE_EXHAUSTED", "quota", details))
    with pytest.raises(errors.ProviderRateLimited) as caught:
        await collect(provider, asked())
    assert caught.value.retry_after == 34.5


async def test_who_is_asked_to_wait_too_long_is_told_at_once(fake: FakeGemini):
    adapter = GeminiProvider(api_key=KEY, base_url=fake.url)
    fake.replies.append(error(429, "RESOURCE_EXHAUSTED", "quota", retry_after="3600"))
    with pytest.raises(errors.ProviderRateLimited) as caught:
        await collect(adapter, asked(timeout=60))
    await adapter.aclose()
    assert caught.value.retry_after == 3600
    assert len(fake.requests) == 1


async def test_a_redirect_is_not_followed_with_the_key(fake: FakeGemini, provider: GeminiProvider):
    moved = error(307, "MOVED", location=f"{fake.url}/elsewhere")
    fake.replies.append(moved)
    with pytest.raises(errors.ProviderProtocolError):
        await collect(provider, asked())
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("https://host", ("https://host", "v1beta")),
        ("https://host/", ("https://host", "v1beta")),
        ("https://host/v1beta", ("https://host", "v1beta")),
        ("https://host/v1/", ("https://host", "v1")),
        ("https://host/gemini/v1alpha", ("https://host/gemini", "v1alpha")),
        ("https://host/gemini", ("https://host/gemini", "v1beta")),
    ],
)
def test_base_url_with_or_without_its_version(given: str, parts: tuple[str, str]):
    assert split_base_url(given, "v1beta") == parts


def test_an_ephemeral_token_is_no_key(fake: FakeGemini):
    with pytest.raises(errors.ConfigurationError, match="ephemeral"):
        GeminiProvider(api_key="auth_tokens/x", base_url=fake.url)
