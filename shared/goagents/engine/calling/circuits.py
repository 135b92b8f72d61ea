"""Tells of circuit breakers that open or close: to telemetry, and to the store, where `status` of any process looks."""

import logging
from datetime import timedelta

from goagents.errors import StoreError
from goagents.records import ToolsetRecord
from goagents.store.base import Merge
from goagents.telemetry.base import ToolCircuitChanged

from .breaker import CircuitBreaker, State
from .surroundings import Surroundings

_log = logging.getLogger("goagents.engine")


async def tell(around: Surroundings, tool: str, place: str, breaker: CircuitBreaker, before: State) -> None:
    """Tell if the breaker's state is another one than `before` the call."""
    state = breaker.state
    record = around.cluster
    if state == before:
        return
    around.telemetry.emit(
        ToolCircuitChanged(record.name, around.agent.name, tool, place, state, breaker.failures, breaker.left)
    )
    now = around.clock.now()
    fields = ToolsetRecord(agent=around.agent.name, tool=tool, status="available", checked_at=now).data()
    fields["circuit_host"] = place or None
    fields["circuit_until_at"] = now + timedelta(seconds=breaker.left) if state == "open" else None
    path = around.paths.toolset(record.namespace, record.name, around.agent.name, tool)
    try:
        await around.store.commit([Merge(path, fields)])
    except StoreError as error:
        _log.warning("the state of the circuit breaker of %s is told to this process alone: %s", tool, error)
