"""Two versions on one store: what an older one left is gone on with, and what a newer one knows is not lost."""

from typing import Any

import pytest
from tests.support.durable import (
    Answering,
    Shop,
    call,
    calling,
    counts,
    dies,
    killed,
    lapse,
    process,
    record,
    results,
    say,
    shop_cluster,
    told,
    work,
)
from tests.support.engine import ALICE, Engine, applied
from tests.support.runs import PATHS, at_rest, chat, conversation
from tests.support.versions import NewerStore, left_by, recorded_versions, without_newer

from goagents.engine import clusters, controls, logs, runs, sessions
from goagents.engine.recovery.sweep import sweep
from goagents.engine.recovery.worker import perform
from goagents.engine.services import Services
from goagents.engine.summary import metrics_summary
from goagents.errors import NotFound, ProviderOverloaded
from goagents.messages import MESSAGE, Message, TextPart
from goagents.store.base import Merge, Query, Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.kill_points import KillPoint
from goagents.testing.webhooks import RecordingWebhooks

VERSIONS = pytest.mark.parametrize("version", recorded_versions())
TALK = calling([call("look", 1), call("reserve", 2)])


@VERSIONS
async def test_what_an_older_version_left_can_be_read(store: Store, version: str):
    services, left = process(store), await left_by(version, store)
    cluster = await clusters.get_cluster(services, ALICE, "default", "support")
    assert [(agent.name, agent.kept_instances) for agent in cluster.agents] == [("helper", 1)]
    page = await runs.list_runs(services, ALICE, 10, None, cluster=("default", "support"))
    by_session = {run.session_id: run.status for run in page.items}
    assert by_session == {"rest": "succeeded", "failed": "failed", "asking": "running", "calling": "running"}
    looked = await runs.get_run(services, ALICE, left["rest"])
    assert [step.kind for step in looked.steps or []] == ["model", "tools"]
    assert [message.role for message in await conversation(services, "rest")] == [
        "user", "assistant", "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    log = await logs.list_logs(services, ALICE, "default", "support", 10, None)
    assert {entry.kind for entry in log.items} == {"run", "model", "tools", "finished"}
    day = await metrics_summary(services, ALICE)
    assert (day.total.succeeded, day.total.failed, day.total.tool_calls) == (2, 1, 1)


@VERSIONS
async def test_its_sessions_go_on_and_its_keys_hold(store: Store, version: str):
    model = Answering()
    services, left = process(store, model), await left_by(version, store)
    assert (await chat(services, "and now?", "rest")).message.text == "re: and now?"
    said = [message.text for message in model.asked[0].messages if message.text]
    assert said == ["hi", "re: hi", "look", "looked", "and now?"]
    assert (await sessions.get_session(services, ALICE, "rest")).messages == 8
    # an answered request that is repeated gets its answer, and asks nobody
    again = await say(services, "hi", "rest", key="k1")
    assert (await again.result()).message.text == "re: hi"
    failed = await say(services, "fail", "failed", key="k2")
    assert failed.run_id == left["failed"]
    with pytest.raises(ProviderOverloaded):
        await failed.result()
    assert len(model.asked) == 1


@VERSIONS
async def test_runs_that_its_process_left_behind_are_gone_on_with(store: Store, version: str):
    queue, shop, model = RecordingDispatch(), Shop(), Answering()
    services, left = process(store, model, shop, queue), await left_by(version, store)
    assert (await sweep(services)).redispatched == 0  # its leases are respected
    for session in ("asking", "calling"):
        await store.commit([Merge(PATHS.lease(left[session]), {"ttl": 0.0})])
    assert (await sweep(services)).redispatched == 2
    await work(services, queue)
    assert (await record(store, left["asking"])).status == "succeeded"
    assert (await record(store, left["calling"])).status == "succeeded"
    assert [message.text for message in await conversation(services, "asking")] == ["ask", "re: ask"]
    # it may have called the tool, whose effect it did not write down
    assert counts(shop) == [0, 0, 0]
    assert [(part.name, part.unknown) for part in results(await conversation(services, "calling"))] == [
        ("refund", True)
    ]
    events = await told(await runs.watch(services, ALICE, left["asking"]))
    assert [event.type for event in events][-1] == "run.completed"
    await at_rest(services, "asking")
    await at_rest(services, "calling")


@VERSIONS
async def test_its_cluster_is_replaced_scaled_and_deleted(store: Store, version: str):
    services, left = process(store), await left_by(version, store)
    await applied(services, shop_cluster())
    cluster = await clusters.get_cluster(services, ALICE, "default", "support")
    assert cluster.generation == 1  # the same content is the same cluster
    await applied(services, shop_cluster(approval="unsafe"))
    cluster = await clusters.get_cluster(services, ALICE, "default", "support")
    assert (cluster.generation, cluster.agents[0].kept_instances) == (2, 1)
    await clusters.delete_cluster(services, ALICE, "default", "support")
    with pytest.raises(NotFound):
        await clusters.get_cluster(services, ALICE, "default", "support")
    with pytest.raises(NotFound):
        await runs.get_run(services, ALICE, left["rest"])


def side_by_side(store: Store, model: Any, **config: Any) -> tuple[Engine, Engine, NewerStore, RecordingDispatch]:
    """Return a process of this version, one of a newer version, the latter's store, and the queue of both."""
    queue, shop, newer = RecordingDispatch(), Shop(), NewerStore(store)
    ours = process(store, model, shop, queue, **config)
    return ours, process(newer, model, shop, queue, **config), newer, queue


async def lost(store: Store, newer: NewerStore) -> set[str]:
    """Return the collections of the documents that lost what the newer version knows of them."""
    return {path.split("/")[-2] for path in await without_newer(store, newer.written)}


async def test_a_session_that_both_versions_serve(store: Store):
    ours, theirs, newer, _ = side_by_side(store, TALK)
    await applied(theirs, shop_cluster())
    for services in (theirs, ours, theirs, ours):
        assert (await chat(services, "do it", "talk")).message.text == "done"
    assert len(await conversation(ours, "talk")) == len(await conversation(theirs, "talk")) == 16
    assert len({run.id for run in (await runs.list_runs(ours, ALICE, 10, None)).items}) == 4
    assert await lost(store, newer) == set()
    await at_rest(ours, "talk")


@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_a_run_that_dies_with_one_version_goes_on_with_the_other(store: Store, first: str):
    ours, theirs, newer, queue = side_by_side(store, TALK)
    await applied(theirs, shop_cluster())
    dying, other = (ours, theirs) if first == "ours" else (theirs, ours)
    run_id = await dies(dying, KillPoint.BEFORE_RESULTS)
    await sweep(other)
    await work(other, queue)
    assert (await record(store, run_id)).status == "succeeded"
    # a lease is of the process that has it: a newer version must not need what it said in one
    assert await lost(store, newer) <= {"lease"}
    await at_rest(other, "talk")


async def test_a_run_that_waits_with_a_newer_version_is_decided_and_gone_on_with(store: Store):
    ours, theirs, newer, queue = side_by_side(store, calling([call("refund", 1)]))
    await applied(theirs, shop_cluster(approval="unsafe"))
    watch = await say(theirs)
    assert (await watch.answer()).status == "waiting"  # type: ignore[union-attr] # a Run, then
    await controls.approve(ours, ALICE, watch.run_id, [controls.Decision(decision="allow")])
    await work(ours, queue)
    assert (await record(store, watch.run_id)).status == "succeeded"
    assert await lost(store, newer) <= {"lease"}


async def test_runs_that_wait_in_a_session_are_promoted_by_the_other_version(store: Store):
    model = Answering("first")
    ours, theirs, newer, queue = side_by_side(store, model)
    await applied(theirs)
    first = await say(ours, "first")
    await model.entered.wait()
    second, third = await say(theirs, "second"), await say(theirs, "third", policy="interrupt")
    await first.finished()
    assert await work(theirs, queue) == 2
    statuses = [(await record(store, watch.run_id)).status for watch in (first, third, second)]
    assert statuses == ["cancelled", "succeeded", "succeeded"]
    assert await lost(store, newer) <= {"lease"}
    await at_rest(ours, "talk")


async def test_a_cluster_of_a_newer_version_is_scaled_and_replaced(store: Store):
    ours, theirs, newer, _ = side_by_side(store, TALK)
    await applied(theirs, shop_cluster())
    await clusters.scale(ours, ALICE, "default", "support", "helper", 2)
    assert await lost(store, newer) == set()
    await applied(ours, shop_cluster(approval="unsafe"))
    assert await lost(store, newer) == set()


async def test_a_webhook_of_a_newer_version_is_delivered(store: Store):
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    ours, theirs, newer, queue = side_by_side(store, Answering(), webhooks={"secrets": [secret]})
    await applied(theirs)
    watch = await say(theirs, kind="background", webhook="https://hooks.example.com/run")
    (task,) = queue.taken()
    await perform(theirs, task)
    assert await work(ours, queue) == 1
    assert isinstance(ours.webhooks, RecordingWebhooks)
    assert len(ours.webhooks.deliveries) == 1
    assert (await record(store, watch.run_id)).status == "succeeded"
    assert await lost(store, newer) <= {"lease"}


async def test_an_event_of_a_newer_version_is_passed_on(store: Store):
    ours, theirs, _, _ = side_by_side(store, Answering())
    await applied(theirs)
    watch = await say(theirs)
    await watch.result()
    (batch,) = (await store.query(Query(PATHS.events(watch.run_id), order_by="position"))).documents
    events = [
        [seq, "newer.event" if kind == "message.completed" else kind, data] for seq, kind, data in batch.data["events"]
    ]
    await store.commit([Merge(batch.path, {"events": events})])
    seen = await told(await runs.watch(ours, ALICE, watch.run_id))
    assert [event.type for event in seen] == ["run.started", "message.delta", "newer.event", "run.completed"]


async def test_a_message_with_a_field_of_a_newer_version_is_read(store: Store):
    services = process(store)
    await applied(services)
    await chat(services, "hi", "talk")
    said = MESSAGE.dump_python(Message("assistant", (TextPart("hello"),)), mode="json")
    said["parts"][0]["newer"] = said["newer"] = True
    await store.commit([Merge(PATHS.message("talk", 2), {"message": said})])
    assert (await chat(services, "and now?", "talk")).message.text == "hello"
    assert len(await conversation(services, "talk")) == 4


async def test_a_run_that_this_version_cannot_read_keeps_no_other_from_going_on(store: Store):
    ours, theirs, _, queue = side_by_side(store, TALK)
    await applied(theirs, shop_cluster())
    newer = await dies(theirs, KillPoint.BEFORE_RESULTS, session="newer")
    await store.commit([Merge(PATHS.run(newer), {"kind": "of a later version"})])
    run_id = await dies_too(ours)
    await sweep(ours)
    await work(ours, queue)
    assert (await record(store, run_id)).status == "succeeded"


async def dies_too(services: Engine) -> str:
    """Have a process die with the run of the session `ours`; return its id, its lease being over."""

    async def job(made: Services) -> None:
        await (await say(made, session="ours")).finished()

    await killed(services, KillPoint.BEFORE_RESULTS, job)
    active = (await sessions.get_session(services, ALICE, "ours")).active_run
    assert active is not None
    await lapse(services.store, active)
    return active
