"""The production store: Firestore in native mode, by preconditions alone, without interactive transactions.

The library's retries of commits are off: an answer that was lost is OutcomeUnknown, never a second commit. An expired
document is absent though Firestore may take a day to delete it: reads leave it out, a write that asks for absence
replaces it. A write at a version needs to know nothing more, for the version tells of expiry and parts; one without
a version reads first, unless this process remembers the document as one that has neither (a counter, say).
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.cloud.firestore_v1 import types

from goagents.errors import DocumentTooLarge, OutcomeUnknown, StoreConflict, StoreUnavailable
from goagents.store.base import (
    ABSENT,
    MAX_WRITES,
    PRESENT,
    AtVersion,
    Commit,
    Delete,
    Merge,
    Page,
    Query,
    Snapshot,
    Write,
)
from goagents.store.encoding import check_paths, check_writes
from goagents.store.firestore_client import FirestoreClient
from goagents.store.firestore_commit import Planned, main_request, part_requests, plan
from goagents.store.firestore_reader import FirestoreReader
from goagents.store.firestore_wire import Held, held_at, timestamp
from goagents.store.indexes import INDEXES, Index
from goagents.store.paging import ID, check_query, next_cursor, position

_READS = 8  # of a document whose parts are replaced meanwhile: each that fails met another replacement
_ATTEMPTS = 3  # of a write in whose way lie expired documents
_REMEMBERED = 4096


class FirestoreStore:
    """A `Store` in one Firestore database. Connects with its first use, inside the running event loop.

    Honours `FIRESTORE_EMULATOR_HOST`, else finds credentials as all of Google's libraries do. `connect_timeout` and
    `commit_timeout` are in seconds. `indexes` are the queries it serves.
    """

    def __init__(
        self,
        project: str,
        database: str = "(default)",
        *,
        indexes: Sequence[Index] = INDEXES,
        connect_timeout: float = 5.0,
        commit_timeout: float = 15.0,
    ) -> None:
        if not project or not database:
            raise ValueError("Firestore needs a project and a database: firestore://PROJECT/DATABASE.")
        self._client = FirestoreClient(project, database, connect_timeout, commit_timeout)
        self._reader = FirestoreReader(self._client)
        self._indexes = tuple(indexes)
        self._read_backwards = {index.collection for index in indexes if index.fields == (ID,)}
        self._plain: OrderedDict[str, None] = OrderedDict()

    async def get_many(self, paths: Sequence[str]) -> Snapshot:
        check_paths(paths)
        for _ in range(_READS):
            found, read_at = await self._reader.read(paths)
            alive = [one for one in found if not one.expired(read_at)]
            if await self._reader.complete(alive):
                return Snapshot({one.path: one.document() for one in alive}, read_at)
        raise _parts_missing(", ".join(paths[:5]))

    async def query(self, query: Query) -> Page:
        check_query(query, self._indexes)
        start = position(query)
        for _ in range(_READS):
            found, read_at, more = await self._reader.page(query, start)
            if await self._reader.complete(found):
                documents = tuple(one.document() for one in found)
                return Page(documents, read_at, next_cursor(query, documents[-1]) if more else None)
        raise _parts_missing(query.collection)

    async def commit(self, writes: Sequence[Write]) -> Commit:
        check_writes(writes)
        known = {w.path: held_at(w.precondition.version) for w in writes if isinstance(w.precondition, AtVersion)}
        for path, held in known.items():
            if self._reader.is_past(held.expire_at):
                raise StoreConflict(f"{path} has expired since it was read.")
        guards = await self._read_first(writes, known)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._commit(writes, known, guards)
            except StoreConflict:
                if attempt == _ATTEMPTS or not await self._expired_in_the_way(writes, known, guards):
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def purge(self, limit: int = MAX_WRITES) -> int:  # noqa: ARG002 - the port's signature
        """Return 0: Firestore deletes by its TTL policies on `expire_at`."""
        return 0

    async def check(self) -> None:
        await self._reader.read(())

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _read_first(self, writes: Sequence[Write], known: dict[str, Held]) -> set[str]:
        """Learn what writes without a version replace, into `known`; return the paths of expired ones to replace.

        Raises StoreConflict where a document is asked to be there and is not.
        """
        blind = [w for w in writes if w.precondition is None or w.precondition is PRESENT]
        asked = [w for w in blind if isinstance(w, Delete) or w.path not in self._plain]
        if not asked:
            return set()
        found, read_at = await self._reader.read([w.path for w in asked])
        known |= {one.path: one.held for one in found}
        expired = {one.path for one in found if one.expired(read_at)}
        for write in asked:
            if write.precondition is PRESENT and (write.path in expired or write.path not in known):
                raise StoreConflict(f"{write.path} is not there.")
        return {w.path for w in asked if isinstance(w, Merge)} & expired

    async def _expired_in_the_way(self, writes: Sequence[Write], known: dict[str, Held], guards: set[str]) -> bool:
        """After a conflict: tell whether it can be expired documents alone, and prepare to replace them."""
        absent = {w.path for w in writes if w.precondition is ABSENT}
        if not absent | guards:
            return False
        before = {path: known[path] for path in guards}
        found, read_at = await self._reader.read(sorted(absent | guards))
        alive = {one.path for one in found if not one.expired(read_at)}
        if alive & absent:
            return False
        for path in absent | guards:
            known.pop(path, None)
        known |= {one.path: one.held for one in found}
        guards.clear()
        guards |= {one.path for one in found} - alive
        return {path: known[path] for path in guards} != before

    async def _commit(self, writes: Sequence[Write], known: Mapping[str, Held], guards: set[str]) -> Commit:
        conditional = bool(guards) or any(write.precondition is not None for write in writes)
        try:
            return await self._send(plan(writes, known, guards, tight=False), conditional)
        except DocumentTooLarge:
            # What is stored may leave no room for what a merge adds. In parts it takes next to nothing.
            if not any(isinstance(write, Merge) for write in writes):
                raise
            return await self._send(plan(writes, known, guards, tight=True), conditional)

    async def _send(self, planned: Sequence[Planned], conditional: bool) -> Commit:
        request = main_request(planned, self._client.database, self._read_backwards)
        if any(one.spilled for one in planned):
            await self._send_parts(planned)
        answer = await self._client.commit(types.CommitRequest.wrap(request), conditional=conditional)
        return self._committed(planned, types.CommitResponse.pb(answer))

    async def _send_parts(self, planned: Sequence[Planned]) -> None:
        """Write the parts, which nothing points at yet: whatever fails here, nothing was written that counts."""
        for request in part_requests(planned, self._client.database, datetime.now(UTC)):
            try:
                await self._client.commit(types.CommitRequest.wrap(request), conditional=False)
            except OutcomeUnknown as e:
                raise StoreUnavailable(f"The parts of a large document failed; nothing was written. {e.detail}") from e

    def _committed(self, planned: Sequence[Planned], answer: Any) -> Commit:
        committed_at = timestamp(answer.commit_time)
        self._reader.note_time(committed_at)
        versions: dict[str, str] = {}
        for one, result in zip(planned, answer.write_results, strict=False):  # behind them come those of the parts
            path = one.write.path
            if isinstance(one.write, Delete):
                self._plain.pop(path, None)
                continue
            held = Held(result.update_time.seconds, result.update_time.nanos, one.expiry_after(), one.parts_after())
            versions[path] = held.version()
            self._remember(path, plain=held.expire_at is None and not held.parts)
        return Commit(versions, committed_at)

    def _remember(self, path: str, *, plain: bool) -> None:
        self._plain.pop(path, None)
        if plain:
            self._plain[path] = None
        if len(self._plain) > _REMEMBERED:
            self._plain.popitem(last=False)


def _parts_missing(what: str) -> StoreUnavailable:
    return StoreUnavailable(f"Parts of a large document are missing ({what}): it is being replaced; try again.")
