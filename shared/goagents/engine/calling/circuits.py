"""Tells of circuit breakers: every change to telemetry, and that one opens or closes also to the store, where `status`
of any process looks. That the time of an open one is over is no change: whoever looks compares the time."""

import logging
from datetime import timedelta

from goagents.errors import StoreError
from goagents.records import ToolsetRecord
from goagents.store.base import Merge
from goagents.telemetry.base import ToolCircuitChanged

from .breaker import CircuitBreaker, State
from .surroundings import Surroundings

_log = logging.getLogger("goagents.engine")


def emit(around: Surroundings, tool: str, place: str, breaker: CircuitBreaker) -> None:
    """Tell telemetry of the state that the breaker has come to."""
    change = ToolCircuitChanged(
        around.cluster.name, around.agent.name, tool, place, breaker.state, breaker.failures, breaker.left
    )
    around.telemetry.emit(change)


async def tell(around: Surroundings, tool: str, place: str, breaker: CircuitBreaker, before: State) -> None:
    """Tell if the breaker's state is another one than `before` what the call came to was counted."""
    state = breaker.state
    record = around.cluster
    if state == before:
        return
    emit(around, tool, place, breaker)
    now = around.clock.now()
    fields = ToolsetRecord(agent=around.agent.name, tool=tool, status="available", checked_at=now).data()
    fields["circuit_host"] = place or None
    fields["circuit_until_at"] = now + timedelta(seconds=breaker.left) if state == "open" else None
    path = around.paths.toolset(record.namespace, record.name, around.agent.name, tool)
    try:
        await around.store.commit([Merge(path, fields)])
    except StoreError as error:
        _log.warning("the state of the circuit breaker of %s is told to this process alone: %s", tool, error)
