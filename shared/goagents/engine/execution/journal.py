"""The journal of one run: its only writer, one commit after another, each fenced by the run's lease.

Every commit also writes the lease document at the version last known, so a process that lost the lease cannot write.
A commit whose answer was lost is recognised by its `commit_id` in the lease. What clients were shown meanwhile travels
along (the outbox): an event is never in the store without the step it belongs to.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from goagents.clock import Clock
from goagents.errors import LeaseLost, OutcomeUnknown, StoreConflict, StoreUnavailable
from goagents.events import Cursor
from goagents.records import LeaseRecord
from goagents.store.base import AtVersion, Precondition, Put, Store, Write

ATTEMPTS = 6
Build = Callable[[bool], Awaitable[Sequence[Write]]]


class Outbox(Protocol):
    @property
    def cursor(self) -> Cursor:
        """The place behind the newest event."""
        ...

    def batch(self) -> tuple[list[Write], int]:
        """Return the writes that keep what has not been kept yet, and how far they reach."""
        ...

    def kept(self, mark: int) -> None:
        """What reaches as far as `mark` is in the store."""
        ...


class Journal:
    def __init__(self, store: Store, clock: Clock, path: str, lease: LeaseRecord) -> None:
        """`path` is of the lease document. `outbox` may be set once there is one."""
        self._store = store
        self._clock = clock
        self._path = path
        self._lease = lease
        self._version = ""
        self._chain = asyncio.Lock()
        self._renewed = clock.monotonic()
        self._count = 0
        self._marks: dict[str, int] = {}  # of commits whose answer did not come
        self._versions: dict[str, str] = {}
        self.outbox: Outbox | None = None

    def begin(self, version: str, renewed_at: datetime, versions: Mapping[str, str] | None = None) -> None:
        """The lease is in the store, at `version`; `versions` are those of documents that this run alone writes."""
        self._version = version
        self._versions |= versions or {}
        self._renewed = self._clock.monotonic()
        self._lease = self._lease.model_copy(update={"renewed_at": renewed_at})

    @property
    def lease(self) -> LeaseRecord:
        return self._lease

    @property
    def age(self) -> float:
        """The seconds since the lease was renewed, by this process's clock."""
        return self._clock.monotonic() - self._renewed

    def known(self, path: str) -> Precondition:
        """Return the precondition for a document that this run alone writes: its version, where that is known.

        It fences nothing (the lease does): a store that knows what it replaces need not read it first.
        """
        version = self._versions.get(path)
        return AtVersion(version) if version else None

    async def commit(self, writes: Sequence[Write] = ()) -> None:
        """Apply `writes` and renew the lease, together.

        Raises:
            LeaseLost: another process has taken the run over, or it was deleted; nothing was written.
            StoreError: the store stayed away through all attempts.
        """

        async def build(_: bool) -> Sequence[Write]:
            return writes

        await self.conclude(build, {})

    async def conclude(self, build: Build, lease: dict[str, Any]) -> None:
        """Apply what `build` returns, and the lease changed by `lease`, together.

        `build` is asked again, with True, after a conflict: it then reads again what it decides on. Raises as `commit`.
        """
        async with self._chain:
            await self._commit(build, lease)

    async def _commit(self, build: Build, changes: dict[str, Any]) -> None:
        tried: set[str] = set()
        conflicted = False
        for attempt in range(ATTEMPTS):
            lease = self._lease.model_copy(update={**changes, "commit_id": self._next_id()})
            decided = await build(conflicted)
            batch, mark = self.outbox.batch() if self.outbox else ([], 0)
            writes = [*decided, *batch]
            tried.add(lease.commit_id)
            self._marks[lease.commit_id] = mark
            try:
                done = await self._store.commit([*writes, self._renewal(lease)])
            except StoreUnavailable:
                if attempt == ATTEMPTS - 1:
                    raise
            except (StoreConflict, OutcomeUnknown):
                conflicted = True
                if await self._was_applied(tried):
                    return
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                self._lease = lease
                self._kept(lease.commit_id)
                self.begin(
                    done.versions[self._path],
                    done.committed_at,
                    {path: version for path, version in done.versions.items() if path in self._versions},
                )
                return
            await self._clock.sleep(random.uniform(0.5, 1.0) * 0.05 * 2**attempt)  # noqa: S311 - jitter, no secret

    def _next_id(self) -> str:
        """Return an id that no other commit under this lease has: the token tells leases apart."""
        self._count += 1
        return f"commit_{self._count}"

    def _kept(self, commit_id: str) -> None:
        mark = self._marks.get(commit_id)
        if mark is not None and self.outbox is not None:
            self.outbox.kept(mark)
        self._marks.clear()

    def _renewal(self, lease: LeaseRecord) -> Put:
        data = lease.data()
        del data["renewed_at"]
        return Put(self._path, data, AtVersion(self._version), server_time=("renewed_at",))

    async def _was_applied(self, tried: set[str]) -> bool:
        """Read the lease again. True: one of the tried commits is there. Raises LeaseLost if it is no longer ours."""
        self._versions.clear()
        document = (await self._store.get_many([self._path])).get(self._path)
        found = LeaseRecord.of(document.data) if document else None
        if document is None or found is None or found.token != self._lease.token:
            raise LeaseLost
        if found.commit_id in self._marks:  # perhaps of an earlier commit, which came late
            self._kept(found.commit_id)
        self._lease = found
        self.begin(document.version, found.renewed_at)
        return found.commit_id in tried
