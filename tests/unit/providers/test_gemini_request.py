"""What goes to Gemini for a request of ours, beyond what the wire tests show."""

import json

import pytest
from tests.support.fakes.gemini import validate

from goagents.errors import ProviderInvalidRequest
from goagents.messages import Message, ReasoningPart, TextPart, ToolCallPart, ToolResultPart, user_message
from goagents.providers.base import ModelRequest, ToolSchema
from goagents.providers.gemini_request import family, path, request_body, wire_name

MODEL = "gemini-2.5-flash"
TOOL = ToolSchema("weather", "Weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}})


def test_a_conversation_alternates_and_its_prefix_is_stable():
    calls = tuple(ToolCallPart(f"c{n}", "weather", {"n": n}) for n in range(2))
    first = (
        user_message("weather?"),
        Message("assistant", (TextPart(""), *calls), provider="openai", model="gpt-5"),
        Message("tool", (ToolResultPart("c0", "weather", (TextPart("sunny"),)),)),
        Message("tool", (ToolResultPart("c1", "weather", (), is_error=True),)),
    )
    second = (*first, user_message("and?"), user_message("quick"), Message("assistant", ()), user_message("now"))
    before, after = (
        request_body(ModelRequest(MODEL, messages, tools=(TOOL,), system="Be brief.")) for messages in (first, second)
    )
    validate(before, MODEL)
    validate(after, MODEL)
    assert [content["role"] for content in after["contents"]] == ["user", "model", "user"]
    assert json.dumps(after["contents"][:2]) == json.dumps(before["contents"][:2])
    assert after["contents"][2]["parts"][:2] == before["contents"][2]["parts"]
    assert [part["text"] for part in after["contents"][2]["parts"][2:]] == ["and?", "quick", "now"]
    assert after["contents"][2]["parts"][1]["functionResponse"]["response"] == {"error": ""}


def test_malformed_arguments_and_names_become_valid():
    call = ToolCallPart("c", "no such tool!", {}, malformed='{"city"')
    history = (
        user_message("hi"),
        Message("assistant", (call,), provider="gemini", model=MODEL),
        Message("tool", (ToolResultPart("c", "no such tool!", (TextPart("x"),), is_error=True),)),
    )
    body = request_body(ModelRequest(MODEL, history, tools=(TOOL,)))
    validate(body, MODEL)
    sent = body["contents"][1]["parts"][0]["functionCall"]
    assert (sent["name"], sent["args"]) == ("no_such_tool_", {"_malformed": '{"city"'})


def test_thoughts_go_back_only_with_a_signature():
    said = Message(
        "assistant",
        (ReasoningPart("hm"), ReasoningPart("aha", signature="c2lnbmVk"), TextPart("42")),
        provider="gemini",
        model=MODEL,
    )

    def parts(model: str) -> list[dict[str, object]]:
        history = (user_message("why?"), said, user_message("so?"))
        found: list[dict[str, object]] = request_body(ModelRequest(model, history))["contents"][1]["parts"]
        return found

    signed = {"text": "aha", "thought": True, "thoughtSignature": "c2lnbmVk"}
    assert parts(MODEL) == parts("gemini-2.5-flash-preview-09-2025") == [signed, {"text": "42"}]
    assert parts("gemini-3-flash") == [{"text": "42"}]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("gemini-2.5-flash", "gemini-2.5-flash-001", True),
        ("models/gemini-2.5-flash", "gemini-2.5-flash-preview-09-2025", True),
        ("gemini-2.5-flash", "gemini-2.5-flash-lite", False),
        ("gemini-2.5-pro", "gemini-3-pro", False),
    ],
)
def test_families(one: str, other: str, same: bool):
    assert (family(one) == family(other)) is same


@pytest.mark.parametrize(
    ("name", "expected"), [("ok_1", "ok_1"), ("1st", "_1st"), ("-x", "_-x"), ("a b", "a_b"), ("", "unknown")]
)
def test_names_begin_with_a_letter_or_an_underscore(name: str, expected: str):
    assert wire_name(name) == expected


def test_paths():
    assert path(MODEL) == "models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert path("tunedModels/mine").startswith("tunedModels/mine:")
    with pytest.raises(ProviderInvalidRequest):
        path("../files")


def test_a_tool_choice_without_tools_is_left_out():
    choice = {"tool_config": {"function_calling_config": {"mode": "ANY"}}}
    with_tools = request_body(ModelRequest(MODEL, (user_message("hi"),), tools=(TOOL,), settings=choice))
    assert with_tools["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    assert "toolConfig" not in request_body(ModelRequest(MODEL, (user_message("hi"),), settings=choice))
