"""Idempotency keys in a SQLite file, for the processes of one machine."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from goagents.errors import StoreUnavailable
from goagents.wal import enter_wal

from .keys import LEASE, Entry

_BUSY_SECONDS = 10.0
_SWEPT = 100  # expired keys that a claim deletes on its way
_SCHEMA = """
CREATE TABLE IF NOT EXISTS toolkit_keys (
  key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, token TEXT NOT NULL, at REAL NOT NULL, result BLOB
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS toolkit_keys_at ON toolkit_keys (at);
"""


class SqliteKeyStore:
    """The keys of all processes that open the file `path`; made if it is not there. Not for a network file system.

    Keys are kept for `kept_for` seconds, claims of processes that died for `lease` seconds. Raises StoreUnavailable
    where the file cannot be used.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        kept_for: float = 7 * 86_400,
        lease: float = LEASE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(path)
        self._kept_for = kept_for
        self._lease = lease
        self._now = now

    def claim(self, key: str, fingerprint: str, token: str) -> Entry:
        now = self._now()
        with self._transaction() as database:
            database.execute(
                "DELETE FROM toolkit_keys WHERE key IN (SELECT key FROM toolkit_keys WHERE at <= ? LIMIT ?)",
                (now - self._kept_for, _SWEPT),
            )
            row = database.execute(
                "SELECT fingerprint, token, result, at FROM toolkit_keys WHERE key = ?", (key,)
            ).fetchone()
            if row is not None and not self._is_left_behind(row, fingerprint, now):
                return Entry(row[0], row[1], row[2])
            database.execute(
                "INSERT OR REPLACE INTO toolkit_keys (key, fingerprint, token, at) VALUES (?, ?, ?, ?)",
                (key, fingerprint, token, now),
            )
            return Entry(fingerprint, token)

    def record(self, key: str, token: str, result: bytes) -> None:
        with self._transaction() as database:
            database.execute(
                "UPDATE toolkit_keys SET result = ?, at = ? WHERE key = ? AND token = ? AND result IS NULL",
                (result, self._now(), key, token),
            )

    def release(self, key: str, token: str) -> None:
        with self._transaction() as database:
            database.execute("DELETE FROM toolkit_keys WHERE key = ? AND token = ? AND result IS NULL", (key, token))

    def _is_left_behind(self, row: tuple[str, str, bytes | None, float], fingerprint: str, now: float) -> bool:
        known, _token, result, at = row
        return now - at >= self._kept_for or (result is None and known == fingerprint and now - at >= self._lease)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        # A connection for each: it outlives neither a fork nor a thread, and costs less than a call of a tool.
        try:
            with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
                enter_wal(database, _BUSY_SECONDS)
                database.executescript(_SCHEMA)
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")  # an exception closes the connection, and that rolls back
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The file of idempotency keys cannot be used: {error}.") from error
