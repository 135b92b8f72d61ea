"""The journal of one run: its only writer, one commit after another, each fenced by the run's lease.

Every commit also writes the lease document at the version last known, so a process that lost the lease cannot write.
A commit whose answer was lost is recognised by its `commit_id` in the lease.
"""

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime

from goagents.clock import Clock
from goagents.errors import LeaseLost, OutcomeUnknown, StoreConflict, StoreUnavailable
from goagents.ids import new_id
from goagents.records import LeaseRecord
from goagents.store.base import AtVersion, Commit, Put, Store, Write

ATTEMPTS = 6


class Journal:
    def __init__(self, store: Store, clock: Clock, path: str, lease: LeaseRecord) -> None:
        """`path` is of the lease document."""
        self._store = store
        self._clock = clock
        self._path = path
        self._lease = lease
        self._version = ""
        self._chain = asyncio.Lock()

    def begin(self, version: str, renewed_at: datetime) -> None:
        """The lease is in the store, at `version`."""
        self._version = version
        self._lease = self._lease.model_copy(update={"renewed_at": renewed_at})

    @property
    def lease(self) -> LeaseRecord:
        return self._lease

    async def commit(self, writes: Sequence[Write] = ()) -> None:
        """Apply `writes` and renew the lease, together.

        Raises:
            LeaseLost: another process has taken the run over, or it was deleted; nothing was written.
            StoreError: the store stayed away through all attempts.
        """
        async with self._chain:
            await self._commit(writes)

    async def _commit(self, writes: Sequence[Write]) -> None:
        tried: set[str] = set()
        for attempt in range(ATTEMPTS):
            lease = self._lease.model_copy(update={"commit_id": new_id("commit")})
            tried.add(lease.commit_id)
            try:
                done = await self._store.commit([*writes, self._renewal(lease)])
            except StoreUnavailable:
                if attempt == ATTEMPTS - 1:
                    raise
            except (StoreConflict, OutcomeUnknown):
                if await self._was_applied(tried):
                    return
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                self._advance(lease, done)
                return
            await self._clock.sleep(random.uniform(0.5, 1.0) * 0.05 * 2**attempt)  # noqa: S311 - jitter, no secret

    def _renewal(self, lease: LeaseRecord) -> Put:
        data = lease.data()
        del data["renewed_at"]
        return Put(self._path, data, AtVersion(self._version), server_time=("renewed_at",))

    def _advance(self, lease: LeaseRecord, done: Commit) -> None:
        self._lease = lease
        self.begin(done.versions[self._path], done.committed_at)

    async def _was_applied(self, tried: set[str]) -> bool:
        """Read the lease again. True: one of the tried commits is there. Raises LeaseLost if it is no longer ours."""
        document = (await self._store.get_many([self._path])).get(self._path)
        found = LeaseRecord.of(document.data) if document else None
        if document is None or found is None or found.token != self._lease.token:
            raise LeaseLost
        self._version, self._lease = document.version, found
        return found.commit_id in tried

    async def keep_alive(self) -> None:
        """Renew the lease until cancelled, whatever the store does; end when it is lost (the next commit says so)."""
        while True:
            await self._clock.sleep(self._lease.ttl / 3)
            try:
                await self.commit()
            except LeaseLost:
                return
            except (StoreConflict, OutcomeUnknown, StoreUnavailable):
                continue
