"""The embedded store: one SQLite file (WAL), used by several processes at once.

Reads run where they are asked for: one takes some 10 µs, a hop to a thread and back costs several times that, and a
reader in WAL mode waits for no lock. Writes go to one thread, see `sqlite_writer`. `synchronous=FULL`: a commit that
was answered survives a power failure; commits that wait together share the fsync, which is what makes it affordable.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from goagents.clock import Clock, SystemClock
from goagents.errors import OutcomeUnknown, StoreUnavailable
from goagents.store import sqlite_rows as rows
from goagents.store.base import MAX_WRITES, Commit, Document, Page, Query, Snapshot, Write
from goagents.store.encoding import check_paths, check_writes
from goagents.store.indexes import INDEXES, Index
from goagents.store.paging import MAX_PAGE_BYTES, check_query, next_cursor, position
from goagents.store.sqlite_schema import unavailable
from goagents.store.sqlite_writer import Work, Writer
from goagents.wal import is_busy

T = TypeVar("T")


class SQLiteStore:
    """A `Store` in the file at `path`. Opens nothing until its first use, then makes file and folder if need be.

    `busy_timeout` is how many seconds to wait for another process's lock, `timeout` for an answer of the disk.
    `indexes` are the queries it serves; `clock` is the server time of this store.
    """

    def __init__(
        self,
        path: str,
        *,
        indexes: Sequence[Index] = INDEXES,
        clock: Clock | None = None,
        busy_timeout: float = 5.0,
        timeout: float = 30.0,
    ) -> None:
        if not path or path == ":memory:" or "\0" in path:
            raise ValueError(f"The SQLite store needs the path of a file, not {path!r}.")
        self.path = path
        self._indexes = tuple(indexes)
        self._clock = clock or SystemClock()
        self._timeout = timeout
        self._writer = Writer(path, self._indexes, self._clock, busy_timeout)
        self._closed = False

    async def get_many(self, paths: Sequence[str]) -> Snapshot:
        check_paths(paths)
        now, found = await self._read(lambda connection, now: (now, rows.get_many(connection, paths, now)))
        return Snapshot({document.path: document for document in map(rows.document, found)}, now)

    async def query(self, query: Query) -> Page:
        check_query(query, self._indexes)
        start = position(query)

        def read(connection: sqlite3.Connection, now: datetime) -> Page:
            found = connection.execute(*rows.query_sql(query, start, now))
            try:
                return _page(query, found, now)
            finally:
                found.close()  # an open cursor would hold its snapshot, and the log could not be cut

        return await self._read(read)

    async def commit(self, writes: Sequence[Write]) -> Commit:
        check_writes(writes)
        prepared = [rows.prepare(write) for write in writes]

        def work(connection: sqlite3.Connection, version: int, now: datetime) -> Commit:
            return Commit(rows.write_all(connection, prepared, version, now), now)

        return await self._submit(work)

    async def purge(self, limit: int = MAX_WRITES) -> int:
        return await self._submit(lambda connection, _, now: rows.purge(connection, limit, now))

    async def check(self) -> None:
        """Take the write lock once: proves that the file is there, sound, and can be written."""
        await self._submit(lambda *_: None)

    async def aclose(self) -> None:
        """Finish the commits under way and close the file."""
        self._closed = True
        await self._writer.stop()

    async def _read(self, work: Callable[[sqlite3.Connection, datetime], T]) -> T:
        self._check_open()
        if self._writer.reader is None:
            await self.check()
        if (reader := self._writer.reader) is not None:
            try:
                return work(reader, self._clock.now())
            except sqlite3.Error as e:
                if not is_busy(e):
                    raise unavailable(self.path, e) from e
        # Another process is recovering the log: the writer's connection waits for that.
        return await self._submit(lambda connection, _, now: work(connection, now))

    async def _submit(self, work: Work[T]) -> T:
        self._check_open()
        try:
            async with asyncio.timeout(self._timeout):
                return await self._writer.submit(work)
        except TimeoutError as e:
            raise OutcomeUnknown(
                f"The disk of {self.path} has not answered for {self._timeout:g} s; the commit may have been applied."
            ) from e

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"The database {self.path} is closed: make a new SQLiteStore.")


def _page(query: Query, found: sqlite3.Cursor, now: datetime) -> Page:
    documents: list[Document] = []
    size = 0
    for row in found:
        if len(documents) == query.limit or size > MAX_PAGE_BYTES:
            return Page(tuple(documents), now, next_cursor(query, documents[-1]))
        documents.append(rows.document(row))
        size += len(row[3]) + len(row[4] or "")
    return Page(tuple(documents), now)
