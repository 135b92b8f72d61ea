"""Answers of tools kept in the store: asked for once, by however many runs and processes, and never kept when wrong."""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from tests.support.engine import ALICE, Engine, all_told, applied, engine, manifest, scripted
from tests.support.runs import PATHS, chat, conversation

from goagents.engine import controls
from goagents.errors import RunCancelled, StoreUnavailable, ToolFailed
from goagents.messages import ImagePart, TextPart, ToolResultPart
from goagents.providers.scripted import ScriptedProvider
from goagents.records import ToolAnswerRecord
from goagents.store.base import Delete, Put, Query, Store, Write
from goagents.telemetry.base import ToolCallFinished
from goagents.testing.stores import PassingStore, RecordingStore
from goagents.testing.tools import StaticToolset, function_tool
from goagents.tools.base import ToolResult, text_result

ENTRY = {"type": "http", "name": "shop", "url": "https://shop.example.com", "cache_ttl": "1m", "timeout": "5s"}
OTHER = {"type": "http", "name": "other", "url": "https://o.example.com", "headers": {"Authorization": "Bearer ${KEY}"}}
NONE = StaticToolset([])
ANSWERS = Query(f"{PATHS.root}/tool_answers", limit=100)


@dataclass
class Server:
    """What is behind the tool `look`: counts the calls, and answers when told to."""

    answers: Sequence[Any] = ("fresh",)
    effect: str = "read"
    release: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.release.set()

    async def look(self, arguments: Mapping[str, Any]) -> ToolResult | str:
        self.calls.append(dict(arguments))
        self.entered.set()
        answer = self.answers[min(len(self.calls), len(self.answers)) - 1]
        await self.release.wait()
        if isinstance(answer, Exception):
            raise answer
        found: ToolResult | str = answer
        return found

    def toolset(self) -> StaticToolset:
        return StaticToolset([function_tool("look", self.look, effect=self.effect, timeout=5.0)])


def asks(*arguments: Mapping[str, Any]) -> ScriptedProvider:
    calls = [{"name": "look", "arguments": dict(each)} for each in arguments or ({},)]
    return scripted(echo=[{"tool_calls": calls}, {"after": "*", "text": "done"}])


async def process(store: Store, server: Server, *arguments: Mapping[str, Any], **entry: Any) -> Engine:
    services = engine(store, asks(*arguments), {"shop": server.toolset()})
    await applied(services, manifest({"tools": [{**ENTRY, **entry}]}))
    return services


async def answers(services: Engine, session: str) -> list[str]:
    """Ask in a session of its own; return the texts of the tool's results."""
    await chat(services, "look", session)
    parts = [part for message in await conversation(services, session) for part in message.parts]
    return ["".join(getattr(c, "text", "[image]") for c in p.content) for p in parts if isinstance(p, ToolResultPart)]


def caches(services: Engine) -> list[str | None]:
    return [event.cache for event in services.seen if isinstance(event, ToolCallFinished)]


async def kept(store: Store) -> list[ToolAnswerRecord]:
    return [ToolAnswerRecord.of(document.data) for document in (await store.query(ANSWERS)).documents]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for is the engine's own
            await asyncio.sleep(0.01)


async def test_an_answer_serves_the_next_run_and_another_process(store: Store):
    server = Server(["first", "second"])
    one, two = await process(store, server), await process(store, server)
    assert [await answers(each, f"s{n}") for n, each in enumerate((one, one, two))] == [["first"]] * 3
    assert len(server.calls) == 1
    assert (caches(one), caches(two)) == (["miss", "hit"], ["hit"])
    (record,) = await kept(store)
    assert record.expire_at - record.created_at == timedelta(minutes=1)


async def test_other_arguments_tools_and_clusters_have_their_own(store: Store):
    server = Server()
    await answers(await process(store, server, {"a": 1, "b": 2}), "s1")
    await answers(await process(store, server, {"b": 2, "a": 1}), "s2")
    assert len(server.calls) == 1, "the order of arguments means nothing"
    await answers(await process(store, server, {"a": 1, "b": 3}), "s3")
    await answers(await process(store, server, {"a": 1, "b": 2}, description="another entry"), "s4")
    assert len(server.calls) == 3


async def test_an_answer_is_forgotten_after_its_time(store: Store):
    server = Server(["first", "second"])
    services = await process(store, server, cache_ttl="500ms")
    assert await answers(services, "s1") == ["first"]
    await asyncio.sleep(0.6)
    assert await answers(services, "s2") == ["second"]


async def test_calls_of_one_process_wait_for_the_one_under_way(store: Store):
    server = Server()
    services = await process(store, server, *[{"q": "same"}] * 10)
    assert await answers(services, "s1") == ["fresh"] * 10
    assert len(server.calls) == 1
    assert sorted(map(str, caches(services))) == ["miss", *["shared"] * 9]


