"""How many sequential rounds to the store things take, counted at the port: what a turn waits for."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.support.engine import ALICE, Engine, all_told, applied, engine, manifest, scripted
from tests.support.runs import Held, chat, conversation

from goagents.engine import runs
from goagents.engine.recovery.worker import perform
from goagents.engine.watching import Watch
from goagents.resources import ChatRequest
from goagents.store.base import Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.models import ScriptedModel
from goagents.testing.stores import RecordingStore
from goagents.testing.tools import StaticToolset, function_tool

ENTRY = {"type": "http", "name": "shop", "url": "https://shop.example"}


def calling(*tools: str) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": {}} for name in tools]}


def shop() -> StaticToolset:
    async def at_once(arguments: Mapping[str, Any]) -> str:
        return "done"

    async def later(arguments: Mapping[str, Any]) -> str:
        await asyncio.sleep(0.05)
        return "done, too"

    return StaticToolset(
        [
            function_tool("look", at_once, effect="read"),
            function_tool("search", later, effect="read"),
            function_tool("reserve", at_once, effect="idempotent"),
            function_tool("pay", at_once, effect="unsafe"),
            function_tool("ship", later, effect="unsafe"),
        ]
    )


async def begun(services: Engine, session: str, kind: Any = "chat") -> Watch:
    request = ChatRequest(message="hi", session_id=session)
    return await runs.start(services, ALICE, "support.helper", request, kind=kind)


async def warm(store: Store, provider: Any, queue: RecordingDispatch | None = None) -> tuple[Engine, RecordingStore]:
    """Return services that have had a first turn, and the counter of their rounds, at 0."""
    recorder = RecordingStore(store)
    services = engine(recorder, provider, {"shop": shop()}, dispatch=queue)
    await applied(services, manifest({"tools": [ENTRY]}))
    await chat(services, "hi", "talk")
    await all_told(services)
    recorder.reset()
    return services, recorder


async def test_a_warm_turn_without_tools_takes_three(store: Store):
    services, recorder = await warm(store, scripted(echo=[{"text": "hello"}]))
    await chat(services, "again", "talk")
    assert recorder.rounds == 3
    recorder.reset()
    await chat(services, "in a session of its own")
    assert recorder.rounds == 3
    assert [call.method for call in recorder.calls] == ["get_many", "query", "commit", "commit"]


@pytest.mark.parametrize(
    ("steps", "rounds"),
    [
        pytest.param([["look"]], 5, id="a call"),
        pytest.param([["look", "search", "reserve"]], 5, id="three calls at once"),
        pytest.param([["look"], ["reserve"], ["look"]], 9, id="three steps"),
        pytest.param([["pay"]], 5, id="an unsafe call"),
        pytest.param([["pay", "ship"]], 6, id="two unsafe calls"),
        pytest.param([["pay", "search"]], 6, id="an unsafe call, and one that takes longer"),
        pytest.param([["look", "ship"]], 5, id="an unsafe call that ends last"),
    ],
)
async def test_a_step_with_tools_adds_two_and_each_unsafe_call_that_others_outlast_one(
    store: Store, steps: Sequence[Sequence[str]], rounds: int
):
    model = ScriptedModel("hello", *(calling(*tools) for tools in steps), "done")
    services, recorder = await warm(store, model)
    assert (await chat(services, "do it", "talk")).message.text == "done"
    assert recorder.rounds == rounds
    assert [p.is_error for m in await conversation(services, "talk") for p in m.parts if p.type == "tool_result"] == [
        False for tools in steps for _ in tools
    ]


async def test_a_key_that_was_used_is_answered_in_three_reads(store: Store):
    services, recorder = await warm(store, scripted(echo=[{"text": "hello"}]))
    first = await chat(services, "again", "talk", idempotency_key="k")
    recorder.reset()
    assert (await chat(services, "again", "talk", idempotency_key="k")).run_id == first.run_id
    assert recorder.rounds == 3
    assert "commit" not in {call.method for call in recorder.calls}


async def test_a_run_for_the_background_takes_two_and_its_worker_four(store: Store):
    queue = RecordingDispatch()
    services, recorder = await warm(store, scripted(echo=[{"text": "hello"}]), queue)
    watch = await begun(services, "other", "background")
    assert recorder.rounds == 2
    recorder.reset()
    (task,) = queue.taken()
    await perform(services, task)
    # the run with its lease; the rest; taking it up; settling
    assert recorder.rounds == 4
    assert (await watch.result()).message.text == "hello"


async def test_a_run_that_waits_in_its_session_costs_the_one_before_it_four(store: Store):
    held, queue = Held(), RecordingDispatch()
    held.release.set()
    services, recorder = await warm(store, held, queue)
    held.release.clear()
    first = await begun(services, "talk")
    recorder.reset()
    second = await begun(services, "talk")
    assert recorder.rounds == 2
    recorder.reset()
    held.release.set()
    await first.finished()
    # the commit that conflicts with the queue; the lease; the session; the run that waits; settling, and promoting it
    assert recorder.rounds == 1 + 4
    recorder.reset()
    (task,) = queue.taken()
    await perform(services, task)
    assert recorder.rounds == 4
    assert (await second.result()).message.text == "done"


async def test_handing_a_run_on_takes_one_and_going_on_four(store: Store):
    held, queue = Held(), RecordingDispatch()
    held.release.set()
    services, recorder = await warm(store, held, queue)
    held.release.clear()
    held.entered.clear()
    watch = await begun(services, "talk")
    await held.entered.wait()
    assert watch.handle is not None
    recorder.reset()
    for running in services.tasks:
        running.cancel()
    await watch.handle.finished()
    assert recorder.rounds == 1
    recorder.reset()
    held.release.set()
    (task,) = queue.taken()
    await perform(services, task)
    assert recorder.rounds == 4
    assert (await watch.result()).message.text == "done"
