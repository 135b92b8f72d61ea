"""Stores for tests: what a piece of code asks of the store, passed on, and counted."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from goagents.store.base import MAX_WRITES, Commit, Page, Query, Snapshot, Store, Write

T = TypeVar("T")
Method = Literal["get_many", "query", "commit", "purge", "check"]
Subject = Sequence[str] | Sequence[Write] | Query | None


class PassingStore:
    """A `Store` that passes everything on to another one: override `around` to do something before and after."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def get_many(self, paths: Sequence[str]) -> Snapshot:
        return await self.around("get_many", paths, lambda: self.store.get_many(paths))

    async def query(self, query: Query) -> Page:
        return await self.around("query", query, lambda: self.store.query(query))

    async def commit(self, writes: Sequence[Write]) -> Commit:
        return await self.around("commit", writes, lambda: self.store.commit(writes))

    async def purge(self, limit: int = MAX_WRITES) -> int:
        return await self.around("purge", None, lambda: self.store.purge(limit))

    async def check(self) -> None:
        await self.around("check", None, self.store.check)

    async def aclose(self) -> None:
        await self.store.aclose()

    async def around(self, method: Method, subject: Subject, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 - for those who override it
        """`subject` is what the method was given: paths, a query or writes. `call()` asks the store itself."""
        return await call()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the store: its paths (of documents, or of the collection queried) and the round it was part of."""

    method: Method
    paths: tuple[str, ...]
    round: int


class RecordingStore(PassingStore):
    """A `Store` that passes everything on to another one and records it.

    `rounds` counts the sequential round trips: a round begins when a call starts while no other is in flight, so calls
    issued together count as one. `calls` lists them in the order they started. `reset()` forgets both.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.rounds = 0
        self.calls: list[Call] = []
        self._in_flight = 0

    def reset(self) -> None:
        self.rounds = 0
        self.calls.clear()

    async def around(self, method: Method, subject: Subject, call: Callable[[], Awaitable[T]]) -> T:
        if self._in_flight == 0:
            self.rounds += 1
        self._in_flight += 1
        self.calls.append(Call(method, paths_of(subject), self.rounds))
        try:
            # A store that answers without waiting must not make calls issued together two rounds.
            await asyncio.sleep(0)
            return await call()
        finally:
            self._in_flight -= 1


def paths_of(subject: Subject) -> tuple[str, ...]:
    """Return the paths that a call is about: those read or written, or the collection queried."""
    if subject is None:
        return ()
    if isinstance(subject, Query):
        return (subject.collection,)
    return tuple(item if isinstance(item, str) else item.path for item in subject)
