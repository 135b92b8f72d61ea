"""Runs, from admission to settle: whatever happens, session, slot and instance are left consistent."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from tests.support.engine import ALICE, BOB, applied, engine, manifest, scripted
from tests.support.stores import SlowStore, UnreliableStore

from goagents.engine import agents, clusters, runs, sessions
from goagents.engine.services import Services
from goagents.errors import (
    Conflict,
    DocumentTooLarge,
    GoAgentsError,
    LimitExceeded,
    NotFound,
    ProviderProtocolError,
    ProviderRateLimited,
    RunInterrupted,
    RunLimitReached,
    RunTimedOut,
    SessionBusy,
)
from goagents.messages import Message, TextPart, ToolCallPart, ToolResultPart, Usage
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, TextDelta
from goagents.records import Paths, RunRecord
from goagents.resources import ChatRequest, ChatResponse
from goagents.store.base import Delete, Merge, Query, Store
from goagents.telemetry.base import ModelCallFinished, RunFinished
from goagents.testing.stores import RecordingStore
from goagents.testing.tools import StaticToolset, function_tool

PATHS = Paths("default")


async def chat(services: Services, message: str = "hi", session: str | None = None, **more: Any) -> ChatResponse:
    request = ChatRequest(message=message, session_id=session)
    handle = await runs.start(services, ALICE, "support.helper", request, kind="chat", **more)
    return await handle.result()


async def conversation(services: Services, session: str) -> list[Message]:
    return [item.message for item in (await sessions.list_messages(services, ALICE, session, 100, None)).items]


async def at_rest(services: Services, session: str) -> None:
    """Assert that nothing points at a run any more."""
    assert (await sessions.get_session(services, ALICE, session)).active_run is None
    for collection in (PATHS.slots("default", "support"), PATHS.instances("default", "support")):
        page = await services.store.query(Query(collection, limit=500))
        assert [d.data.get("run") for d in page.documents] == [None] * len(page.documents)


class Held:
    """A model that answers when told to, and counts how many calls are open."""

    name = "scripted"

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.entered = asyncio.Event()
        self.open = self.most = 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.open += 1
        self.most = max(self.most, self.open)
        self.entered.set()
        try:
            await self.release.wait()
            await asyncio.sleep(0.01)
            yield TextDelta("done")
            yield ModelResponse(Message("assistant", (TextPart("done"),)), "end_turn", Usage(3, 1), request.model)
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        pass


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


async def test_a_warm_turn_without_tools_takes_three_rounds(store: Store):
    recorder = RecordingStore(store)
    services = engine(recorder)
    await applied(services)
    first = await chat(services)
    before = recorder.rounds
    await chat(services, "again", first.session_id)
    assert recorder.rounds - before == 3
    before = recorder.rounds
    await chat(services, "in a session of its own")
    assert recorder.rounds - before == 3


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


LOOKUP = {
    "type": "object",
    "properties": {"id": {"type": "integer"}},
    "required": ["id"],
    "additionalProperties": False,
}
CALLS: list[Mapping[str, Any]] = [
    {
        "tool_calls": [
            {"name": "lookup", "arguments": {"id": 1}},
            {"name": "lookup", "arguments": {"id": 2}},
            {"name": "lookup", "arguments": {"id": "x"}},
            {"name": "broken", "arguments": {}},
            {"name": "slow", "arguments": {}},
            {"name": "absent", "arguments": {}},
        ]
    },
    {"after": "*", "text": "done"},
]


async def test_tools_run_at_once_and_their_failures_go_back_to_the_model(store: Store):
    meeting = asyncio.Barrier(2)

    async def lookup(arguments: Mapping[str, Any]) -> str:
        await asyncio.wait_for(meeting.wait(), 5)
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
    assert texts[5][0]
    assert "lookup, broken, slow" in texts[5][1]
    assert tools[0].calls[0][1].idempotency_key.startswith(f"{answer.run_id}/1/")
    await at_rest(services, answer.session_id)
    steps = await store.query(Query(PATHS.steps(answer.run_id)))
    assert [d.data["kind"] for d in steps.documents] == ["model", "tools"]


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


async def test_sessions_belong_to_one_principal_and_one_cluster(store: Store):
    services = engine(store)
    await applied(services)
    await applied(services, manifest(name="other"))
    answer = await chat(services)
    request = ChatRequest(message="hi", session_id=answer.session_id)
    with pytest.raises(NotFound):
        await runs.start(services, BOB, "support.helper", request, kind="chat")
    with pytest.raises(NotFound):
        await sessions.get_session(services, BOB, answer.session_id)
    with pytest.raises(Conflict, match="belongs to the cluster 'support'"):
        await runs.start(services, ALICE, "other.helper", request, kind="chat")


async def test_a_session_runs_one_turn_at_a_time(store: Store):
    held = Held()
    services = engine(store, held)
    await applied(services)
    request = ChatRequest(message="hi", session_id="talk")
    handle = await runs.start(services, ALICE, "support.helper", request, kind="chat")
    with pytest.raises(SessionBusy, match=handle.run_id):
        await runs.start(services, ALICE, "support.helper", request, kind="chat")
    with pytest.raises(SessionBusy):
        await sessions.delete_session(services, ALICE, "talk")
    held.release.set()
    await handle.finished()
    await sessions.delete_session(services, ALICE, "talk")
    with pytest.raises(NotFound):
        await sessions.get_session(services, ALICE, "talk")
    assert not (await store.query(Query(PATHS.messages("talk")))).documents


async def test_a_full_cluster_says_so_and_waits_as_long_as_it_is_told(store: Store):
    held = Held()
    services = engine(store, held)
    await applied(services, manifest({}, max_concurrent_agents=2))
    handles = [
        await runs.start(services, ALICE, "support.helper", ChatRequest(message="hi"), kind="chat") for _ in range(2)
    ]
    with pytest.raises(LimitExceeded, match="max_concurrent_agents") as full:
        await chat(services)
    assert full.value.retry_after
    other = engine(store, held)
    with pytest.raises(LimitExceeded, match="max_concurrent_agents"):
        await chat(other)
    await applied(services, manifest({}, max_concurrent_agents=2, queue_timeout="20s"))
    waiting = asyncio.create_task(chat(services))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    held.release.set()
    assert (await waiting).message.text == "done"
    for handle in handles:
        await handle.finished()


async def test_an_agents_instances_bound_its_runs(store: Store):
    held = Held()
    services = engine(store, held)
    await applied(services, manifest({"max_instances": 1}, {"name": "second"}))
    first = await runs.start(services, ALICE, "support.helper", ChatRequest(message="hi"), kind="chat")
    with pytest.raises(LimitExceeded, match="max_instances"):
        await chat(services)
    second = await runs.start(services, ALICE, "support.second", ChatRequest(message="hi"), kind="chat")
    shown = (await clusters.get_cluster(services, ALICE, "default", "support")).agents
    assert [(a.active_instances, a.instances[0].run) for a in shown] == [(1, first.run_id), (1, second.run_id)]
    held.release.set()
    await first.finished()
    await second.finished()
    shown = (await clusters.get_cluster(services, ALICE, "default", "support")).agents
    assert [(a.active_instances, a.idle_instances) for a in shown] == [(0, 1), (0, 1)]
    assert (await clusters.scale(services, ALICE, "default", "support", "helper", 0)).idle_instances == 0
    held.entered.clear()
    assert (await chat(services)).message.text == "done"


async def test_many_processes_never_run_more_than_the_bound_and_all_get_their_turn(store: Store):
    held = Held()
    held.release.set()
    fleet = [engine(store, held) for _ in range(4)]
    await applied(fleet[0], manifest({}, max_concurrent_agents=6, queue_timeout="30s"))
    answers = await asyncio.gather(*(chat(fleet[i % 4], f"message {i}") for i in range(60)))
    assert {a.message.text for a in answers} == {"done"}
    assert held.most <= 6
    assert len({a.run_id for a in answers}) == 60
    for answer in answers[:5]:
        await at_rest(fleet[0], answer.session_id)


async def test_the_same_key_is_the_same_run(store: Store):
    services = engine(store)
    await applied(services)
    first = await chat(services, "hi", "talk", idempotency_key="k1")
    assert await chat(services, "hi", "talk", idempotency_key="k1") == first
    assert await chat(engine(store), "hi", "talk", idempotency_key="k1") == first
    with pytest.raises(Conflict, match="another request"):
        await chat(services, "something else", "talk", idempotency_key="k1")
    assert (await sessions.get_session(services, ALICE, "talk")).messages == 2


async def test_a_key_that_was_used_needs_no_place(store: Store):
    held = Held()
    services = engine(store, held)
    await applied(services, manifest({}, max_concurrent_agents=1))
    request = ChatRequest(message="hi", session_id="talk")

    async def again(message: ChatRequest = request, key: str = "k1") -> runs.RunHandle:
        return await runs.start(services, ALICE, "support.helper", message, kind="chat", idempotency_key=key)

    first = await again()
    await held.entered.wait()
    assert (await again()).run_id == first.run_id
    with pytest.raises(Conflict, match="another request"):
        await again(ChatRequest(message="ho", session_id="talk"))
    with pytest.raises(LimitExceeded):
        await again(key="k2")
    held.release.set()
    await first.finished()
    await at_rest(services, "talk")


async def test_the_key_of_a_run_whose_process_died_tells_so(store: Store):
    held, cable = Held(), UnreliableStore(store)
    dying = engine(cable, held, lease_ttl=0.3)
    await applied(dying)
    request = ChatRequest(message="hi", session_id="talk")
    handle = await runs.start(dying, ALICE, "support.helper", request, kind="chat", idempotency_key="k1")
    await held.entered.wait()
    cable.unplugged = True
    other = engine(store)
    with pytest.raises(Conflict, match="in progress"):
        await chat(other, "hi", "talk", idempotency_key="k1")
    await asyncio.sleep(0.4)
    assert (await sessions.get_session(other, ALICE, "talk")).active_run is None
    with pytest.raises(RunInterrupted):
        await chat(other, "hi", "talk", idempotency_key="k1")
    await at_rest(other, "talk")
    held.release.set()
    await handle.finished()


async def test_a_record_that_is_gone_holds_nothing(store: Store):
    """Records of runs expire; what a dead process held may be asked for only after that."""
    services = engine(store)
    await applied(services, manifest({}, max_concurrent_agents=1))
    run = (await chat(services, "hi", "talk")).run_id
    held = (PATHS.slot("default", "support", 0), PATHS.instance("default", "support", "helper", 0))
    await store.commit([Delete(PATHS.run(run)), Delete(PATHS.lease(run))])
    await store.commit(
        [Merge(PATHS.session("talk"), {"active_run": run}), *(Merge(path, {"run": run}) for path in held)]
    )
    assert (await chat(services, "again", "talk")).message.text == "hello"
    await at_rest(services, "talk")


async def test_a_lease_outlasts_a_store_that_stays_away_for_a_while(store: Store):
    held, cable = Held(), UnreliableStore(store)
    services = engine(cable, held, lease_ttl=0.3)
    await applied(services)
    request = ChatRequest(message="hi", session_id="talk")
    cable.refuse_renewals = 6  # all that one renewal tries
    handle = await runs.start(services, ALICE, "support.helper", request, kind="chat")
    lease = PATHS.lease(handle.run_id)
    first = (await store.get_many([lease])).documents[lease].data["renewed_at"]
    await asyncio.wait_for(cable.renewed.wait(), 20)
    assert (await store.get_many([lease])).documents[lease].data["renewed_at"] > first
    held.release.set()
    await handle.finished()
    await at_rest(services, "talk")


async def test_a_reader_that_leaves_does_not_stop_the_run(store: Store):
    held = Held()
    services = engine(store, held)
    await applied(services)
    request = ChatRequest(message="hi", session_id="talk")
    handle = await runs.start(services, ALICE, "support.helper", request, kind="stream")
    reader = asyncio.create_task(handle.result())
    await held.entered.wait()
    reader.cancel()
    held.release.set()
    await handle.finished()
    assert [m.text for m in await conversation(services, "talk")] == ["hi", "done"]


async def test_a_process_asked_to_stop_settles_its_runs(store: Store):
    held = Held()
    services = engine(store, held)
    await applied(services)
    request = ChatRequest(message="hi", session_id="talk")
    handle = await runs.start(services, ALICE, "support.helper", request, kind="chat")
    await held.entered.wait()
    for task in services.tasks:
        task.cancel()
    with pytest.raises(RunInterrupted):
        await handle.result()
    await at_rest(services, "talk")


class Talkative(Held):
    """Says `text` in deltas of `size` characters."""

    def __init__(self, text: str, size: int) -> None:
        super().__init__()
        self.text, self.size = text, size

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        for start in range(0, len(self.text), self.size):
            yield TextDelta(self.text[start : start + self.size])
        yield ModelResponse(Message("assistant", (TextPart(self.text),)), "end_turn", Usage(1, 1), request.model)


async def test_deltas_that_nobody_reads_are_joined(store: Store):
    text = "0123456789" * 500
    services = engine(store, Talkative(text, 1))
    await applied(services)
    handle = await runs.start(services, ALICE, "support.helper", ChatRequest(message="hi"), kind="chat")
    assert (await handle.result()).message.text == text
    events = [event async for event in handle.events()]
    assert "".join(e.data["text"] for e in events if e.type == "message.delta") == text
    assert len(events) < 100
    assert [e.seq for e in events] == list(range(1, len(events) + 1))


async def test_an_answer_that_no_store_keeps_fails_the_run_and_holds_nothing(store: Store):
    services = engine(store, Talkative("x" * (17 << 20), 17 << 20))
    await applied(services)
    request = ChatRequest(message="hi", session_id="talk")
    handle = await runs.start(services, ALICE, "support.helper", request, kind="chat")
    with pytest.raises(DocumentTooLarge):
        await handle.result()
    await at_rest(services, "talk")
    run = RunRecord.of((await store.get_many([PATHS.run(handle.run_id)])).documents[PATHS.run(handle.run_id)].data)
    assert run.status == "failed"


async def test_a_process_asked_to_stop_while_it_settles_settles(store: Store):
    slow = SlowStore(store)
    services = engine(slow)
    await applied(services)
    request = ChatRequest(message="hi", session_id="talk")
    handle = await runs.start(services, ALICE, "support.helper", request, kind="chat")
    slow.blocked.clear()
    await asyncio.wait_for(slow.waiting.wait(), 5)
    for _ in range(3):
        for task in services.tasks:
            task.cancel()
        await asyncio.sleep(0.01)
    slow.blocked.set()
    assert (await handle.result()).message.text == "hello"
    await at_rest(services, "talk")


async def test_what_a_dead_process_held_is_freed_when_its_lease_is_over(store: Store):
    held, cable = Held(), UnreliableStore(store)
    dying = engine(cable, held, lease_ttl=0.3)
    await applied(dying, manifest({}, max_concurrent_agents=1, queue_timeout="10s"))
    request = ChatRequest(message="hi", session_id="talk")
    handle = await runs.start(dying, ALICE, "support.helper", request, kind="chat")
    await held.entered.wait()
    cable.unplugged = True
    other = engine(store)
    with pytest.raises(SessionBusy):
        await sessions.delete_session(other, ALICE, "talk")
    assert (await chat(other, "are you there?", "talk")).message.text == "hello"
    cable.unplugged = False
    held.release.set()
    with pytest.raises(GoAgentsError) as lost:
        await handle.result()
    assert lost.value.code == "lease_lost"
    assert [m.text for m in await conversation(other, "talk")] == ["hi", "are you there?", "hello"]
    run = RunRecord.of((await store.get_many([PATHS.run(handle.run_id)])).documents[PATHS.run(handle.run_id)].data)
    assert run.status == "failed"
    await at_rest(other, "talk")


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_a_lost_answer_of_the_store_changes_nothing(store: Store, lost: int):
    cable = UnreliableStore(store)
    services = engine(cable, scripted(echo=CALLS))
    await applied(services)
    cable.lose_answers = lost
    answer = await chat(services, "hi", "talk")
    assert answer.message.text == "done"
    assert cable.lose_answers == 0
    assert len(await conversation(services, "talk")) == 4
    await at_rest(services, "talk")
    page = await store.query(Query(PATHS.runs()))
    assert [d.id for d in page.documents] == [answer.run_id]
    assert (await store.query(Query(PATHS.usage()))).documents[0].data["runs"] == 1


async def test_a_variable_that_a_posted_cluster_may_not_read_stays_unread(store: Store):
    services = engine(store, environ={"SECRET": "hunter2"})
    await applied(services, manifest({"system_prompt": "${SECRET}"}), trusted=False)
    with pytest.raises(GoAgentsError) as refused:
        await chat(services, "hi", "talk")
    assert refused.value.status == 422
    assert "hunter2" not in str(refused.value)
    await at_rest(services, "talk")
