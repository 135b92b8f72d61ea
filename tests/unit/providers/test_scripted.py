"""The scripted model: which step answers, what the templates become, how it fails."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from goagents import errors
from goagents.errors import ConfigurationError
from goagents.messages import MESSAGE, Message, TextPart, ToolCallPart, ToolResultPart, Usage, user_message
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, ReasoningDelta, TextDelta
from goagents.providers.scripted import ScriptedProvider
from goagents.testing.models import ScriptedModel

Step = dict[str, Any]


class HandClock:
    """A clock whose sleeps take no time and are all counted."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def called(name: str = "orders", call_id: str = "call_1", **arguments: Any) -> Message:
    return Message("assistant", (ToolCallPart(call_id, name, arguments),))


def result(text: str, name: str = "orders", call_id: str = "call_1", *, is_error: bool = False) -> Message:
    return Message("tool", (ToolResultPart(call_id, name, (TextPart(text),), is_error),))


def request(*messages: Message | str, model: str = "m", timeout: float = 5.0) -> ModelRequest:
    return ModelRequest(model, tuple(map(as_message, messages)), timeout=timeout)


def as_message(message: Message | str) -> Message:
    return user_message(message) if isinstance(message, str) else message


async def collected(provider: ScriptedProvider, asked: ModelRequest) -> ModelResponse:
    last = [event async for event in provider.stream(asked)][-1]
    assert isinstance(last, ModelResponse)
    return last


async def answer(steps: list[Step] | ScriptedProvider, *messages: Message | str) -> ModelResponse:
    provider = steps if isinstance(steps, ScriptedProvider) else ScriptedProvider(models={"m": steps})
    events = [event async for event in provider.stream(request(*messages))]
    last = events[-1]
    assert isinstance(last, ModelResponse)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == last.message.text
    return last


async def collect(provider: ScriptedProvider | ScriptedModel, asked: ModelRequest, seen: list[ModelEvent]) -> None:
    async for event in provider.stream(asked):
        seen.append(event)  # noqa: PERF401 - what came before an error must be kept


async def said(steps: list[Step] | ScriptedProvider, *messages: Message | str) -> str:
    return (await answer(steps, *messages)).message.text


async def test_the_first_step_that_fits_answers():
    steps = [{"when": "(?i)refund", "text": "R"}, {"when": "order", "text": "O"}, {"text": "?"}]
    assert await said(steps, "a Refund of my order") == "R"
    assert await said(steps, "my order") == "O"
    assert await said(steps, "hi") == "?"


async def test_a_whole_turn_with_a_tool():
    steps = [
        {"when": r"order (?P<id>\d+)", "tool_calls": [{"name": "orders", "arguments": {"id": "{int:id}"}}]},
        {"after": "orders", "failed": True, "text": "Cannot look: {result}"},
        {"after": "orders", "text": "It is {json:order.status|lost}, {json:order.items.1}."},
    ]
    asked = "where is order 42?"
    first = await answer(steps, asked)
    assert first.stop_reason == "tool_use"
    assert first.message.tool_calls == (ToolCallPart("call_1", "orders", {"id": 42}),)
    found = result('200 OK\n{"order": {"status": "sent", "items": ["a", "b"]}}')
    assert await said(steps, asked, first.message, found) == "It is sent, b."
    assert await said(steps, asked, first.message, result("{}")) == "It is lost, ."
    assert await said(steps, asked, first.message, result("down", is_error=True)) == "Cannot look: down"


async def test_after_names_a_tool_and_a_step_without_it_waits_for_the_user():
    steps = [{"text": "user"}, {"after": "orders", "text": "orders"}, {"after": "*", "text": "any"}]
    assert await said(steps, "hi", called(), result("x")) == "orders"
    assert await said(steps, "hi", called("stock"), result("x", "stock")) == "any"
    assert await said(steps, "hi", called(), result("x"), Message("assistant", (TextPart("y"),)), "more") == "user"


async def test_parallel_results_are_found_by_the_name_of_the_tool():
    both = Message("tool", (*result("A").parts, *result("B", "stock", "call_2").parts))
    calls = Message("assistant", (*called().parts, *called("stock", "call_2").parts))
    assert await said([{"after": "orders", "text": "{result}"}], "hi", calls, both) == "A"
    assert await said([{"after": "*", "text": "{result}"}], "hi", calls, both) == "B"