async def test_processes_wait_for_the_one_that_asks(store: Store):
    server = Server()
    server.release.clear()
    both = [await process(store, server) for _ in range(2)]
    first = asyncio.create_task(answers(both[0], "s1"))
    await server.entered.wait()
    second = asyncio.create_task(answers(both[1], "s2"))
    await eventually(lambda: bool(both[1].handles))
    await asyncio.sleep(0.2)
    assert len(server.calls) == 1
    server.release.set()
    assert await asyncio.gather(first, second) == [["fresh"], ["fresh"]]
    assert (len(server.calls), caches(both[1])) == (1, ["hit"])


async def test_many_processes_at_once_ask_once(store: Store):
    server = Server()
    several = [await process(store, server) for _ in range(5)]
    found = await asyncio.gather(*(answers(each, f"s{n}") for n, each in enumerate(several)))
    assert found == [["fresh"]] * 5
    assert len(server.calls) == 1


async def test_who_waits_for_a_call_that_is_cancelled_asks_itself(store: Store):
    server = Server()
    server.release.clear()
    services = await process(store, server)
    first = asyncio.create_task(answers(services, "s1"))
    await server.entered.wait()
    (cancelled,) = services.handles
    second = asyncio.create_task(answers(services, "s2"))
    await eventually(lambda: len(services.handles) == 2)
    await controls.cancel(services, ALICE, cancelled)
    with pytest.raises(RunCancelled):
        await first
    server.release.set()
    async with asyncio.timeout(5):  # half the time of a claim
        assert await second == ["fresh"]
    assert len(server.calls) == 2


async def test_a_claim_that_nobody_keeps_is_waited_out(store: Store):
    """As a process leaves it that died while it asked."""
    server = Server()
    services = await process(store, server, timeout="300ms")
    await answers(services, "s1")
    (document,) = (await store.query(ANSWERS)).documents
    now = services.clock.now()
    claim = ToolAnswerRecord(claim="dead", created_at=now, expire_at=now + timedelta(seconds=0.5))
    await store.commit([Put(document.path, claim.data())])
    assert await answers(services, "s2") == ["fresh"]
    assert (len(server.calls), caches(services)) == (2, ["miss", "miss"])


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(ToolFailed("down").because("server"), id="a failure"),
        pytest.param(text_result("HTTP 404", is_error=True), id="an error of the server"),
        pytest.param("x" * (300 << 10), id="a long answer"),
        pytest.param(
            ToolResult((ImagePart("image/png", base64.b64encode(b"x" * (250 << 10)).decode()),)), id="a large image"
        ),
    ],
)
async def test_what_is_wrong_or_large_is_not_kept(store: Store, wrong: Any):
    server = Server([wrong, "right"])
    toolset = StaticToolset([function_tool("look", server.look, effect="read", max_output=1 << 20)])
    services = engine(store, asks(), {"shop": toolset})
    await applied(services, manifest({"tools": [ENTRY]}))
    await answers(services, "s1")
    assert [record.content for record in await kept(store)] == [None]
    assert await answers(services, "s2") == ["right"]


async def test_who_waited_for_what_is_not_kept_asks_at_once(store: Store):
    """Processes that would take turns at it would each wait for all before."""
    server = Server([text_result("HTTP 500", is_error=True)])
    server.release.clear()
    several = [await process(store, server) for _ in range(4)]
    first = asyncio.create_task(answers(several[0], "s0"))
    await server.entered.wait()
    others = [asyncio.create_task(answers(each, f"s{n}")) for n, each in enumerate(several[1:], 1)]
    await eventually(lambda: all(each.handles for each in several))
    server.release.set()
    await first
    server.release.clear()
    await eventually(lambda: len(server.calls) == 4)  # all of them are under way at the same time
    server.release.set()
    await asyncio.gather(*others)


@pytest.mark.parametrize(
    ("field", "value"),
    [("url", "${PLACE}/v1"), ("url", "https://${PLACE}.example.com/v1"), ("headers", {"X-User": "${PLACE}"})],
)
async def test_another_value_of_a_variable_is_another_entry(store: Store, field: str, value: Any):
    server = Server(["of staging", "of prod"])
    found = []
    for place in ("https://a.example.com", "https://b.example.com", "https://a.example.com"):
        environ = {"PLACE": place if str(value).startswith("${") or field == "headers" else place[8]}
        services = engine(store, asks(), {"shop": server.toolset()}, environ=environ)
        await applied(services, manifest({"tools": [{**ENTRY, field: value}]}))
        found += await answers(services, f"session-{len(found)}")
    assert found == ["of staging", "of prod", "of staging"]


