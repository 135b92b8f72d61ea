"""Where a process may die, by name, and the switch that has it die there.

Nothing in the engine knows of this: the points are found at the ports. A commit is told by what it writes (`classify`),
a call of a model, a tool, the queue or a webhook by itself.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from goagents.engine.services import Services
from goagents.providers.base import ReasoningDelta, TextDelta
from goagents.records import TERMINAL
from goagents.store.base import ABSENT, Delete, Put, Write
from goagents.testing.wrapping import Asked, wrapped

T = TypeVar("T")


class Boundary(StrEnum):
    """What a commit does in the life of a run; one commit may do several of these."""

    ADMISSION = "admission"  # the run comes into being, running or queued
    TAKEOVER = "takeover"  # a process takes up a run that it did not begin
    MODEL_RESULT = "model-result"
    TOOL_RESULT = "tool-result"  # that of one call, recorded at once
    RESULTS = "results"  # of all calls of a step
    SUMMARY = "summary"
    HAND_OFF = "hand-off"
    PARK = "park"  # the run waits for a person
    DECISION = "decision"  # a person has decided
    SETTLE = "settle"
    PROMOTION = "promotion"  # the next run of the session gets its turn
    REDISPATCH = "redispatch"  # the run of a process that died is put up for others
    CANCEL = "cancel"  # a signal to whoever executes the run
    DELIVERY = "delivery"  # what came of an attempt to deliver a webhook
    RENEWAL = "renewal"  # the lease, perhaps with events, and nothing else
    EVENTS = "events"  # events alone


class KillPoint(StrEnum):
    """`before-…` and `after-…` of each Boundary: the commit was not sent; it was applied, and its answer not seen.

    And where nothing is committed: inside a model's stream (something was said), before a tool call (its intent is
    recorded), inside it (it was begun), after it (its result is not recorded); before and after a task is handed to
    the queue, and before and after a webhook is sent.
    """

    BEFORE_ADMISSION = "before-admission"
    AFTER_ADMISSION = "after-admission"
    BEFORE_TAKEOVER = "before-takeover"
    AFTER_TAKEOVER = "after-takeover"
    IN_MODEL_STREAM = "in-model-stream"
    BEFORE_MODEL_RESULT = "before-model-result"
    AFTER_MODEL_RESULT = "after-model-result"
    BEFORE_TOOL_CALL = "before-tool-call"
    IN_TOOL_CALL = "in-tool-call"
    AFTER_TOOL_CALL = "after-tool-call"
    BEFORE_TOOL_RESULT = "before-tool-result"
    AFTER_TOOL_RESULT = "after-tool-result"
    BEFORE_RESULTS = "before-results"
    AFTER_RESULTS = "after-results"
    BEFORE_SUMMARY = "before-summary"
    AFTER_SUMMARY = "after-summary"
    BEFORE_HAND_OFF = "before-hand-off"
    AFTER_HAND_OFF = "after-hand-off"
    BEFORE_ENQUEUE = "before-enqueue"
    AFTER_ENQUEUE = "after-enqueue"
    BEFORE_PARK = "before-park"
    AFTER_PARK = "after-park"
    BEFORE_DECISION = "before-decision"
    AFTER_DECISION = "after-decision"
    BEFORE_SETTLE = "before-settle"
    AFTER_SETTLE = "after-settle"
    BEFORE_PROMOTION = "before-promotion"
    AFTER_PROMOTION = "after-promotion"
    BEFORE_REDISPATCH = "before-redispatch"
    AFTER_REDISPATCH = "after-redispatch"
    BEFORE_CANCEL = "before-cancel"
    AFTER_CANCEL = "after-cancel"
    BEFORE_WEBHOOK = "before-webhook"
    AFTER_WEBHOOK = "after-webhook"
    BEFORE_DELIVERY = "before-delivery"
    AFTER_DELIVERY = "after-delivery"
    BEFORE_RENEWAL = "before-renewal"
    AFTER_RENEWAL = "after-renewal"
    BEFORE_EVENTS = "before-events"
    AFTER_EVENTS = "after-events"

    @property
    def boundary(self) -> Boundary | None:
        """The commit it lies before or after, if it does."""
        name = self.value.partition("-")[2]
        return next((boundary for boundary in Boundary if boundary == name), None)


def classify(writes: Sequence[Write]) -> frozenset[Boundary]:
    """Return what a commit of these writes does in the life of a run; nothing, if it is about something else."""
    found = {boundary for write in writes if (boundary := _boundary(write)) is not None}
    if Boundary.ADMISSION in found:
        found -= {Boundary.PROMOTION, Boundary.TAKEOVER}  # the session points at the new run: that is no promotion
    return frozenset(found or _by_lease(writes))


def _boundary(write: Write) -> Boundary | None:
    parts = write.path.split("/")[2:]  # without the tenant
    data = {} if isinstance(write, Delete) else write.data
    match parts:
        case ["runs", _]:
            return _of_run(write, data)
        case ["runs", _, "steps", _]:
            return _STEPS.get(data.get("kind", ""))
        case ["runs", _, "signals", "cancel"] if data:
            return Boundary.CANCEL
        case ["deliveries", _] if data and not _creates(write):
            return Boundary.DELIVERY
        case ["sessions", _] if data.get("active_run"):
            return Boundary.PROMOTION
    return None


_STEPS = {
    "model": Boundary.MODEL_RESULT,
    "tools": Boundary.RESULTS,
    "result": Boundary.TOOL_RESULT,
    "summary": Boundary.SUMMARY,
}
_STATUS = {"handed_off": Boundary.HAND_OFF, "waiting": Boundary.PARK}


def _of_run(write: Write, data: Any) -> Boundary | None:
    if _creates(write):
        return Boundary.ADMISSION
    if data.get("decisions"):
        return Boundary.DECISION
    if "attempt" in data:
        return Boundary.TAKEOVER
    status = data.get("status")
    return Boundary.SETTLE if status in TERMINAL else _STATUS.get(status)


def _creates(write: Write) -> bool:
    return isinstance(write, Put) and write.precondition is ABSENT


def _by_lease(writes: Sequence[Write]) -> set[Boundary]:
    """Tell commits that change nothing about the run itself: who may write it, or what its clients were shown."""
    puts = [write for write in writes if not isinstance(write, Delete)]
    leases = [write for write in puts if write.path.endswith("/lease/current")]
    events = [write for write in puts if "/events/" in write.path]
    if len(leases) + len(events) < len(writes):
        return set()
    if leases:
        return {Boundary.RENEWAL if leases[0].data.get("owner") else Boundary.REDISPATCH}
    return {Boundary.EVENTS} if events else set()


def sigkill() -> None:
    """End this process as `kill -9` does: nothing is flushed, closed or answered."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class KillSwitch:
    """Has the process die at `point`, the `occurrence`-th time it gets there.

        services = KillSwitch(KillPoint.BEFORE_SETTLE).services(services)

    `kill` is what dying is: SIGKILL, or in a test within one process something that notes it, or raises. Where `kill`
    returns, the call that got there never does. `tool`: count calls of this tool alone. `hold` is how many seconds a
    call may be under way before the process dies inside it; a tool that answers sooner was not killed in its call.
    """

    point: KillPoint
    occurrence: int = 1
    kill: Callable[[], None] = sigkill
    tool: str | None = None
    hold: float = 0.05
    reached: int = field(default=0, init=False)

    def services(self, services: Services) -> Services:
        """Return the services of the process that is to die."""
        return wrapped(services, self._around)

    async def _around(self, asked: Asked, call: Callable[[], Awaitable[T]]) -> T:
        if asked.port == "tool" and self.point is KillPoint.IN_TOOL_CALL and self._counts(asked):
            return await self._within(call)
        if self._lies("before", asked):
            await self._arrive()
        answer = await call()
        began = asked.port == "model" and asked.number == 0 and isinstance(answer, TextDelta | ReasoningDelta)
        if (began and self.point is KillPoint.IN_MODEL_STREAM) or self._lies("after", asked):
            await self._arrive()
        return answer

    def _lies(self, side: str, asked: Asked) -> bool:
        where, _, name = self.point.value.partition("-")
        if where != side:
            return False
        if asked.port == "store":
            return asked.method == "commit" and self.point.boundary in classify(asked.subject)
        return name == _PORTS.get(asked.port) and self._counts(asked)

    def _counts(self, asked: Asked) -> bool:
        return asked.port != "tool" or self.tool in (None, asked.subject)

    async def _within(self, call: Callable[[], Awaitable[T]]) -> T:
        calling = asyncio.ensure_future(call())
        try:
            await asyncio.wait({calling}, timeout=self.hold)
            if not calling.done():
                await self._arrive()
            return await calling
        finally:
            calling.cancel()

    async def _arrive(self) -> None:
        self.reached += 1
        if self.reached == self.occurrence:
            self.kill()
            await never()


_PORTS = {"tool": "tool-call", "dispatch": "enqueue", "webhook": "webhook"}


async def never() -> None:
    """Wait for what does not come, until cancelled."""
    await asyncio.get_running_loop().create_future()
