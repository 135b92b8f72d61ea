"""Clusters: generations, scaling, deletion, logs and the summary."""

import asyncio

import pytest
from tests.support.engine import ALICE, applied, engine, manifest, scripted

from goagents.engine import agents, clusters, logs, runs, sessions, summary
from goagents.engine.services import Services
from goagents.engine.status import LIST_AGE
from goagents.errors import Conflict, Invalid, NotFound
from goagents.records import Paths
from goagents.resources import ChatRequest
from goagents.store.base import Query, Store

PATHS = Paths("default")


async def ask(services: Services, session: str | None = None) -> str:
    request = ChatRequest(message="hi", session_id=session)
    return (await (await runs.start(services, ALICE, "support.helper", request, kind="chat")).result()).message.text


async def test_the_same_content_changes_nothing_and_another_makes_a_generation(store: Store):
    services = engine(store)
    first = await clusters.apply(services, ALICE, manifest())
    assert (first.outcome, first.cluster.generation) == ("created", 1)
    same = await clusters.apply(services, ALICE, manifest(), mode="replace")
    assert (same.outcome, same.cluster.generation) == ("unchanged", 1)
    planned = await clusters.apply(services, ALICE, manifest({"max_turns": 3}), dry_run=True)
    assert (planned.outcome, planned.changes) == ("updated", ["spec.agents.0.max_turns"])
    assert (await clusters.get_cluster(services, ALICE, "default", "support")).generation == 1
    changed = await clusters.apply(services, ALICE, manifest({"max_turns": 3}))
    assert (changed.outcome, changed.cluster.generation) == ("updated", 2)
    assert changed.cluster.uid == first.cluster.uid
    with pytest.raises(Conflict, match="exists"):
        await clusters.apply(services, ALICE, manifest(), mode="create")


async def test_a_new_generation_is_seen_by_every_process_at_the_next_run(store: Store):
    provider = scripted(echo=[{"text": "old"}], newer=[{"text": "new"}])
    one, other = engine(store, provider), engine(store, provider)
    await applied(one)
    assert await ask(other) == "old"
    await applied(one, manifest({"model": "newer"}))
    assert await ask(other) == "new"


async def test_a_provider_this_server_lacks_is_named_at_its_place(store: Store):
    with pytest.raises(Invalid) as refused:
        await clusters.apply(engine(store), ALICE, manifest({}, {"name": "b", "provider": "gemini"}))
    assert [e.path for e in refused.value.errors] == ["spec.agents.1.provider"]


async def test_two_appliers_at_once_make_two_generations(store: Store):
    fleet = [engine(store) for _ in range(8)]
    done = await asyncio.gather(
        *(clusters.apply(s, ALICE, manifest({"max_turns": i + 1})) for i, s in enumerate(fleet))
    )
    assert sorted(d.outcome for d in done) == ["created", *["updated"] * 7]
    assert (await clusters.get_cluster(fleet[0], ALICE, "default", "support")).generation == 8


async def test_scaling_keeps_instances_and_is_bounded(store: Store):
    services = engine(store)
    await applied(services, manifest({"max_instances": 3}))
    assert (await agents.get_agent(services, ALICE, "support.helper")).idle_instances == 0
    scaled = await clusters.scale(services, ALICE, "default", "support", "helper", 2)
    assert (scaled.kept_instances, scaled.idle_instances) == (2, 2)
    assert (await agents.get_agent(engine(store), ALICE, "support.helper")).idle_instances == 2
    with pytest.raises(Invalid) as refused:
        await clusters.scale(services, ALICE, "default", "support", "helper", 4)
    assert "max_instances, which is 3" in str(refused.value.errors[0])
    with pytest.raises(NotFound, match="it has: helper"):
        await clusters.scale(services, ALICE, "default", "support", "nobody", 1)


