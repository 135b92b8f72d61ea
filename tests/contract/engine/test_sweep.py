"""What a sweep looks through: all tenants there ever were, and each of them whatever befalls another one."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.support.durable import LONG_AGO, process, say, work
from tests.support.engine import ALICE, manifest

from goagents.access.principal import Principal
from goagents.engine import clusters, runs
from goagents.engine.recovery.sweep import MAX_FAILURES, TENANTS, sweep
from goagents.errors import StoreUnavailable
from goagents.records import Paths
from goagents.store.base import Merge, Query, Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.stores import PassingStore, paths_of

ACME = Principal("ops", "acme")


def keys(*tenants: str) -> dict[str, Any]:
    """The section `auth` with a key of each tenant."""
    each = [{"name": one, "hash": hashlib.sha256(one.encode()).hexdigest(), "tenant": one} for one in tenants]
    return {"mode": "api_key", "api_keys": each}


async def lost_run(store: Store, principal: Principal, queue: RecordingDispatch, **config: Any) -> str:
    """Return a run of this principal that nobody executes, and that no task leads to."""
    services = process(store, dispatch=queue, **config)
    await clusters.apply(services, principal, manifest())
    watch = await say(services, kind="background", principal=principal)
    queue.taken()
    await store.commit([Merge(Paths(principal.tenant).lease(watch.run_id), {"renewed_at": LONG_AGO})])
    return watch.run_id


class Faulty(PassingStore):
    """Fails for every path that begins with `broken`; `failures` counts."""

    def __init__(self, store: Store, broken: str, error: Exception) -> None:
        super().__init__(store)
        self.broken, self.error, self.failures = broken, error, 0

    async def around(self, method: str, subject: Any, call: Callable[[], Awaitable[Any]]) -> Any:
        if any(path.startswith(self.broken) for path in paths_of(subject)):
            self.failures += 1
            raise self.error
        return await call()


async def test_a_tenant_is_swept_whose_key_is_configured_no_more(store: Store):
    queue = RecordingDispatch()
    await sweep(process(store, dispatch=queue, auth=keys("acme")))
    assert [d.id for d in (await store.query(Query(TENANTS))).documents] == ["acme", "default"]
    run_id = await lost_run(store, ACME, queue, auth=keys("acme"))
    later = process(store, dispatch=queue)
    assert (await sweep(later)).redispatched == 1
    await work(later, queue)
    assert (await runs.get_run(later, ACME, run_id)).status == "succeeded"


@pytest.mark.parametrize("error", [StoreUnavailable("Away."), ZeroDivisionError("a defect")])
async def test_a_tenant_that_cannot_be_swept_keeps_no_other_from_it(
    store: Store, error: Exception, caplog: pytest.LogCaptureFixture
):
    queue = RecordingDispatch()
    default = await lost_run(store, ALICE, queue)
    acme = await lost_run(store, ACME, queue)
    faulty = Faulty(store, "tenants/default/", error)
    with pytest.raises(type(error), match=str(error)):
        await sweep(process(faulty, dispatch=queue, auth=keys("acme")))
    assert [(task.tenant, task.run) for task in queue.taken()] == [("acme", acme)]
    assert "the tenant default failed" in caplog.text
    faulty.broken = "nothing"
    await sweep(process(faulty, dispatch=queue, auth=keys("acme")))
    assert [task.run for task in queue.taken()] == [default]


async def test_a_store_that_is_away_is_not_asked_for_each_tenant(store: Store):
    faulty = Faulty(store, "tenants/", StoreUnavailable("Away."))
    services = process(faulty, auth=keys(*(f"tenant-{n}" for n in range(20))))
    with pytest.raises(StoreUnavailable):
        await sweep(services)  # it cannot note the tenants
    assert faulty.failures == 1
    await sweep(process(store, auth=keys(*(f"tenant-{n}" for n in range(20)))))
    faulty.failures = 0
    with pytest.raises(StoreUnavailable):
        await sweep(services)
    assert faulty.failures == MAX_FAILURES