async def test_turn_and_round_place_a_step():
    steps = [
        {"turn": 2, "text": "second turn"},
        {"after": "orders", "round": 3, "text": "enough"},
        {"after": "orders", "tool_calls": [{"name": "orders"}]},
        {"text": "first turn"},
    ]
    assert await said(steps, "a") == "first turn"
    assert await said(steps, "a", Message("assistant", (TextPart("b"),)), "c") == "second turn"
    again = await answer(steps, "a", called(), result("x"))
    assert again.message.tool_calls[0].id == "call_2"
    assert await said(steps, "a", called(), result("x"), again.message, result("x", call_id="call_2")) == "enough"


async def test_times_bounds_a_step():
    provider = ScriptedProvider(models={"m": [{"fail": "provider_rate_limited", "times": 1}, {"text": "ok"}]})
    with pytest.raises(errors.ProviderRateLimited):
        await answer(provider, "hi")
    assert await said(provider, "hi") == "ok"


async def test_templates_keep_the_type_of_a_whole_argument():
    arguments = {"raw": "{json:n}", "text": "n={json:n}", "list": ["{user}", 1], "braces": "{{x}}", "all": "{json:}"}
    steps = [{"after": "*", "tool_calls": [{"name": "t", "arguments": arguments}]}]
    sent = await answer(steps, "hi", called(), result('{"n": 3}'))
    assert sent.message.tool_calls[0].arguments == {
        "raw": 3,
        "text": "n=3",
        "list": ["hi", 1],
        "braces": "{x}",
        "all": {"n": 3},
    }


async def test_streaming_is_cut_into_pieces_and_paced():
    clock = HandClock()
    step = {"reasoning": "hmm", "text": "abcdef", "chunk_size": 4, "delay": "1s", "chunk_delay": "500ms"}
    provider = ScriptedProvider(models={"m": [step]}, clock=clock)
    events = [event async for event in provider.stream(request("hi"))]
    assert events[:-1] == [ReasoningDelta("hmm"), TextDelta("abcd"), TextDelta("ef")]
    assert clock.seconds == 2.0


async def test_the_timeout_covers_the_whole_stream():
    clock = HandClock()
    provider = ScriptedProvider(models={"m": [{"text": "abc", "chunk_size": 1, "chunk_delay": 3}]}, clock=clock)
    seen: list[ModelEvent] = []
    with pytest.raises(errors.ProviderTimedOut):
        await collect(provider, request("hi", timeout=5), seen)
    assert seen == [TextDelta("a"), TextDelta("b")]
    assert clock.seconds == 5


async def test_cut_off_comes_after_that_many_characters():
    provider = ScriptedProvider(models={"m": [{"text": "abcdef", "cut_off": 2}]})
    seen: list[ModelEvent] = []
    with pytest.raises(errors.ProviderProtocolError):
        await collect(provider, request("hi"), seen)
    assert seen == [TextDelta("ab")]


def subclasses(kind: type[errors.ProviderError]) -> list[type[errors.ProviderError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in subclasses(child))]


@pytest.mark.parametrize("kind", subclasses(errors.ProviderError), ids=lambda kind: kind.code)
async def test_every_provider_error_can_be_scripted(kind: type[errors.ProviderError]):
    with pytest.raises(kind) as caught:
        await answer([{"fail": kind.code, "retry_after": "2s"}], "hi")
    assert type(caught.value) is kind
    assert caught.value.retry_after == 2.0


async def test_usage_counts_words_or_is_declared():
    assert (await answer([{"text": "one two"}], "a b c")).usage == Usage(input_tokens=3, output_tokens=2)
    declared = {"input_tokens": 9, "cached_input_tokens": 4}
    assert (await answer([{"text": "x", "usage": declared}], "a")).usage == Usage(9, 0, 4)


async def test_the_same_request_gets_the_same_answer():
    steps = [{"text": "Hello {user}", "tool_calls": [{"name": "t"}]}]
    assert await answer(steps, "hi") == await answer(steps, "hi")


async def test_without_a_step_it_says_what_it_is():
    assert "scripted" in await said([{"when": "never", "text": "x"}], "hello there")
    assert await said([{"when": "never", "text": "x"}], "hi", called(), result("7")) == "The tool answered: 7"
    assert "hi {x}" in await said(ScriptedProvider(), "hi {x}")