async def test_a_tool_that_is_described_in_another_way_is_another(store: Store):
    """An OpenAPI page may have changed, and the same arguments lead elsewhere."""
    server = Server(["before", "after"])
    found = []
    for schema in ({"type": "object"}, {"type": "object", "description": "Of today."}):
        toolset = StaticToolset([function_tool("look", server.look, schema, effect="read")])
        services = engine(store, asks(), {"shop": toolset})
        await applied(services, manifest({"tools": [ENTRY]}))
        found += await answers(services, f"session-{len(found)}")
    assert found == ["before", "after"]


async def test_small_images_are_kept(store: Store):
    image = ImagePart("image/png", "AAAA")
    server = Server([ToolResult((TextPart("a chart"), image))])
    services = await process(store, server)
    assert [await answers(services, session) for session in ("s1", "s2")] == [["a chart[image]"]] * 2
    assert len(server.calls) == 1


@pytest.mark.parametrize("effect", ["idempotent", "unsafe"])
async def test_what_turns_out_to_be_no_read_is_called_each_time(store: Store, effect: str):
    """An MCP server, or an OpenAPI page, says so only when it is opened."""
    server = Server(effect=effect)
    services = await process(store, server)
    for session in ("s1", "s2"):
        await answers(services, session)
    assert (len(server.calls), caches(services), await kept(store)) == (2, [None, None], [])


async def test_a_hit_costs_one_round_and_a_miss_three(store: Store):
    server = Server()
    recorder = RecordingStore(store)
    services = await process(recorder, server)
    await chat(services, "warm up", "talk")
    await all_told(services)
    recorder.reset()
    await chat(services, "again", "talk")
    assert recorder.rounds == 5 + 1
    for document in (await store.query(ANSWERS)).documents:
        await store.commit([Delete(document.path)])
    recorder.reset()
    await chat(services, "and again", "talk")
    assert recorder.rounds == 5 + 3


class Away(PassingStore):
    """A store that does not answer where the cache is."""

    async def around(self, method: Any, subject: Any, call: Any) -> Any:
        if _is_about_answers(subject):
            raise StoreUnavailable("away")
        return await super().around(method, subject, call)


def _is_about_answers(subject: Any) -> bool:
    if isinstance(subject, Query) or subject is None:
        return False
    paths = [item if isinstance(item, str) else item.path for item in subject if isinstance(item, str | Write)]
    return any("/tool_answers/" in path for path in paths)


async def test_without_the_store_the_call_is_made(store: Store, caplog: pytest.LogCaptureFixture):
    server = Server()
    services = await process(Away(store), server)
    assert await answers(services, "s1") == ["fresh"]
    assert "the cache of tool results is not used: away" in caplog.text


async def test_a_secret_that_became_one_later_is_not_shown_from_the_cache(store: Store):
    server = Server(["the key is s3cret-of-now"])
    for key, expected in (("another", "the key is s3cret-of-now"), ("s3cret-of-now", "the key is [redacted]")):
        services = engine(store, asks(), {"shop": server.toolset(), "other": NONE}, environ={"KEY": key})
        await applied(services, manifest({"tools": [ENTRY, OTHER]}))
        assert await answers(services, f"with-{key}") == [expected]
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "long",
    [
        pytest.param(json.dumps([{"id": n, "name": "x" * 40} for n in range(2000)]), id="JSON"),
        pytest.param("HTTP 200 OK\n" + json.dumps({"rows": list(range(40_000))}), id="JSON with a head"),
        pytest.param("one line of text\n" * 9000, id="text"),
    ],
)
async def test_what_was_cut_is_given_again_as_it_was(store: Store, long: str):
    server = Server([long])
    toolset = StaticToolset([function_tool("look", server.look, effect="read", max_output=1024)])
    services = engine(store, asks(), {"shop": toolset})
    await applied(services, manifest({"tools": [ENTRY]}))
    first, second = [(await answers(services, session))[0] for session in ("s1", "s2")]
    assert (len(server.calls), caches(services)) == (1, ["miss", "hit"])
    assert first == second
    assert first.count("[cut: ") == second.count("[cut: ")
    assert f" {len(long)} bytes" in second


async def test_a_hit_that_lost_a_secret_is_not_cut_for_being_longer(store: Store):
    """What stands in a short secret's place is longer than it; the answer's end is worth more than the bound."""
    server = Server(["abcd " * 200])
    found = []
    for key in ("another", "abcd"):
        toolset = StaticToolset([function_tool("look", server.look, effect="read", max_output=1000)])
        services = engine(store, asks(), {"shop": toolset, "other": NONE}, environ={"KEY": key})
        await applied(services, manifest({"tools": [ENTRY, OTHER]}))
        found += await answers(services, f"with-{key}")
    assert found == ["abcd " * 200, "[redacted] " * 200]
    assert len(server.calls) == 1
