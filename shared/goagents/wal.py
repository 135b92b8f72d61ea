"""SQLite's write-ahead log, where readers and a writer do not wait for each other: how a file is put into it."""

import sqlite3
import time

_RETRY_SECONDS = 0.02


def enter_wal(connection: sqlite3.Connection, patience: float) -> None:
    """Switch the file to a write-ahead log, if it is not yet in one. Blocks for at most `patience` seconds.

    Several connections may open a new file at once, and SQLite's own busy timeout does not cover this switch.
    Raises sqlite3.Error.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as e:
            if not is_busy(e) or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection is at work in the file, so that the same again may go well."""
    return primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without what extends it; 0 where Python raised the error itself."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
