"""What goes to Anthropic for a request of ours."""

import json
from typing import Any

import pytest
from tests.support.fakes.anthropic import sign, validate

from goagents.errors import ProviderInvalidRequest
from goagents.messages import ImagePart, Message, ReasoningPart, TextPart, ToolCallPart, ToolResultPart, user_message
from goagents.providers.anthropic_request import family, request_body
from goagents.providers.base import ModelRequest, ToolSchema

MODEL = "claude-sonnet-4-20250514"
TOOL = ToolSchema("weather", "Weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}})


def assistant(*parts: Any, provider: str | None = "anthropic", model: str | None = MODEL) -> Message:
    return Message("assistant", parts, provider=provider, model=model)


def call(call_id: str = "toolu_1", name: str = "weather", **more: Any) -> ToolCallPart:
    return ToolCallPart(call_id, name, {"city": "Bern"}, **more)


def result(call_id: str = "toolu_1", text: str = "sunny", **more: Any) -> ToolResultPart:
    return ToolResultPart(call_id, "weather", (TextPart(text),), **more)


def body(*messages: Message, **values: Any) -> dict[str, Any]:
    """The body, as valid for the vendor's fake."""
    made = request_body(ModelRequest(**{"model": MODEL, "messages": messages, **values}))
    validate(json.loads(json.dumps(made)))
    return made


def plain(made: dict[str, Any]) -> list[Any]:
    """The messages without the marks of the cache."""
    return [
        {**item, "content": [{k: v for k, v in block.items() if k != "cache_control"} for block in item["content"]]}
        for item in made["messages"]
    ]


def test_a_conversation_alternates_and_pairs_calls_with_results():
    made = body(
        user_message("weather in Bern and Bonn?"),
        assistant(TextPart("I look."), call("a"), call("b")),
        Message("tool", (result("a"),)),
        Message("tool", (result("b", "no such city", is_error=True),)),
        user_message("and then?"),
        user_message("quick"),
        tools=(TOOL,),
        system="Be brief.",
    )
    assert [item["role"] for item in made["messages"]] == ["user", "assistant", "user"]
    assert plain(made)[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "sunny"}]},
        {
            "type": "tool_result",
            "tool_use_id": "b",
            "is_error": True,
            "content": [{"type": "text", "text": "no such city"}],
        },
        {"type": "text", "text": "and then?"},
        {"type": "text", "text": "quick"},
    ]
    assert made["tools"][0]["input_schema"] == TOOL.parameters
    assert made["max_tokens"] == 8192


def test_ids_of_other_providers_become_valid_and_unique():
    made = body(
        user_message("hi"),
        assistant(call("functions.weather:0"), provider="openai", model="gpt-4o"),
        Message("tool", (result("functions.weather:0"),)),
        assistant(call("functions.weather:0", "no such tool!"), provider="openai", model="gpt-4o"),
        Message("tool", (result("functions.weather:0"),)),
        tools=(TOOL,),
    )
    uses = [block for item in made["messages"] for block in item["content"] if block["type"] == "tool_use"]
    assert [use["id"] for use in uses] == ["functions_weather_0", "functions_weather_0_2"]
    assert uses[1]["name"] == "no_such_tool_"


def test_thoughts_go_back_to_the_family_that_had_them():
    thoughts = (ReasoningPart("hm", signature=sign("hm")), ReasoningPart("", signature="opaque", redacted=True))
    said = (*thoughts, TextPart("It is 42."))

    def kinds(message: Message, model: str = MODEL) -> list[str]:
        made = body(user_message("why?"), message, user_message("so?"), model=model)
        return [block["type"] for block in made["messages"][1]["content"]]

    assert kinds(assistant(*said)) == ["thinking", "redacted_thinking", "text"]
    assert kinds(assistant(*said), model="claude-sonnet-4-0") == ["thinking", "redacted_thinking", "text"]
    assert kinds(assistant(*said), model="claude-opus-4-1") == ["text"]
    assert kinds(assistant(*said, provider="openai", model="gpt-5")) == ["text"]
    assert kinds(assistant(*said, model=None)) == ["text"]
    assert kinds(assistant(ReasoningPart("unsigned"), TextPart("x"))) == ["text"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("claude-sonnet-4-20250514", "claude-sonnet-4-0", True),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929", True),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022", True),
        ("claude-sonnet-4-5", "claude-sonnet-4", False),
        ("claude-opus-4-1", "claude-sonnet-4-1", False),
    ],
)
def test_families(one: str, other: str, same: bool):
    assert (family(one) == family(other)) is same


def test_results_for_another_models_calls_are_answered_without_thinking():
    history = (user_message("hi"), assistant(call(), provider="openai", model="gpt-5"), Message("tool", (result(),)))
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    assert "thinking" not in body(*history, tools=(TOOL,), settings=thinking)
    own = assistant(ReasoningPart("hm", signature=sign("hm")), call())
    made = body(history[0], own, history[2], tools=(TOOL,), settings=thinking)
    assert made["thinking"] == thinking["thinking"]
    assert made["max_tokens"] == 8192 + 2048
    later = (assistant(call("toolu_2")), Message("tool", (result("toolu_2"),)))  # it thought at the turn's start
    assert "thinking" in body(history[0], own, history[2], *later, tools=(TOOL,), settings=thinking)
    adaptive = {"thinking": {"type": "adaptive"}}  # there a turn may go without a thought
    assert body(*history, tools=(TOOL,), settings=adaptive)["thinking"] == adaptive["thinking"]


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-haiku-latest", 8192),
        ("claude-sonnet-4-20250514", 8192),
        ("claude-opus-4-6", 32768),
        ("claude-haiku-5-5", 32768),
        ("some-other-model", 8192),
    ],
)
def test_the_default_limit_is_one_the_model_takes(model: str, limit: int):
    assert body(user_message("hi"), model=model)["max_tokens"] == limit


