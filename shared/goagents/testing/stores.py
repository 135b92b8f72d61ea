"""Stores for tests: what a piece of code asks of the store, counted."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from goagents.store.base import MAX_WRITES, Commit, Page, Query, Snapshot, Store, Write

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the store: its paths (of documents, or of the collection queried) and the round it was part of."""

    method: Literal["get_many", "query", "commit", "purge", "check"]
    paths: tuple[str, ...]
    round: int


class RecordingStore:
    """A `Store` that passes everything on to another one and records it.

    `rounds` counts the sequential round trips: a round begins when a call starts while no other is in flight, so calls
    issued together count as one. `calls` lists them in the order they started. `reset()` forgets both.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rounds = 0
        self.calls: list[Call] = []
        self._in_flight = 0

    def reset(self) -> None:
        self.rounds = 0
        self.calls.clear()

    async def get_many(self, paths: Sequence[str]) -> Snapshot:
        return await self._recorded("get_many", paths, lambda: self.store.get_many(paths))

    async def query(self, query: Query) -> Page:
        return await self._recorded("query", (query.collection,), lambda: self.store.query(query))

    async def commit(self, writes: Sequence[Write]) -> Commit:
        return await self._recorded("commit", [write.path for write in writes], lambda: self.store.commit(writes))

    async def purge(self, limit: int = MAX_WRITES) -> int:
        return await self._recorded("purge", (), lambda: self.store.purge(limit))

    async def check(self) -> None:
        await self._recorded("check", (), self.store.check)

    async def aclose(self) -> None:
        await self.store.aclose()

    async def _recorded(self, method: Any, paths: Sequence[str], call: Callable[[], Awaitable[T]]) -> T:
        if self._in_flight == 0:
            self.rounds += 1
        self._in_flight += 1
        self.calls.append(Call(method, tuple(paths), self.rounds))
        try:
            await asyncio.sleep(
                0
            )  # a store that answers without waiting must not make calls issued together two rounds
            return await call()
        finally:
            self._in_flight -= 1
