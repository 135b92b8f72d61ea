"""The SQLite file: how it is opened, what is in it, and what its errors mean."""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from goagents.errors import StoreUnavailable
from goagents.store.indexes import Index
from goagents.store.paging import ID
from goagents.wal import enter_wal, primary_code

SCHEMA_VERSION = 1

# `fields` holds the scalars as a small JSON object, which the indexes look into; `payload` the containers, which
# nothing looks into. A field in both counts as it is in `fields`: setting one need not rewrite a large payload.
_SCHEMA = """
CREATE TABLE documents (
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    version INTEGER NOT NULL,
    expire_at TEXT,
    fields TEXT NOT NULL,
    payload TEXT,
    PRIMARY KEY (collection, id)
);
CREATE INDEX documents_expire_at ON documents (expire_at) WHERE expire_at IS NOT NULL;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('version', 0);
"""


def open_database(path: str, indexes: Sequence[Index], busy_timeout: float) -> sqlite3.Connection:
    """Open or make the file and bring its schema up to date. Blocks; raises StoreUnavailable, sqlite3.Error."""
    _make_file(Path(path))
    connection = connect(path, busy_timeout)
    try:
        enter_wal(connection, busy_timeout)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_size_limit=67108864")
        _migrate(connection, path, indexes)
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: str, busy_timeout: float) -> sqlite3.Connection:
    """Open a connection in autocommit: transactions begin and end where we say so."""
    return sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # conversations are nobody else's
    except OSError as e:
        raise StoreUnavailable(
            f"The database {path} cannot be written ({e.strerror}): choose another place with store.url or "
            "GOAGENTS_STORE=sqlite:///PATH, or give this user the right to write there."
        ) from e


def _migrate(connection: sqlite3.Connection, path: str, indexes: Sequence[Index]) -> None:
    found = _version(connection)
    if found > SCHEMA_VERSION:
        raise StoreUnavailable(
            f"The database {path} was made by a newer GoAgents (its schema is {found}, this version knows "
            f"{SCHEMA_VERSION}): upgrade GoAgents, or use another file."
        )
    if found == SCHEMA_VERSION and not _missing(connection, indexes):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _version(connection) == 0:  # asked again: another process may have come first
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        for statement in _missing(connection, indexes):
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _missing(connection: sqlite3.Connection, indexes: Sequence[Index]) -> list[str]:
    """The statements that make the declared indexes that are not there yet."""
    rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'").fetchall()
    there = {name for (name,) in rows}
    # An index is read in both directions, so one serves ascending and descending.
    wanted = {_index_name(index): index for index in indexes if index.fields != (ID,)}
    return [_index_sql(name, index) for name, index in wanted.items() if name not in there]


def _index_name(index: Index) -> str:
    return "_by_".join((index.collection, "_".join(index.fields)))


def _index_sql(name: str, index: Index) -> str:
    fields = ", ".join(map(field_sql, index.fields))
    return (
        f"CREATE INDEX {quoted(name)} ON documents (collection, {fields}, id) WHERE kind = {literal(index.collection)}"
    )


def field_sql(name: str) -> str:
    """The expression of a scalar field, as the indexes have it: a query must say the very same to use them."""
    return f"json_extract(fields, {json_path(name)})"


def json_path(name: str) -> str:
    return literal(f'$."{name}"')


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def unavailable(path: str, error: sqlite3.Error) -> StoreUnavailable:
    """Say what an error of SQLite means and what to do about it."""
    remedies = {
        sqlite3.SQLITE_BUSY: "is locked by another process: wait for it, or end it if it hangs.",
        sqlite3.SQLITE_LOCKED: "is locked by another process: wait for it, or end it if it hangs.",
        sqlite3.SQLITE_NOTADB: "is no database: move the file away, or choose another with GOAGENTS_STORE=sqlite:///PATH.",
        sqlite3.SQLITE_CORRUPT: "is damaged: restore it from a backup, or save what `sqlite3 FILE .recover` can read.",
        sqlite3.SQLITE_FULL: "cannot grow, the disk is full: free some space.",
        sqlite3.SQLITE_READONLY: "cannot be written: give this user the right to write the file and its folder.",
        sqlite3.SQLITE_CANTOPEN: "cannot be opened: give this user the right to write the file and its folder.",
        sqlite3.SQLITE_IOERR: "cannot be read or written: check the disk; a network file system will not do.",
    }
    return StoreUnavailable(f"The database {path} {remedies.get(primary_code(error), 'failed.')} ({error})")
