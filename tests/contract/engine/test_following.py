"""Following a run: from any place, on any process, through any number of attempts; nothing missing, nothing twice."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from tests.support.durable import (
    TALE,
    Shop,
    assert_whole,
    dies,
    follow,
    holding,
    killed,
    lapse,
    process,
    record,
    say,
    shop_cluster,
    told,
    work,
)
from tests.support.engine import ALICE, BOB, Engine, applied
from tests.support.runs import PATHS, Held, Talkative, at_rest
from tests.support.stores import UnreliableStore

from goagents.access.principal import Principal
from goagents.engine import controls, runs
from goagents.engine.deletion import delete_collection
from goagents.engine.execution.handle import batch_write
from goagents.engine.recovery.sweep import sweep
from goagents.engine.recovery.worker import perform
from goagents.engine.watching import START
from goagents.errors import Invalid, NotFound
from goagents.events import TERMINAL_EVENTS, Cursor, RunEvent
from goagents.messages import Message, TextPart, Usage
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, TextDelta
from goagents.resources import Decision
from goagents.store.base import Merge, Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.kill_points import KillPoint


async def two_attempts(store: Store) -> tuple[Engine, str]:
    """A run over two attempts, the first of which was cut short after its first tools."""
    shop, queue = Shop(), RecordingDispatch()
    services = process(store, TALE, shop, queue)
    await applied(services, shop_cluster())
    run_id = await dies(services, KillPoint.BEFORE_MODEL_RESULT, 2)
    await sweep(services)
    await work(services, queue)
    return services, run_id


async def test_a_run_is_replayed_from_its_start(store: Store):
    shop = Shop()
    services = process(store, TALE, shop)
    await applied(services, shop_cluster())
    watch = await say(services)
    live = await told(watch)
    assert_whole(live)
    for one in (services, process(store, TALE, shop)):
        assert await follow(one, watch.run_id) == live
    tools = [event for event in live if event.type.startswith("tool.")]
    assert [event.data["call_id"] for event in tools if event.type == "tool.started"] == ["call_1", "call_2", "call_3"]
    assert {event.data["output"] for event in tools if event.type == "tool.finished"} == {
        "look 1", "reserve 2", "look 3",
    }  # fmt: skip


async def test_a_run_is_replayed_from_every_place(store: Store):
    services, run_id = await two_attempts(store)
    whole = await follow(services, run_id)
    assert_whole(whole)
    assert {event.attempt for event in whole} == {1, 2}
    for event in whole[:-1]:
        rest = await follow(services, run_id, event.cursor)
        assert rest == [one for one in whole if one.cursor > event.cursor]
    text = "".join(event.data["text"] for event in holding(whole) if event.type == "message.delta")
    assert text == whole[-1].data["message"]["parts"][0]["text"] == "the answer, in several pieces"
    assert [event.type for event in holding(whole)].count("message.completed") == 3


async def test_who_has_seen_the_end_hears_nothing_more(store: Store):
    services, run_id = await two_attempts(store)
    last = (await follow(services, run_id))[-1]
    assert await follow(services, run_id, last.cursor) == []
    assert await follow(process(store), run_id, last.cursor) == []
    assert await follow(services, run_id, Cursor(last.attempt, last.seq + 100)) == []


async def test_a_place_that_a_later_attempt_made_void(store: Store):
    """Whoever saw what was lost is told where to go back to, whatever of it the store has kept."""
    shop, queue = Shop(), RecordingDispatch()
    services = process(store, TALE, shop, queue)
    await applied(services, shop_cluster())
    run_id = await dies(services, KillPoint.AFTER_MODEL_RESULT)
    held = (await record(store, run_id)).event
    assert held == "1-2"
    await sweep(services)
    await work(services, queue)
    for seq in (2, 3, 7):
        rest = await follow(services, run_id, Cursor(1, seq))
        assert (rest[0].id, rest[0].type, rest[0].data["resumed_after"]) == ("2-1", "attempt", held)
        assert_whole(rest, Cursor(1, seq))


async def test_what_was_said_and_lost_is_void(store: Store):
    """A first attempt whose words got as far as the store, and whose process died before they were a step."""
    queue = RecordingDispatch()
    talkative = Talkative("of no consequence", 3)
    services = process(store, talkative, dispatch=queue, runs={"poll_interval": "10ms"})
    await applied(services)

    class Stuck(Held):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
            yield TextDelta("half an ")
            self.entered.set()
            await self.release.wait()
            yield ModelResponse(Message("assistant", (TextPart("half an answer"),)), "end_turn", Usage(), "m")

    cable, stuck = UnreliableStore(store), Stuck()
    dying = process(cable, stuck, dispatch=queue, runs={"poll_interval": "10ms"})
    watch = await say(dying)
    follower = await runs.watch(services, ALICE, watch.run_id)
    seen: list[RunEvent] = []
    async for event in follower.events():
        seen.append(event)
        if event.type == "message.delta":
            break
    assert [event.type for event in seen] == ["run.started", "message.delta"]
    cable.unplugged = True
    await lapse(store, watch.run_id)
    await sweep(services)
    await work(services, queue)
    rest = await follow(services, watch.run_id, seen[-1].cursor)
    assert_whole([*seen, *rest])
    assert rest[0].data["resumed_after"] is None
    fresh = await follow(services, watch.run_id)
    for events in ([*seen, *rest], fresh):
        text = "".join(event.data["text"] for event in holding(events) if event.type == "message.delta")
        assert text == "of no consequence"
    stuck.release.set()
    cable.unplugged = False
    await dying.handles[watch.run_id].finished()
    assert await follow(services, watch.run_id) == fresh


@pytest.mark.parametrize("here", [True, False])
async def test_a_run_is_followed_live(store: Store, here: bool):
    class Paced(Held):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
            for n in range(5):
                yield TextDelta(f"{n} ")
                self.entered.set()
                await self.release.wait()
                self.release.clear()
            yield ModelResponse(Message("assistant", (TextPart("0 1 2 3 4 "),)), "end_turn", Usage(), "m")

    model = Paced()
    services = process(store, model, runs={"poll_interval": "10ms"})
    await applied(services)
    watch = await say(services)
    other = services if here else process(store, model)
    heard: list[RunEvent] = []
    async with asyncio.timeout(60):
        async for event in (await runs.watch(other, ALICE, watch.run_id)).events():
            heard.append(event)
            if event.type == "message.delta":
                assert (await record(store, watch.run_id)).status == "running"
                model.release.set()
    assert_whole(heard)
    assert "".join(event.data["text"] for event in heard if event.type == "message.delta") == "0 1 2 3 4 "
    assert await told(watch) == heard


async def test_many_followers_on_two_processes_through_a_death(store: Store):
    """They come at all times, some twice, and each hears all of it."""
    shop, queue = Shop(), RecordingDispatch()
    services, other = (process(store, TALE, shop, queue) for _ in range(2))
    await applied(services, shop_cluster())

    async def reconnecting(one: Sequence[Engine], stop_after: int) -> list[RunEvent]:
        heard: list[RunEvent] = []
        turn = 0
        while not heard or heard[-1].type not in TERMINAL_EVENTS:
            watch = await runs.watch(one[turn % len(one)], ALICE, run_id)
            turn += 1
            count = 0
            async for event in watch.events(heard[-1].cursor if heard else START):
                heard.append(event)
                count += 1
                if count == stop_after:
                    break
        return heard

    run_id = await dies(services, KillPoint.AFTER_MODEL_RESULT, 2)
    async with asyncio.timeout(60):
        followers = [
            asyncio.create_task(reconnecting(order, stop))
            for order in ([services, other], [other, services], [other])
            for stop in (1, 3, 1000)
        ]
        heard = await asyncio.gather(*followers)
    for events in heard:
        assert_whole(events)
        assert [event.data for event in holding(events) if event.type == "message.completed"] == [
            event.data for event in holding(heard[0]) if event.type == "message.completed"
        ]
    run = await record(store, run_id)
    assert (run.status, run.attempt) == ("succeeded", 2)
    await at_rest(services, "talk")


async def test_a_queued_run_is_followed_from_before_its_turn(store: Store):
    queue, held = RecordingDispatch(), Held()
    services = process(store, held, dispatch=queue)
    await applied(services)
    first = await say(services)
    second = await say(services, "two")
    following = asyncio.create_task(follow(process(store), second.run_id))
    await asyncio.sleep(0.1)
    assert not following.done()
    held.release.set()
    await first.finished()
    await work(services, queue)
    events = await following
    assert [(event.id, event.type) for event in events[:3]] == [
        ("0-1", "run.queued"), ("1-1", "run.started"), ("1-2", "message.delta"),
    ]  # fmt: skip
    assert_whole([RunEvent("run.queued", {}, 0, 1), *events[1:]], START)
    assert await follow(services, second.run_id, Cursor(0, 1)) == events[1:]


async def test_a_run_that_was_never_begun_ends_for_its_followers_too(store: Store):
    held = Held()
    services = process(store, held)
    await applied(services)
    await say(services)
    second = await say(services, "two")
    following = asyncio.create_task(follow(process(store), second.run_id))
    await asyncio.sleep(0.1)
    await controls.cancel(services, ALICE, second.run_id, "no more")
    events = await following
    assert [event.type for event in holding(events)][-1] == "run.cancelled"
    assert events[-1].data["error"]["detail"] == "The run was cancelled: no more"
    assert [event.type for event in await follow(services, second.run_id)][-1] == "run.cancelled"
    assert await follow(services, second.run_id, events[-1].cursor) == []


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
async def test_the_end_is_told_where_the_events_are_gone(store: Store, status: str):
    held = Held()
    script = [{"fail": "provider_overloaded"}] if status == "failed" else [{"text": "hello"}]
    services = process(store, held if status == "cancelled" else script)
    await applied(services)
    watch = await say(services)
    if status == "cancelled":
        await controls.cancel(services, ALICE, watch.run_id, "enough")
    await watch.finished()
    whole = await follow(services, watch.run_id)
    await delete_collection(store, PATHS.events(watch.run_id))
    for after in (START, Cursor(1, 1), whole[-2].cursor):
        (last,) = await follow(services, watch.run_id, after)
        assert (last.type, last.data) == (whole[-1].type, whole[-1].data)
        assert last.cursor > after
        assert await follow(services, watch.run_id, last.cursor) == []


async def test_runs_of_others_are_not_there(store: Store):
    services = process(store)
    await applied(services)
    watch = await say(services)
    await watch.finished()
    for principal in (BOB, Principal("alice", "other")):
        for ask in (
            runs.watch(services, principal, watch.run_id),
            runs.get_run(services, principal, watch.run_id),
            controls.cancel(services, principal, watch.run_id),
            controls.approve(services, principal, watch.run_id, [Decision(decision="allow")]),
        ):
            with pytest.raises(NotFound):
                await ask
    with pytest.raises(NotFound):
        await runs.watch(services, ALICE, "run_of_nobody")


async def test_a_long_run_is_replayed_over_many_pages(store: Store):
    services = process(store)
    await applied(services)
    watch = await say(services)
    first, *_, last = await told(watch)
    said = [RunEvent("message.delta", {"text": f"{n} "}, 1, n + 2) for n in range(400)]
    whole = [first, *said, RunEvent(last.type, last.data, 1, len(said) + 2)]
    run = await record(store, watch.run_id)
    batches = [batch_write(PATHS, run.id, whole[n : n + 3], run.expire_at) for n in range(0, len(whole), 3)]
    await delete_collection(store, PATHS.events(run.id))
    await store.commit([*batches, Merge(PATHS.run(run.id), {"event": whole[-1].id})])
    assert await follow(services, run.id) == whole
    for place in (1, 2, 150, 151, 152, 300, 401):
        assert await follow(services, run.id, Cursor(1, place)) == whole[place:]


async def test_attempts_of_which_nothing_holds_are_left_out(store: Store):
    """Three deaths in a row, before anything was a step."""
    shop, queue = Shop(), RecordingDispatch()
    services = process(store, TALE, shop, queue)
    await applied(services, shop_cluster())
    run_id = await dies(services, KillPoint.BEFORE_MODEL_RESULT)
    for _ in range(2):
        await sweep(services)
        (task,) = queue.taken()
        await killed(services, KillPoint.AFTER_TAKEOVER, lambda dying, task=task: perform(dying, task))  # type: ignore[misc] # of the default
        await lapse(store, run_id)
    await sweep(services)
    await work(services, queue)
    events = await follow(services, run_id)
    assert_whole(events)
    assert (events[0].id, events[0].type, events[0].data["resumed_after"]) == ("4-1", "attempt", None)
    seen = await follow(services, run_id, Cursor(2, 1))
    assert [event.id for event in seen if event.type == "attempt"] == ["4-1"]


@pytest.mark.parametrize("after", ["3-1", "1-900", "999999999-1"])
async def test_an_event_that_a_run_cannot_have_is_told(store: Store, after: str):
    services = process(store)
    await applied(services)
    watch = await say(services)
    await watch.answer()
    with pytest.raises(Invalid, match=f"{after} is no event of the run {watch.run_id}"):
        await runs.watch(services, ALICE, watch.run_id, Cursor.parse(after))


async def test_an_event_that_was_shown_and_not_recorded_is_none_of_those(store: Store):
    """Its process died with it; the run, in its first attempt as far as the store knows, goes on."""
    services = process(store, TALE, Shop())
    await applied(services, shop_cluster())
    run_id = await dies(services, KillPoint.AFTER_ADMISSION)
    watch = await runs.watch(services, ALICE, run_id, Cursor(1, 500))
    assert watch.run_id == run_id
