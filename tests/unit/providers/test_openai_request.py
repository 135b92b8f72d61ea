"""What a ModelRequest becomes on the wire of Chat Completions."""

import json

import pytest
from tests.support.fakes.openai import validate

from goagents.errors import ProviderInvalidRequest
from goagents.messages import (
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    user_message,
)
from goagents.providers.base import ModelRequest, ToolSchema
from goagents.providers.openai_request import fits_strict_mode, request_body

TOOL = ToolSchema("get_weather", "Weather of a city", {"properties": {"city": {"type": "string"}}})
PNG = ImagePart(media_type="image/png", data="aGk=")


def body(*messages: Message, modern: bool = False, **request: object) -> dict[str, object]:
    values = {"model": "gpt-4o", "messages": messages or (user_message("hi"),), **request}
    return request_body(ModelRequest(**values), modern=modern)


def test_plain_request():
    assert body(system="Be brief.") == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_tools_get_an_object_schema():
    sent = body(tools=(TOOL,), settings={"tool_choice": "required"})
    assert sent["tools"][0]["function"]["parameters"] == {
        "type": "object",
        "properties": {"city": {"type": "string"}},
    }
    assert sent["tool_choice"] == "required"


def test_tool_choice_is_left_out_without_tools():
    sent = body(settings={"tool_choice": "auto", "parallel_tool_calls": False})
    assert "tool_choice" not in sent
    assert "parallel_tool_calls" not in sent


def test_history_pairs_calls_with_results_and_moves_images_behind_them():
    calls = (ToolCallPart("c1", "camera", {"angle": 3}), ToolCallPart("c2", "look", {}, malformed='{"a": '))
    results = (
        ToolResultPart("c1", "camera", (PNG,)),
        ToolResultPart("c2", "look", (TextPart("no JSON"),), is_error=True),
    )
    sent = body(
        user_message("look"),
        Message("assistant", (ReasoningPart("hm", signature="s"), TextPart("I will."), *calls)),
        Message("tool", results),
        user_message("and now?"),
    )
    validate(sent)
    _, assistant, first, second, images = sent["messages"]
    assert assistant["content"] == "I will."
    assert [json.loads(call["function"]["arguments"]) for call in assistant["tool_calls"]] == [
        {"angle": 3},
        {"_malformed": '{"a": '},
    ]
    assert (first["tool_call_id"], second["tool_call_id"]) == ("c1", "c2")
    assert "next message" in first["content"]
    assert second["content"] == "Error: no JSON"
    assert images["role"] == "user"
    assert images["content"][1]["image_url"]["url"] == "data:image/png;base64,aGk="
    assert images["content"][-1] == {"type": "text", "text": "and now?"}


def test_runs_of_one_role_become_one_message():
    said = [Message("assistant", (TextPart(text),)) for text in ("one", "two")]
    sent = body(user_message("a"), user_message("b"), *said, user_message("c"))
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert [part["text"] for part in sent["messages"][0]["content"]] == ["a", "b"]
    assert sent["messages"][1]["content"] == "one\n\ntwo"


def test_text_then_a_tool_call_merge_but_never_past_a_tool_call():
    first = Message("assistant", (TextPart("one"),))
    second = Message("assistant", (ToolCallPart("c1", "look", {}),))
    result = Message("tool", (ToolResultPart("c1", "look", (TextPart("ok"),)),))
    sent = body(user_message("a"), first, second, result)
    validate(sent)
    assert sent["messages"][1]["content"] == "one"
    assert sent["messages"][1]["tool_calls"][0]["id"] == "c1"


def test_images_by_url_and_by_data():
    sent = body(Message("user", (TextPart("what?"), ImagePart(url="https://example.com/a.png"), PNG)))
    validate(sent)
    urls = [part["image_url"]["url"] for part in sent["messages"][0]["content"][1:]]
    assert urls == ["https://example.com/a.png", "data:image/png;base64,aGk="]


@pytest.mark.parametrize("image", [ImagePart(), ImagePart(data="aGk="), ImagePart(media_type="image/png")])
def test_an_image_without_a_source_is_refused(image: ImagePart):
    with pytest.raises(ProviderInvalidRequest, match="media_type"):
        body(Message("user", (image,)))


@pytest.mark.parametrize(
    ("model", "modern", "expected"),
    [
        ("gpt-4o", False, "max_tokens"),
        ("llama-3", False, "max_tokens"),
        ("gpt-4o", True, "max_completion_tokens"),
        ("o3-mini", False, "max_completion_tokens"),
        ("openai/gpt-5.1", False, "max_completion_tokens"),
    ],
)
def test_max_tokens_gets_the_name_the_server_takes(model: str, modern: bool, expected: str):
    sent = body(model=model, modern=modern, settings={"max_tokens": 7})
    assert sent[expected] == 7
    assert len({"max_tokens", "max_completion_tokens"} & sent.keys()) == 1


def test_settings_pass_through_and_none_leaves_out():
    sent = body(settings={"temperature": 0, "top_k": 5, "stream_options": None, "reasoning": "low"})
    assert sent["temperature"] == 0
    assert sent["top_k"] == 5
    assert sent["reasoning_effort"] == "low"
    assert "stream_options" not in sent
    assert "reasoning" not in sent


@pytest.mark.parametrize("name", ["messages", "model", "stream", "tools", "n"])
def test_a_setting_that_is_ours_is_refused(name: str):
    with pytest.raises(ProviderInvalidRequest, match=f"model_settings.{name} "):
        body(settings={name: 1})


def test_output_schema_is_strict_where_the_vendor_permits():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    closed = {**schema, "additionalProperties": False, "title": "My answer!"}
    assert body(output_schema=schema)["response_format"]["json_schema"]["strict"] is False
    assert body(output_schema=closed)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "My_answer_", "schema": closed, "strict": True},
    }


@pytest.mark.parametrize(
    "inner",
    [
        {"type": "object", "properties": {}},
        {"type": "array", "items": {"type": "object"}},
        {"anyOf": [{"oneOf": []}]},
        {"type": "string", "minLength": 1},
    ],
)
def test_strict_mode_is_judged_all_the_way_down(inner: dict[str, object]):
    schema = {"type": "object", "properties": {"a": inner}, "required": ["a"], "additionalProperties": False}
    assert not fits_strict_mode(schema)


@pytest.mark.parametrize(
    ("wish", "modern", "name", "value"),
    [
        ("high", False, "reasoning_effort", "high"),
        ("off", False, "reasoning_effort", "none"),
        (False, True, "reasoning_effort", "none"),
        ({"effort": "low"}, True, "reasoning_effort", "low"),
        ({"effort": "low"}, False, "reasoning", {"effort": "low"}),
    ],
)
def test_reasoning_levels(wish: object, modern: bool, name: str, value: object):
    sent = body(settings={"reasoning": wish}, modern=modern)
    assert sent[name] == value
    assert len({"reasoning", "reasoning_effort"} & sent.keys()) == 1


def test_ids_longer_than_the_vendor_takes_are_shortened_alike():
    long = "x" * 64
    call = Message("assistant", (ToolCallPart(long, "look", {}), ToolCallPart(long + "y", "look", {})))
    results = tuple(ToolResultPart(call_id, "look", (TextPart("ok"),)) for call_id in (long, long + "y"))
    sent = body(user_message("a"), call, Message("tool", results))
    validate(sent)
    ids = [item["id"] for item in sent["messages"][1]["tool_calls"]]
    assert len(set(ids)) == 2
    assert all(len(call_id) <= 40 for call_id in ids)
