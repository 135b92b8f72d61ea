"""A deployment of several processes with one queue, where a person decides on calls of tools."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.durable import (
    Shop,
    process,
    say,
    shop_cluster,
    work,
)
from tests.support.engine import ALICE, Engine, applied

from goagents.engine import controls, runs
from goagents.resources import Decision, Run
from goagents.store.base import Store
from goagents.testing.dispatch import RecordingDispatch

ALLOW, DENY = Decision(decision="allow"), Decision(decision="deny")


class Desk:
    """A deployment with one queue, whose agent's tools are of a `Shop`."""

    def __init__(self, store: Store, script: Sequence[Mapping[str, Any]], **config: Any) -> None:
        self.store, self.script, self.config = store, script, config
        self.shop, self.queue = Shop(), RecordingDispatch()
        self.services = self.another()

    def another(self, store: Store | None = None) -> Engine:
        """Start another process."""
        return process(store or self.store, self.script, self.shop, self.queue, **self.config)

    async def waiting(self, *, session: str = "talk", **entry: Any) -> Run:
        """Start a run and return it as it waits."""
        await applied(self.services, shop_cluster(**({"approval": "unsafe"} | entry)))
        run = await (await say(self.services, session=session)).answer()
        assert isinstance(run, Run)
        assert run.status == "waiting"
        return run

    async def again(self) -> Run:
        """Have the next message of the session answered, and return its run."""
        run = await (await say(self.services, "again")).answer()
        assert isinstance(run, Run)
        return run

    async def decide(self, run_id: str, *decisions: Decision) -> Run:
        return await controls.approve(self.services, ALICE, run_id, decisions or [ALLOW])

    async def goes_on(self, run_id: str, services: Engine | None = None) -> Run:
        """Have the queue's tasks done, and return the run."""
        await work(services or self.services, self.queue)
        return await runs.get_run(self.services, ALICE, run_id)