async def test_a_model_without_a_script():
    provider = ScriptedProvider(models={"a": [{"text": "A"}]})
    with pytest.raises(errors.ProviderModelNotFound, match="it has a"):
        await answer(provider, "hi")
    assert await said(ScriptedProvider(models={"a": [{"text": "A"}], "*": [{"text": "any"}]}), "hi") == "any"


@pytest.mark.parametrize(
    ("step", "place", "message"),
    [
        ({}, "", "does nothing"),
        ({"text": "x", "tekst": "y"}, ".tekst", "Extra inputs"),
        ({"text": "x", "when": "("}, "", "regular expression"),
        ({"text": "{name}"}, "", "{name} is not known"),
        ({"text": "{1}", "when": "x"}, "", "{1} is not known"),
        ({"tool_calls": [{"name": "t", "arguments": {"a": ["{b}"]}}]}, "", "{b} is not known"),
        ({"tool_calls": [{"name": "a.b"}]}, ".tool_calls.0.name", "pattern"),
        ({"fail": "oops"}, "", "provider_rate_limited"),
        ({"text": "x", "delay": "soon"}, ".delay", "duration"),
        ({"text": "x", "failed": True}, "", "add after"),
        ({"text": "x", "always": True, "after": "t"}, "", "always fits"),
        ({"text": "x", "turn": 0}, ".turn", "greater"),
    ],
)
def test_a_wrong_script_names_the_place(step: Step, place: str, message: str):
    with pytest.raises(ConfigurationError) as caught:
        ScriptedProvider(models={"m": [{"text": "fine"}, step]})
    (error,) = caught.value.errors
    assert error.path == f"providers.scripted.models.m.1{place}"
    assert message in error.message


def test_all_mistakes_are_told_at_once():
    models: Mapping[str, Any] = {"a": [{}, {}], "b": "text"}
    with pytest.raises(ConfigurationError) as caught:
        ScriptedProvider(models=models)
    assert [error.path.rpartition("models.")[2] for error in caught.value.errors] == ["a.0", "a.1", "b"]


async def test_the_model_for_tests_answers_in_order_and_keeps_the_requests():
    model = ScriptedModel("Hi {you}", {"tool_calls": [{"name": "orders"}]}, {"fail": "provider_overloaded"})
    events: list[ModelEvent] = []
    for messages in (("a",), ("a", called(), result("x"))):
        await collect(model, request(*messages), events)
    answers = [event.message for event in events if isinstance(event, ModelResponse)]
    assert [(message.text, len(message.tool_calls)) for message in answers] == [("Hi {you}", 0), ("", 1)]
    with pytest.raises(errors.ProviderOverloaded):
        await anext(model.stream(request("b")))
    with pytest.raises(errors.ProviderError, match="told 3 answers"):
        await anext(model.stream(request("c")))
    assert [len(asked.messages) for asked in model.requests] == [1, 3, 1, 1]


async def test_closing_the_generator_ends_a_pause_at_once():
    provider = ScriptedProvider(models={"m": [{"text": "abc", "delay": 60}]})
    task = asyncio.create_task(anext(provider.stream(request("hi", timeout=100))))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_script_of_the_documentation_runs():
    page = (Path(__file__).parents[3] / "docs" / "providers.md").read_text("utf-8")
    example = next(block for block in page.split("```yaml")[1:] if "scripted:" in block).partition("```")[0]
    provider = ScriptedProvider(models=yaml.safe_load(example)["providers"]["scripted"]["models"])

    async def reply(*messages: Message | str) -> Message:
        return (await collected(provider, ModelRequest("support", tuple(map(as_message, messages))))).message

    first = await reply("Where is order 7?")
    assert first.tool_calls[0].arguments == {"number": 7}
    found = result('{"status": "sent", "items": [{"name": "a lamp"}]}', "find_order", first.tool_calls[0].id)
    assert (await reply("Where is order 7?", first, found)).text == "It is sent, a lamp included."
    assert (await reply("hi")).text == "Which order is it about?"


async def test_an_answer_survives_serialisation():
    message = (await answer([{"text": "x", "reasoning": "y", "tool_calls": [{"name": "t"}]}], "hi")).message
    assert MESSAGE.validate_python(MESSAGE.dump_python(message, mode="json")) == message
