"""What this process knows of the servers behind tools. It outlives runs and generations, and dies with the process."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from goagents.clock import Clock
from goagents.spec.tools import ToolSpec

from .breaker import CircuitBreaker
from .limiter import RateLimiter

T = TypeVar("T")
MOST = 4096  # breakers, and rate limits, that are remembered
Entry = tuple[str, str, str]  # of the YAML: the cluster's uid, the agent, the tool


@dataclass
class CallState:
    """`flights` are the cached calls under way, by the path of their result; `left` those that ignored their end."""

    breakers: "OrderedDict[tuple[Entry, str], CircuitBreaker]" = field(default_factory=OrderedDict)
    limiters: "OrderedDict[Entry, RateLimiter]" = field(default_factory=OrderedDict)
    flights: "dict[str, asyncio.Future[Any]]" = field(default_factory=dict)
    left: "set[asyncio.Task[Any]]" = field(default_factory=set)

    def breaker(self, entry: Entry, place: str, spec: ToolSpec, clock: Clock) -> CircuitBreaker:
        """Return the breaker of a tool and host, with the terms of `spec`."""
        found = _recent(self.breakers, (entry, place), lambda: CircuitBreaker(spec.circuit_breaker, clock))
        found.spec = spec.circuit_breaker
        return found

    def limiter(self, entry: Entry, spec: ToolSpec, clock: Clock) -> RateLimiter | None:
        """Return the rate limit of a tool; a changed one begins anew."""
        if spec.rate_limit is None:
            return None
        limit = spec.rate_limit
        found = self.limiters.get(entry)
        if found is not None and found.spec != limit:
            del self.limiters[entry]
        return _recent(self.limiters, entry, lambda: RateLimiter(limit, clock))

    def circuits(self, entry: Entry) -> Iterator[tuple[str, CircuitBreaker]]:
        """Yield the hosts of a tool that were called, with their breakers."""
        for (owner, place), breaker in self.breakers.items():
            if owner == entry:
                yield place, breaker


def _recent(kept: "OrderedDict[Any, T]", key: Any, make: Callable[[], T]) -> T:
    """Return what is kept under `key`; what was used longest ago goes where there is too much."""
    found = kept.get(key)
    if found is None:
        found = kept[key] = make()
        if len(kept) > MOST:
            kept.popitem(last=False)
    else:
        kept.move_to_end(key)
    return found
