"""Stores that fail on command, around a real one: a process that was cut off, an answer that was lost."""

import asyncio
from collections.abc import Sequence

from goagents.errors import OutcomeUnknown, StoreUnavailable
from goagents.store.base import Commit, Store, Write
from goagents.testing.faults import FaultyStore
from goagents.testing.kill_points import Boundary, classify


class UnreliableStore(FaultyStore):
    """`unplugged`: nothing gets through. `lose_answers`: so many commits are applied and their answers lost.

    `refuse_renewals`: so many commits that only renew a lease do not get through; `renewed` is set when one does.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.lose_answers = 0
        self.refuse_renewals = 0
        self.renewed = asyncio.Event()

    async def commit(self, writes: Sequence[Write]) -> Commit:
        renewal = Boundary.RENEWAL in classify(writes)
        if renewal and self.refuse_renewals and not self.unplugged:
            self.refuse_renewals -= 1
            raise StoreUnavailable("refused by the test")
        done = await super().commit(writes)
        if renewal:
            self.renewed.set()
        if self.lose_answers:
            self.lose_answers -= 1
            raise OutcomeUnknown("lost by the test")
        return done


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
