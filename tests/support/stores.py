"""Stores that fail on command, around a real one: a process that was cut off, an answer that was lost."""

import asyncio
from collections.abc import Sequence

from goagents.errors import OutcomeUnknown, StoreUnavailable
from goagents.store.base import Commit, Page, Query, Snapshot, Store, Write


class UnreliableStore:
    """`unplugged`: nothing gets through. `lose_answers`: so many commits are applied and their answers lost.

    `refuse_renewals`: so many commits that only renew a lease do not get through; `renewed` is set when one does.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.unplugged = False
        self.lose_answers = 0
        self.refuse_renewals = 0
        self.renewed = asyncio.Event()

    def _check(self) -> None:
        if self.unplugged:
            raise StoreUnavailable("unplugged by the test")

    async def get_many(self, paths: Sequence[str]) -> Snapshot:
        self._check()
        return await self._store.get_many(paths)

    async def query(self, query: Query) -> Page:
        self._check()
        return await self._store.query(query)

    async def commit(self, writes: Sequence[Write]) -> Commit:
        self._check()
        renewal = len(writes) == 1 and writes[0].path.endswith("/lease/current")
        if renewal and self.refuse_renewals:
            self.refuse_renewals -= 1
            raise StoreUnavailable("refused by the test")
        done = await self._store.commit(writes)
        if renewal:
            self.renewed.set()
        if self.lose_answers:
            self.lose_answers -= 1
            raise OutcomeUnknown("lost by the test")
        return done

    async def purge(self, limit: int = 500) -> int:
        return await self._store.purge(limit)

    async def check(self) -> None:
        self._check()
        await self._store.check()

    async def aclose(self) -> None:
        await self._store.aclose()


class SlowStore(UnreliableStore):
    """Commits wait while `blocked` is clear; `waiting` is set when one does."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.blocked = asyncio.Event()
        self.blocked.set()
        self.waiting = asyncio.Event()

    async def commit(self, writes: Sequence[Write]) -> Commit:
        if not self.blocked.is_set():
            self.waiting.set()
        await self.blocked.wait()
        return await super().commit(writes)