def test_images_are_sent_by_users_and_tools():
    picture = ImagePart(media_type="image/png", data="iVBORw0KGgo=")
    made = body(
        Message("user", (TextPart("look"), ImagePart(url="https://example.com/a.png"))),
        assistant(call(), ImagePart(url="https://example.com/drawn.png"), provider="gemini"),
        Message("tool", (ToolResultPart("toolu_1", "weather", (picture,)),)),
        tools=(TOOL,),
    )
    assert plain(made)[0]["content"][1]["source"] == {"type": "url", "url": "https://example.com/a.png"}
    assert plain(made)[1]["content"] == [
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bern"}}
    ]
    assert plain(made)[2]["content"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    ]
    with pytest.raises(ProviderInvalidRequest, match="needs a url"):
        body(Message("user", (ImagePart(data="abcd"),)))


def test_what_the_vendor_refuses_is_left_out():
    bad = ToolCallPart("toolu_1", "weather", {}, malformed='{"city": ')
    made = body(
        Message("user", (TextPart(" "), TextPart("hi"))),
        assistant(TextPart(""), bad),
        Message("tool", (ToolResultPart("toolu_1", "weather", (TextPart(""),), is_error=True),)),
        tools=(TOOL,),
    )
    assert plain(made)[0]["content"] == [{"type": "text", "text": "hi"}]
    assert plain(made)[1]["content"][0]["input"] == {"_malformed": '{"city": '}
    assert plain(made)[2]["content"][0]["content"][0]["text"] == "The tool failed without a message."
    with pytest.raises(ProviderInvalidRequest, match="no content"):
        body(user_message("  "))


def test_tools_of_the_past_stay_declared():
    made = body(user_message("hi"), assistant(call()), Message("tool", (result(),)))
    assert made["tools"][0]["name"] == "weather"
    assert made["tool_choice"] == {"type": "none"}
    assert "tool_choice" not in body(user_message("hi"), settings={"tool_choice": {"type": "auto"}})


def test_the_prefix_is_stable_and_the_cache_ends_at_four_places():
    first = (user_message("one"), assistant(call()), Message("tool", (result(),)))
    second = (*first, assistant(TextPart("two")), user_message("three"))
    before = body(*first, tools=(TOOL,), system="Be brief.")
    after = body(*second, tools=(TOOL,), system="Be brief.")
    assert json.dumps(plain(after)[:3]) == json.dumps(plain(before))
    assert json.dumps([before["tools"], before["system"]]) == json.dumps([after["tools"], after["system"]])
    marked = [
        index for index, item in enumerate(after["messages"]) if any("cache_control" in b for b in item["content"])
    ]
    assert marked == [2, 4]  # the last user turn, and the one before: what the previous request wrote is read
    assert "cache_control" in before["messages"][2]["content"][-1]
    assert "cache_control" in after["tools"][-1]
    assert "cache_control" in after["system"][-1]


def test_caching_can_be_left_to_the_vendor_or_turned_off():
    assert json.dumps(body(user_message("hi"), settings={"cache_control": None})).count("cache_control") == 0
    automatic = body(user_message("hi"), settings={"cache_control": {"type": "ephemeral"}})
    assert automatic["cache_control"] == {"type": "ephemeral"}
    assert json.dumps(automatic).count("cache_control") == 1


def test_settings_pass_through():
    made = body(user_message("hi"), settings={"temperature": 0.2, "top_k": 5, "max_tokens": 10, "top_p": None})
    assert (made["temperature"], made["top_k"], made["max_tokens"]) == (0.2, 5, 10)
    assert "top_p" not in made
    for name in ("messages", "system", "tools", "model", "stream"):
        with pytest.raises(ProviderInvalidRequest, match=f"model_settings.{name}"):
            body(user_message("hi"), settings={name: "x"})


def test_reasoning_is_a_budget_or_an_effort():
    old = body(user_message("hi"), settings={"reasoning": "low"})
    assert old["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    new = body(user_message("hi"), model="claude-opus-4-6", settings={"reasoning": "high"})
    assert new["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert new["output_config"] == {"effort": "high"}
    assert body(user_message("hi"), settings={"reasoning": "none"})["thinking"] == {"type": "disabled"}
    own = {"type": "enabled", "budget_tokens": 4096}
    assert body(user_message("hi"), settings={"reasoning": own})["thinking"] == own
    with pytest.raises(ProviderInvalidRequest, match=r"model_settings\.reasoning"):
        body(user_message("hi"), settings={"reasoning": "deep"})


def test_an_output_schema_is_a_format_beside_the_effort():
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    made = body(user_message("hi"), output_schema=schema, settings={"output_config": {"effort": "low"}})
    assert made["output_config"]["effort"] == "low"
    assert made["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert schema == {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
