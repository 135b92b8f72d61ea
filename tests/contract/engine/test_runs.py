"""Turns of agents: what the model gets, what tools do, how failures are told."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import pytest
from tests.support.engine import ALICE, applied, engine, manifest, scripted
from tests.support.runs import CALLS, PATHS, Held, at_rest, chat, conversation

from goagents.engine import agents, clusters, runs
from goagents.errors import (
    GoAgentsError,
    ProviderProtocolError,
    ProviderRateLimited,
    RunLimitReached,
    RunTimedOut,
)
from goagents.messages import Message, TextPart, ToolCallPart, ToolResultPart, Usage
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse
from goagents.records import RunRecord
from goagents.resources import ChatRequest
from goagents.store.base import Query, Store
from goagents.telemetry.base import ModelCallFinished, RunFinished
from goagents.testing.models import ScriptedModel
from goagents.testing.tools import StaticToolset, function_tool
from goagents.tools.base import Tool

LOOKUP = {
    "type": "object",
    "properties": {"id": {"type": "integer"}},
    "required": ["id"],
    "additionalProperties": False,
}


async def test_a_turn_answers_and_leaves_everything_at_rest(store: Store):
    services = engine(store, scripted(echo=[{"text": "hello", "usage": {"input_tokens": 7, "output_tokens": 2}}]))
    await applied(services)
    answer = await chat(services, "hi")
    assert answer.message.text == "hello"
    assert answer.usage == Usage(7, 2)
    assert [m.text for m in await conversation(services, answer.session_id)] == ["hi", "hello"]
    await at_rest(services, answer.session_id)
    run = RunRecord.of((await store.get_many([PATHS.run(answer.run_id)])).documents[PATHS.run(answer.run_id)].data)
    assert (run.status, run.stop_reason, run.usage and run.usage["input_tokens"]) == ("succeeded", "end_turn", 7)
    assert run.expire_at is not None
    finished = [e for e in services.seen if isinstance(e, RunFinished)]
    assert [(e.status, e.usage.input_tokens) for e in finished] == [("succeeded", 7)]
    assert sum(isinstance(e, ModelCallFinished) for e in services.seen) == 1


async def test_the_model_gets_the_whole_conversation(store: Store):
    seen: list[ModelRequest] = []

    class Spy(Held):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
            seen.append(request)
            async for event in super().stream(request):
                yield event

    spy = Spy()
    spy.release.set()
    services = engine(store, spy, environ={"COMPANY": "Acme"})
    await applied(services, manifest({"system_prompt": "You work for ${COMPANY}."}))
    first = await chat(services, "one")
    await chat(services, "two", first.session_id)
    assert seen[-1].system == "You work for Acme."
    assert [(m.role, m.text) for m in seen[-1].messages] == [("user", "one"), ("assistant", "done"), ("user", "two")]


async def test_settings_of_a_model_and_of_its_fallbacks_are_resolved_where_they_are_used(store: Store):
    seen: list[ModelRequest] = []

    class Spy(Held):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
            seen.append(request)
            if len(seen) == 1:
                raise ProviderRateLimited
            async for event in super().stream(request):
                yield event

    spy = Spy()
    spy.release.set()
    services = engine(store, spy, environ={"TEAM": "blue", "KEY": "k-1"})
    fallback = {"provider": "scripted", "model": "other", "model_settings": {"user": "${KEY}"}}
    settings = {"temperature": 0.5, "metadata": {"team": "${TEAM}", "tags": ["$${TEAM}", "${NONE:-x}"]}}
    await applied(services, manifest({"model_settings": settings, "fallbacks": [fallback]}))
    await chat(services)
    assert seen[0].settings == {"temperature": 0.5, "metadata": {"team": "blue", "tags": ["${TEAM}", "x"]}}
    assert seen[1].settings == {"user": "k-1"}
    stored = await clusters.get_cluster(services, ALICE, "default", "support")
    assert "blue" not in stored.model_dump_json()
    assert "k-1" not in stored.model_dump_json()


async def test_events_tell_the_turn_from_the_first_to_the_last(store: Store):
    services = engine(store, scripted(echo=[{"text": "hello", "chunk_size": 2}]))
    await applied(services)
    handle = await runs.start(services, ALICE, "support.helper", ChatRequest(message="hi"), kind="stream")
    events = [event async for event in handle.events()]
    assert [e.type for e in events] == [
        "run.started",
        *["message.delta"] * 3,
        "message.completed",
        "run.completed",
    ]
    assert "".join(e.data["text"] for e in events if e.type == "message.delta") == "hello"
    assert [e.id for e in events] == [f"1-{i}" for i in range(1, len(events) + 1)]
    again = [event async for event in handle.events()]
    assert again == events


async def test_tools_run_at_once_and_their_failures_go_back_to_the_model(store: Store):
    meeting = asyncio.Barrier(2)

    async def lookup(arguments: Mapping[str, Any]) -> str:
        await asyncio.wait_for(meeting.wait(), 60)
        return f"customer {arguments['id']}"

    async def broken(arguments: Mapping[str, Any]) -> str:
        raise ZeroDivisionError("a defect")

    async def slow(arguments: Mapping[str, Any]) -> str:
        await asyncio.sleep(30)
        return "never"

    tools = [
        function_tool("lookup", lookup, LOOKUP),
        function_tool("broken", broken),
        function_tool("slow", slow, timeout=0.05),
    ]
    services = engine(store, scripted(echo=CALLS), {"crm": StaticToolset(tools)})
    await applied(services, manifest({"tools": [{"type": "http", "name": "crm", "url": "https://crm.example"}]}))
    answer = await chat(services)
    assert answer.message.text == "done"
    _, call, result, _ = await conversation(services, answer.session_id)
    assert [p.id for p in call.tool_calls] == [p.call_id for p in result.parts if isinstance(p, ToolResultPart)]
    texts = [(p.is_error, p.content[0].text) for p in result.parts if isinstance(p, ToolResultPart)]
    assert texts[0] == (False, "customer 1")
    assert texts[1] == (False, "customer 2")
    assert texts[2][0]
    assert "id: " in texts[2][1]
    assert texts[3] == (True, "The tool failed unexpectedly.")
    assert texts[4] == (True, "The tool gave no answer within 0.05 s.")
    (slow_result,) = [p for p in result.parts if isinstance(p, ToolResultPart) and p.name == "slow"]
    assert slow_result.unknown
    assert "needs a person's approval" in slow_result.content[1].text
    assert texts[5][0]
    assert "lookup, broken, slow" in texts[5][1]
    assert tools[0].calls[0][1].idempotency_key.startswith(f"{answer.run_id}/1/")
    await at_rest(services, answer.session_id)
    steps = await store.query(Query(PATHS.steps(answer.run_id)))
    # results of calls that must not be repeated are recorded at once, that of the last one with its step
    kinds = [d.data["kind"] for d in steps.documents]
    assert kinds[:2] == ["model", "tools"]
    assert set(kinds[2:]) == {"result"}


async def test_half_characters_and_bottomless_arguments_do_not_end_a_run(store: Store):
    async def odd(arguments: Mapping[str, Any]) -> str:
        return "half a \ud800 pair"

    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"a": deep}

    class Odd(Held):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
            calls = () if request.messages[-1].role == "tool" else (deep, {"q": "\udfff"}, {})
            parts = [ToolCallPart(f"c{i}", "odd", arguments) for i, arguments in enumerate(calls)]
            answer = Message("assistant", tuple(parts) or (TextPart("done"),))
            yield ModelResponse(answer, "tool_use" if parts else "end_turn", Usage(1, 1), request.model)

    toolset = StaticToolset([function_tool("odd", odd)])
    services = engine(store, Odd(), toolsets={"odd": toolset})
    await applied(services, manifest({"tools": [{"type": "http", "name": "odd", "url": "https://example.com"}]}))
    assert (await chat(services, "hi", "talk")).message.text == "done"
    results = [part for part in (await conversation(services, "talk"))[2].parts if isinstance(part, ToolResultPart)]
    assert [part.is_error for part in results] == [True, True, False]
    assert results[2].content == (TextPart("half a ? pair"),)
    await at_rest(services, "talk")


async def test_the_tools_of_a_generation_are_closed_when_its_last_run_ends(store: Store):
    held = Held()
    toolset = StaticToolset([])
    services = engine(store, held, {"crm": toolset})
    tools = [{"type": "http", "name": "crm", "url": "https://crm.example"}]
    await applied(services, manifest({"tools": tools}))
    handle = await runs.start(services, ALICE, "support.helper", ChatRequest(message="hi"), kind="chat")
    await held.entered.wait()
    await applied(services, manifest({"tools": tools, "max_turns": 3}))
    await asyncio.sleep(0.05)
    assert not toolset.closed
    held.release.set()
    await handle.finished()
    while services.closing:
        await asyncio.wait(set(services.closing))
    assert toolset.closed


async def test_a_tool_that_cannot_be_opened_costs_its_own_tools_only(store: Store):
    async def fine(arguments: Mapping[str, Any]) -> str:
        return "fine"

    down, up = StaticToolset([], "connection refused"), StaticToolset([function_tool("fine", fine)])
    services = engine(store, scripted(echo=[{"text": "hello"}]), {"down": down, "up": up})
    tools = [{"type": "http", "name": name, "url": "https://x.example"} for name in ("down", "up")]
    await applied(services, manifest({"tools": tools}))
    assert (await chat(services)).message.text == "hello"
    assert (await chat(services)).message.text == "hello"
    assert (down.opened, up.opened) == (1, 1)
    other = engine(store, toolsets={"down": down, "up": up})
    shown = await agents.get_agent(other, ALICE, "support.helper")
    assert [(t.name, t.status, t.detail) for t in shown.tools] == [
        ("down", "unavailable", "connection refused"),
        ("up", "unknown", None),
    ]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([{"fail": "provider_rate_limited"}], ProviderRateLimited),
        ([{"text": "half an answer", "cut_off": 4}], ProviderProtocolError),
        ([{"always": True, "tool_calls": [{"name": "absent", "arguments": {}}]}], RunLimitReached),
        ([{"text": "too late", "delay": 30}], RunTimedOut),
    ],
)
async def test_a_failed_run_is_told_and_the_session_goes_on(
    store: Store, script: list[Mapping[str, Any]], expected: type[GoAgentsError]
):
    services = engine(store, scripted(echo=script, good=[{"text": "hello"}]))
    await applied(services, manifest({"max_turns": 3, "timeout": "0.3s"}))
    request = ChatRequest(message="hi", session_id="talk")
    handle = await runs.start(services, ALICE, "support.helper", request, kind="stream")
    with pytest.raises(expected):
        await handle.result()
    last = [event async for event in handle.events()][-1]
    assert (last.type, last.data["error"]["code"], last.data["run_id"]) == (
        "run.failed",
        expected.code,
        handle.run_id,
    )
    await at_rest(services, "talk")
    run = RunRecord.of((await store.get_many([PATHS.run(handle.run_id)])).documents[PATHS.run(handle.run_id)].data)
    assert run.status == "failed"
    assert run.error
    assert run.error["code"] == expected.code
    await applied(services, manifest({"model": "good"}))
    assert (await chat(services, "again", "talk")).message.text == "hello"
    assert [m.text for m in await conversation(services, "talk")] == ["hi", "again", "hello"]


async def test_fallbacks_are_asked_in_order(store: Store):
    models = scripted(
        echo=[{"fail": "provider_overloaded"}], second=[{"fail": "provider_unavailable"}], third=[{"text": "ok"}]
    )
    services = engine(store, models)
    fallbacks = [{"provider": "scripted", "model": name} for name in ("second", "third")]
    await applied(services, manifest({"fallbacks": fallbacks}))
    assert (await chat(services)).message.text == "ok"
    calls = [e for e in services.seen if isinstance(e, ModelCallFinished)]
    assert [e.error_code for e in calls] == ["provider_overloaded", "provider_unavailable", None]


async def test_a_variable_that_a_posted_cluster_may_not_read_stays_unread(store: Store):
    services = engine(store, environ={"SECRET": "hunter2"})
    await applied(services, manifest({"system_prompt": "${SECRET}"}), trusted=False)
    with pytest.raises(GoAgentsError) as refused:
        await chat(services, "hi", "talk")
    assert refused.value.status == 422
    assert "hunter2" not in str(refused.value)
    await at_rest(services, "talk")


class _Changing(StaticToolset):
    """Its tools have changed as soon as there are others than it listed."""

    listed: int = 0

    async def open(self) -> Sequence[Tool]:
        self.listed = len(self.tools)
        return await super().open()

    @property
    def stale(self) -> bool:
        return self.listed != len(self.tools)


async def test_tools_that_change_are_listed_anew_for_the_next_run(store: Store):
    async def fine(arguments: Mapping[str, Any]) -> str:
        return "fine"

    tools = [function_tool("one", fine)]
    toolset = _Changing(tools)
    model = ScriptedModel("first", "second", "third")
    services = engine(store, model, {"crm": toolset})
    await applied(services, manifest({"tools": [{"type": "http", "name": "crm", "url": "https://crm.example"}]}))
    await chat(services)
    tools.append(function_tool("two", fine))
    await chat(services)
    await chat(services)
    assert [[tool.name for tool in request.tools] for request in model.requests] == [
        ["one"],
        ["one", "two"],
        ["one", "two"],
    ]
    assert (toolset.opened, toolset.closed) == (2, False)


async def test_of_two_toolsets_with_one_tools_name_the_first_offers_it(store: Store):
    async def fine(arguments: Mapping[str, Any]) -> str:
        return "fine"

    first, second = StaticToolset([function_tool("same", fine)]), StaticToolset([function_tool("same", fine)])
    services = engine(store, toolsets={"one": first, "two": second})
    entries = [{"type": "http", "name": name, "url": "https://x.example"} for name in ("one", "two")]
    await applied(services, manifest({"tools": entries}))
    await chat(services)
    shown = (await clusters.get_cluster(services, ALICE, "default", "support")).agents[0].tools
    assert [(tool.name, tool.status) for tool in shown] == [("one", "available"), ("two", "unavailable")]
    assert "same" in (shown[1].detail or "")
    assert (first.closed, second.closed) == (False, False), "nobody's call of the second is cut"
