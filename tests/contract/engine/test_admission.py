"""Admission: who gets a session, a slot and an instance, and what a used key means."""

import asyncio

import pytest
from tests.support.engine import ALICE, BOB, applied, engine, manifest
from tests.support.runs import PATHS, Held, at_rest, chat
from tests.support.stores import UnreliableStore

from goagents.engine import clusters, runs, sessions
from goagents.engine.watching import Watch
from goagents.errors import (
    Conflict,
    LimitExceeded,
    NotFound,
    SessionBusy,
)
from goagents.resources import ChatRequest
from goagents.store.base import Delete, Merge, Query, Store


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
    request = ChatRequest(message="hi", session_id="talk", session_policy="reject")
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

    async def again(message: ChatRequest = request, key: str = "k1") -> Watch:
        return await runs.start(services, ALICE, "support.helper", message, kind="chat", idempotency_key=key)

    first = await again()
    await held.entered.wait()
    assert (await again()).run_id == first.run_id
    with pytest.raises(Conflict, match="another request"):
        await again(ChatRequest(message="ho", session_id="talk"))
    queued = await again(key="k2")  # behind the first one of its session, which takes no place either
    with pytest.raises(LimitExceeded):
        await again(ChatRequest(message="hi", session_id="other"), key="k3")
    held.release.set()
    assert (await queued.result()).message.text == "done"
    await first.finished()
    await at_rest(services, "talk")


async def test_the_key_of_a_run_whose_process_died_goes_on_with_it(store: Store):
    held, cable = Held(), UnreliableStore(store)
    dying = engine(cable, held, lease_ttl=0.3)
    await applied(dying)
    request = ChatRequest(message="hi", session_id="talk")
    handle = await runs.start(dying, ALICE, "support.helper", request, kind="chat", idempotency_key="k1")
    await held.entered.wait()
    cable.unplugged = True
    other = engine(store)
    answer = await chat(other, "hi", "talk", idempotency_key="k1")
    assert (answer.message.text, answer.run_id) == ("hello", handle.run_id)
    assert (await sessions.get_session(other, ALICE, "talk")).messages == 2
    await at_rest(other, "talk")
    held.release.set()
    cable.unplugged = False
    await handle.finished()
    assert (await sessions.get_session(other, ALICE, "talk")).messages == 2


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
