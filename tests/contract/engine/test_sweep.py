"""What a sweep looks through: all tenants there ever were, and all of them whatever befalls one."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.support.durable import Answering, process, say, work
from tests.support.engine import ALICE, Engine, manifest

from goagents.access.principal import Principal
from goagents.engine import clusters, runs
from goagents.engine.recovery import sweep as sweeping
from goagents.engine.recovery.sweep import MAX_FAILURES, TENANTS, sweep
from goagents.errors import StoreUnavailable
from goagents.records import Paths
from goagents.store.base import Query, Store
from goagents.store.paging import ID
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
    return watch.run_id


def hasty(services: Engine) -> Engine:
    """Have the process expect a worker no longer than it takes to ask."""
    services.config = services.config.model_copy(
        update={"runs": services.config.runs.model_copy(update={"dispatch_grace": 0.0})}
    )
    return services


class Faulty(PassingStore):
    """Fails for everything that `broken` says; `asked` counts the failures."""

    def __init__(self, store: Store, broken: Callable[[str], bool], error: Exception) -> None:
        super().__init__(store)
        self.broken, self.error, self.asked = broken, error, 0

    async def around(self, method: str, subject: Any, call: Callable[[], Awaitable[Any]]) -> Any:
        if any(self.broken(path) for path in paths_of(subject)) or (method == "purge" and self.broken(method)):
            self.asked += 1
            raise self.error
        return await call()
