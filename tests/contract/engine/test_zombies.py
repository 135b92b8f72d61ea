"""Processes that were cut off and come back: what they believe to have is another's, and they write nothing more."""

import asyncio
from typing import Any

from tests.support.durable import (
    Shop,
    lapse,
    process,
    say,
    shop_cluster,
    work,
)
from tests.support.engine import applied
from tests.support.runs import PATHS, Held, at_rest, conversation
from tests.support.stores import UnreliableStore

from goagents.engine.recovery.sweep import sweep
from goagents.store.base import Query, Store
from goagents.testing.dispatch import RecordingDispatch


async def test_a_process_that_was_cut_off_writes_nothing_more(store: Store):
    queue, shop, held = RecordingDispatch(), Shop(), Held()
    cable = UnreliableStore(store)
    zombie = process(cable, held, shop, queue)
    await applied(zombie, shop_cluster())
    watch = await say(zombie)
    await held.entered.wait()
    cable.unplugged = True
    await lapse(store, watch.run_id)
    services = process(store, [{"text": "from the second one"}], shop, queue)
    await sweep(services)
    await work(services, queue)
    before = await everything(store, watch.run_id)
    cable.unplugged = False
    held.release.set()
    await zombie.handles[watch.run_id].finished()
    assert await everything(store, watch.run_id) == before
    assert (await watch.result()).message.text == "from the second one"
    assert [m.text for m in await conversation(services, "talk")] == ["hi", "from the second one"]
    assert (await store.query(Query(PATHS.usage()))).documents[0].data["runs"] == 1
    await at_rest(services, "talk")
    assert (await (await say(zombie, "again")).result()).message.text == "done"  # it is a process like any other


async def test_a_process_that_was_cut_off_is_stopped_as_soon_as_it_knows(store: Store):
    """Even where its model would talk for ever: its next beat finds the lease gone."""
    queue, held = RecordingDispatch(), Held()
    cable = UnreliableStore(store)
    zombie = process(cable, held, dispatch=queue, runs={"lease_ttl": "1s", "poll_interval": "50ms"})
    await applied(zombie)
    watch = await say(zombie)
    await held.entered.wait()
    cable.unplugged = True
    await lapse(store, watch.run_id)
    services = process(store, dispatch=queue)
    await sweep(services)
    await work(services, queue)
    cable.unplugged = False
    await asyncio.wait_for(zombie.handles[watch.run_id].finished(), 60)
    assert held.open == 0
    assert (await watch.result()).message.text == "hello"


async def everything(store: Store, run_id: str) -> dict[str, Any]:
    """Return all documents of a run, of its session and of what it held."""
    paths = [PATHS.run(run_id), PATHS.lease(run_id), PATHS.session("talk")]
    found = {path: document.version for path, document in (await store.get_many(paths)).documents.items()}
    collections = [
        PATHS.steps(run_id), PATHS.events(run_id), PATHS.messages("talk"), PATHS.usage(),
        PATHS.slots("default", "support"), PATHS.instances("default", "support"),
    ]  # fmt: skip
    for collection in collections:
        found |= {d.path: d.version for d in (await store.query(Query(collection, limit=500))).documents}
    return found
