"""Whatever happens to process, store or answer, a run ends once and holds nothing afterwards."""

import asyncio

import pytest
from tests.support.engine import ALICE, applied, engine, manifest, scripted
from tests.support.runs import CALLS, PATHS, Held, Talkative, at_rest, chat, conversation
from tests.support.stores import SlowStore, UnreliableStore

from goagents.engine import runs, sessions
from goagents.engine.recovery.worker import perform
from goagents.errors import (
    DocumentTooLarge,
    SessionBusy,
)
from goagents.records import RunRecord
from goagents.resources import ChatRequest, Run
from goagents.store.base import Query, Store
from goagents.testing.dispatch import RecordingDispatch


async def test_a_lease_outlasts_a_store_that_stays_away_for_a_while(store: Store):
    held, cable = Held(), UnreliableStore(store)
    services = engine(cable, held, lease_ttl=0.3)
    await applied(services)
    request = ChatRequest(message="hi", session_id="talk")
    cable.refuse_renewals = 6  # all that one renewal tries
    handle = await runs.start(services, ALICE, "support.helper", request, kind="chat")
    lease = PATHS.lease(handle.run_id)
    first = (await store.get_many([lease])).documents[lease].data["renewed_at"]
    await asyncio.wait_for(cable.renewed.wait(), 60)
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


async def test_a_process_asked_to_stop_hands_its_runs_on(store: Store):
    held, queue = Held(), RecordingDispatch()
    services = engine(store, held, dispatch=queue)
    await applied(services)
    request = ChatRequest(message="hi", session_id="talk")
    watch = await runs.start(services, ALICE, "support.helper", request, kind="chat")
    await held.entered.wait()
    for task in services.tasks:
        task.cancel()
    left = await watch.answer()
    assert isinstance(left, Run)
    assert (left.status, left.attempt) == ("handed_off", 1)
    (task_of_it,) = queue.tasks
    other = engine(store)
    await perform(other, task_of_it)
    assert (await watch.result()).message.text == "hello"
    assert [m.text for m in await conversation(other, "talk")] == ["hi", "hello"]
    await at_rest(other, "talk")


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
    assert run.usage is not None
    assert (run.usage["input_tokens"], run.usage["output_tokens"]) == (1, 1)  # paid for all the same


async def test_a_process_asked_to_stop_while_it_settles_settles(store: Store):
    slow = SlowStore(store)
    services = engine(slow)
    await applied(services)
    request = ChatRequest(message="hi", session_id="talk")
    handle = await runs.start(services, ALICE, "support.helper", request, kind="chat")
    slow.blocked.clear()
    await asyncio.wait_for(slow.waiting.wait(), 60)
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
    await asyncio.sleep(0.35)
    assert (await chat(other, "are you there?", "talk")).message.text == "hello"
    cable.unplugged = False
    held.release.set()
    assert (await handle.result()).message.text == "hello"  # not what the process said that had lost it
    assert [m.text for m in await conversation(other, "talk")] == ["hi", "hello", "are you there?", "hello"]
    run = RunRecord.of((await store.get_many([PATHS.run(handle.run_id)])).documents[PATHS.run(handle.run_id)].data)
    assert (run.status, run.attempt) == ("succeeded", 2)
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