async def test_a_cluster_is_deleted_with_all_that_is_its_own(store: Store):
    services = engine(store)
    await applied(services)
    await applied(services, manifest(name="other"))
    for i in range(3):
        await ask(services, f"talk-{i}")
    made = [document.id for document in (await store.query(Query(PATHS.runs()))).documents]
    assert (await store.query(Query(PATHS.events(made[0])))).documents
    await clusters.delete_cluster(services, ALICE, "default", "support")
    for name in (None, "support"):
        with pytest.raises(NotFound):
            await clusters.get_cluster(services, ALICE, "default", name or "support")
    with pytest.raises(NotFound):
        await ask(services)
    with pytest.raises(NotFound):
        await sessions.get_session(services, ALICE, "talk-0")
    left = [PATHS.runs(), PATHS.sessions(), PATHS.messages("talk-0"), PATHS.generations("default", "support")]
    left += [PATHS.slots("default", "support"), PATHS.instances("default", "support")]
    left += [collection for run in made for collection in (PATHS.steps(run), PATHS.events(run))]
    for collection in left:
        assert not (await store.query(Query(collection))).documents, collection
    listed = await clusters.list_clusters(services, ALICE, "default", 10, None)
    assert [c.name for c in listed.items] == ["other"]
    await applied(services)
    assert await ask(services, "talk-0") == "hello"


async def test_a_list_shows_this_processs_runs_at_once_and_others_after_a_moment(store: Store):
    one, other = engine(store), engine(store)
    await applied(one)
    for services in (one, other):
        listed = await clusters.list_clusters(services, ALICE, "default", 10, None)
        assert listed.items[0].agents[0].idle_instances == 0
    await ask(one)
    assert (await clusters.list_clusters(one, ALICE, "default", 10, None)).items[0].agents[0].idle_instances == 1
    await asyncio.sleep(LIST_AGE)
    assert (await clusters.list_clusters(other, ALICE, "default", 10, None)).items[0].agents[0].idle_instances == 1


async def test_lists_come_in_pages(store: Store):
    services = engine(store)
    names = [f"cluster-{i:02d}" for i in range(7)]
    for name in names:
        await applied(services, manifest({}, {"name": "second"}, name=name))
    found, token = [], None
    while True:
        page = await clusters.list_clusters(services, ALICE, "default", 3, token)
        found += [c.name for c in page.items]
        token = page.next_page_token
        if token is None:
            break
    assert found == names
    listed = await agents.list_agents(services, ALICE, namespace="default", page_size=100, page_token=None)
    assert len(listed.items) == 14
    assert not (await clusters.list_clusters(services, ALICE, "elsewhere", 3, None)).items
    with pytest.raises(Invalid):
        await clusters.list_clusters(services, ALICE, "default", 3, "no cursor of ours")


async def test_logs_tell_what_the_agents_did(store: Store):
    services = engine(
        store, scripted(echo=[{"tool_calls": [{"name": "x", "arguments": {}}]}, {"after": "*", "text": "k"}])
    )
    await applied(services)
    following = logs.follow_logs(services, ALICE, "default", "support")
    first = asyncio.create_task(anext(following))
    await asyncio.sleep(0.1)
    await ask(services, "talk")
    seen = [await asyncio.wait_for(first, 60)]
    while seen[-1].kind != "finished":
        seen.append(await asyncio.wait_for(anext(following), 60))
    await following.aclose()
    assert [e.kind for e in seen] == ["run", "model", "tools", "finished"]
    listed = await logs.list_logs(services, ALICE, "default", "support", 10, None)
    assert [(e.kind, e.severity) for e in listed.items] == [
        ("run", "INFO"),
        ("model", "INFO"),
        ("tools", "ERROR"),
        ("finished", "INFO"),
    ]
    assert not (await logs.list_logs(services, ALICE, "default", "support", 10, None, "helper")).next_page_token


async def test_the_summary_adds_up(store: Store):
    services = engine(store, scripted(echo=[{"text": "a", "usage": {"input_tokens": 5, "output_tokens": 3}}]))
    await applied(services)
    for _ in range(4):
        await ask(services)
    found = await summary.metrics_summary(services, ALICE)
    assert (found.clusters, found.agents, found.active_runs) == (1, 1, 0)
    assert (found.total.runs, found.total.succeeded, found.total.input_tokens) == (4, 4, 20)
    assert len(found.days) == 1
