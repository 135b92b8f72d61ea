"""Deleting clusters and sessions: while runs are admitted, while others delete them too, and where processes die."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.support.durable import LONG_AGO, Answering, Between, Shop, call, process, say, shop_cluster, work
from tests.support.engine import ALICE, Engine, applied
from tests.support.runs import PATHS, Held, chat, conversation
from tests.support.stores import UnreliableStore

from goagents.clock import SystemClock
from goagents.dispatch.base import Task
from goagents.engine import clusters, controls, runs, sessions
from goagents.engine.deletion import BATCH, SETTLING
from goagents.engine.recovery.pointers import DELETING
from goagents.engine.recovery.sweep import sweep
from goagents.engine.recovery.worker import perform
from goagents.errors import Conflict, NotFound, StoreUnavailable
from goagents.records import MessageRecord
from goagents.resources import Decision
from goagents.store.base import Delete, Merge, Put, Query, Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.kill_points import Boundary
from goagents.testing.models import ScriptedModel
from goagents.testing.stores import PassingStore

CLUSTER = PATHS.cluster("default", "support")
PLACES = [PATHS.slots("default", "support"), PATHS.instances("default", "support")]


class Unhurried(SystemClock):
    """For it an admission takes no time, as for a process that dies before it can look back."""

    def monotonic(self) -> float:
        return 0.0


class Pausing(SystemClock):
    """Tells when a deletion pauses before its second look."""

    def __init__(self) -> None:
        self.paused = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if seconds > SETTLING / 2:
            self.paused.set()
        await super().sleep(seconds)


class Dying(PassingStore):
    """After `commits` commits that are about `path` nothing gets through."""

    def __init__(self, store: Store, path: str, commits: int) -> None:
        super().__init__(store)
        self.path, self.left = path, commits

    async def around(self, method: str, subject: Any, work: Callable[[], Awaitable[Any]]) -> Any:
        if self.left <= 0:
            raise StoreUnavailable("The process is dead.")
        found = await work()
        if method == "commit" and any(write.path == self.path for write in subject):
            self.left -= 1
        return found


async def delete(services: Engine) -> None:
    await clusters.delete_cluster(services, ALICE, "default", "support")


async def left(store: Store, *more: str) -> list[str]:
    collections = [PATHS.runs(), PATHS.sessions(), PATHS.messages("talk"), *more]
    return [document.path for one in collections for document in (await store.query(Query(one))).documents]


async def orphan(store: Store, queue: RecordingDispatch, model: Any = None) -> tuple[Engine, str]:
    """Return a process that knows a cluster, and a run that was admitted to it after it was deleted."""
    other = process(store)
    services = process(Between(store, Boundary.ADMISSION, lambda: delete(other)), model or Answering(), dispatch=queue)
    services.clock = Unhurried()
    await applied(services)
    watch = await say(services, kind="background")
    assert await left(store)
    services.clock = SystemClock()
    return services, watch.run_id


@pytest.mark.parametrize("kind", ["chat", "background"])
async def test_a_run_that_is_admitted_while_its_cluster_is_deleted_goes_with_it(store: Store, kind: str):
    other, queue, held = process(store), RecordingDispatch(), Held()
    other.clock = clock = Pausing()
    deleting: list[asyncio.Task[None]] = []

    async def begin() -> None:
        deleting.append(asyncio.create_task(delete(other)))
        await asyncio.wait_for(clock.paused.wait(), 60)  # it has looked once, and found nothing

    services = process(Between(store, Boundary.ADMISSION, begin), held, dispatch=queue)
    await applied(services)
    watch = await say(services, kind=kind)
    assert watch.run_id in " ".join(await left(store))
    await asyncio.wait_for(deleting[0], 60)
    assert await left(store, *PLACES) == []
    held.release.set()
    await asyncio.gather(*services.tasks)
    await work(services, queue)
    assert await left(store, *PLACES) == []
    with pytest.raises(NotFound):
        await runs.get_run(services, ALICE, watch.run_id)
    await applied(services)
    assert (await chat(services, "hi", "talk")).message.text == "done"


@pytest.mark.parametrize("kind", ["chat", "background"])
async def test_an_admission_that_took_longer_than_the_deletion_finds_out_itself(store: Store, kind: str):
    other, queue, model = process(store), RecordingDispatch(), Answering()
    services = process(Between(store, Boundary.ADMISSION, lambda: delete(other)), model, dispatch=queue)
    await applied(services)
    with pytest.raises(NotFound, match="no cluster 'support'"):
        await say(services, kind=kind)
    assert (model.asked, queue.tasks, services.handles) == ([], [], {})
    assert await left(store) == []
    await sweep(process(store))
    assert await left(store, *PLACES) == []
    await applied(services)
    for _ in range(5):  # all the places there are
        assert (await chat(services)).message.text == "re: hi"


async def test_a_run_of_a_deleted_cluster_is_not_executed_and_the_sweeper_deletes_it(store: Store):
    queue, model = RecordingDispatch(), Answering()
    services, run_id = await orphan(store, queue, model)
    await work(services, queue)
    with pytest.raises(NotFound):
        await controls.cancel(services, ALICE, run_id)
    assert model.asked == []
    await sweep(services)
    assert await left(store, *PLACES) == []
    (deletion,) = (await store.query(Query(PATHS.deletions()))).documents
    await store.commit([Merge(deletion.path, {"deleted_at": LONG_AGO})])
    await sweep(services)
    assert (await store.query(Query(PATHS.deletions()))).documents == ()


async def test_the_sweeper_leaves_a_cluster_alone_that_was_made_anew(store: Store):
    model = Answering("wait")
    services, run_id = await orphan(store, RecordingDispatch(), model)
    await applied(services)
    watch = await say(services, "wait", "another")
    await sweep(process(store))
    assert run_id not in " ".join(await left(store))
    held = [d.data["run"] for one in PLACES for d in (await store.query(Query(one))).documents]
    assert held == [watch.run_id, watch.run_id]
    model.release()
    assert (await watch.result()).message.text == "re: wait"


async def test_what_waits_for_a_person_in_a_deleted_cluster_cannot_be_approved(store: Store):
    queue, shop = RecordingDispatch(), Shop()
    services = process(store, ScriptedModel({"tool_calls": [call("refund")]}, "done"), shop, queue)
    await applied(services, shop_cluster(approval="unsafe"))
    watch = await say(services)
    await watch.answer()
    await store.commit([Delete(CLUSTER)])  # as it is for a run that came too late
    with pytest.raises(NotFound):
        await controls.approve(services, ALICE, watch.run_id, [Decision(decision="allow")])
    await perform(services, Task("run", "default", watch.run_id, "t"))
    assert shop.calls("refund") == []


async def test_a_cluster_whose_deletion_was_cut_short_is_deleted_by_the_sweeper(store: Store):
    services = process(store, Answering())
    await applied(services)
    await chat(services, "hi", "talk")
    with pytest.raises(StoreUnavailable):
        await delete(process(Dying(store, CLUSTER, 1)))
    with pytest.raises(Conflict, match="being deleted"):
        await applied(services)
    assert await left(store)
    await sweep(services)
    assert await left(store, *PLACES, PATHS.clusters(), PATHS.generations("default", "support")) == []
    await applied(services)
    assert (await chat(services, "hi", "talk")).message.text == "re: hi"


async def test_several_delete_a_cluster_at_once(store: Store):
    services = process(store)
    await applied(services)
    for n in range(3):
        await chat(services, "hi", f"talk-{n}")
    ends = await asyncio.gather(*(delete(process(store)) for _ in range(3)), return_exceptions=True)
    assert {type(end) for end in ends} <= {type(None), NotFound}
    assert None in ends
    assert await left(store, *PLACES, PATHS.clusters()) == []


async def long_session(services: Engine) -> None:
    """Make a session whose messages are more than one commit deletes."""
    await applied(services)
    await chat(services, "hi", "talk")
    path = PATHS.session("talk")
    session = (await services.store.get_many([path])).documents[path]
    more = [
        MessageRecord(
            seq=n,
            run="run_1",
            agent="helper",
            message={"role": "user", "parts": [{"type": "text", "text": "x"}]},
            created_at=session.data["created_at"],
        )
        for n in range(3, BATCH + 10)
    ]
    for start in range(0, len(more), BATCH):
        part = more[start : start + BATCH]
        await services.store.commit([Put(PATHS.message("talk", one.seq), one.data()) for one in part])
    await services.store.commit([Merge(path, {"head": more[-1].seq})])


async def test_a_session_whose_deletion_was_cut_short_is_deleted_by_the_sweeper(store: Store):
    services = process(store, Answering())
    await long_session(services)
    with pytest.raises(StoreUnavailable):
        await sessions.delete_session(process(Dying(store, PATHS.session("talk"), 1)), ALICE, "talk")
    with pytest.raises(Conflict, match="being deleted"):
        await chat(services, "hi", "talk")
    await sweep(services)
    assert (await store.query(Query(PATHS.messages("talk")))).documents == ()
    with pytest.raises(NotFound):
        await sessions.get_session(services, ALICE, "talk")
    assert (await chat(services, "anew", "talk")).message.text == "re: anew"


async def test_a_session_that_an_older_version_left_half_deleted(store: Store):
    services = process(store, Answering())
    await applied(services)
    await chat(services, "hi", "talk")
    await store.commit([Merge(PATHS.session("talk"), {"active_run": DELETING})])
    await sweep(services)
    assert (await chat(services, "anew", "talk")).message.text == "re: anew"
    assert [message.text for message in await conversation(services, "talk")] == ["anew", "re: anew"]


async def test_who_comes_late_deletes_no_session_that_was_made_anew(store: Store):
    services = process(store, Answering())
    await applied(services)
    await chat(services, "hi", "talk")
    await store.commit([Merge(PATHS.session("talk"), {"active_run": DELETING})])
    done = False

    class Late(PassingStore):
        """Whoever deletes the session's messages comes after somebody else has, and after a first message."""

        async def around(self, method: str, subject: Any, work: Callable[[], Awaitable[Any]]) -> Any:
            nonlocal done
            if method == "commit" and not done and any(write.path == PATHS.message("talk", 1) for write in subject):
                done = True
                await sessions.delete_session(services, ALICE, "talk")
                await chat(services, "anew", "talk")
            return await work()

    await sweep(process(Late(store)))
    assert done
    assert [message.text for message in await conversation(services, "talk")] == ["anew", "re: anew"]


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_deletion_whose_answers_are_lost_has_taken_place(store: Store, lost: int):
    services = process(store)
    await applied(services)
    await chat(services, "hi", "talk")
    unreliable = UnreliableStore(store)
    other = process(unreliable)
    unreliable.lose_answers = 1
    await sessions.delete_session(other, ALICE, "talk")
    with pytest.raises(NotFound):
        await sessions.delete_session(services, ALICE, "talk")
    unreliable.lose_answers = lost
    await delete(other)
    with pytest.raises(NotFound):
        await delete(services)
    assert await left(store, *PLACES) == []
