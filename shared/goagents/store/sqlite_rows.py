"""Documents as rows of the SQLite file: reading, querying, writing. All of it inside a transaction of the caller."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from goagents.errors import StoreConflict
from goagents.store.base import ABSENT, PRESENT, AtVersion, Delete, Document, Filter, Merge, Put, Query, Write
from goagents.store.encoding import Fields, check_size, decode_times, encode, increment, json_text, split, time_text
from goagents.store.paging import Position
from goagents.store.sqlite_schema import field_sql, json_path, literal

Row = tuple[str, str, int, str, str | None]  # collection, id, version, fields, payload

_COLUMNS = "collection, id, version, fields, payload"
_ALIVE = "(expire_at IS NULL OR expire_at > ?)"
_GET = f"SELECT {_COLUMNS} FROM documents WHERE collection = ? AND id = ? AND {_ALIVE}"  # noqa: S608 - constants only
_GET_MANY = f"""
    SELECT d.collection, d.id, version, fields, payload FROM json_each(?) AS wanted
    JOIN documents AS d ON d.collection = wanted.value ->> 0 AND d.id = wanted.value ->> 1 WHERE {_ALIVE}"""  # noqa: S608 - constants only
_UPSERT = """
    INSERT INTO documents (collection, id, kind, version, expire_at, fields, payload) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (collection, id) DO UPDATE SET version = excluded.version, expire_at = excluded.expire_at,
    fields = excluded.fields, payload = excluded.payload"""
_DELETE = "DELETE FROM documents WHERE collection = ? AND id = ?"
_PURGE = """
    DELETE FROM documents WHERE rowid IN
    (SELECT rowid FROM documents WHERE expire_at <= ? ORDER BY expire_at LIMIT ?)"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A write with its data checked and encoded, which may be done before it is its turn."""

    write: Write
    collection: str
    id: str
    fields: Fields | None


def prepare(write: Write) -> Prepared:
    collection, document_id = split(write.path)
    return Prepared(
        write, collection, document_id, None if isinstance(write, Delete) else encode(write.path, write.data)
    )


def get_many(connection: sqlite3.Connection, paths: Sequence[str], now: datetime) -> list[Row]:
    """Read documents in one statement, which sees one moment."""
    if len(paths) == 1:
        return connection.execute(_GET, (*split(paths[0]), time_text(now))).fetchall()
    wanted = json.dumps([split(path) for path in dict.fromkeys(paths)])
    return connection.execute(_GET_MANY, (wanted, time_text(now))).fetchall()


def document(row: Row) -> Document:
    collection, document_id, version, fields, payload = row
    data: dict[str, Any] = json.loads(fields)
    decode_times(data, list(data))
    if payload is not None:
        data = {**json.loads(payload), **data}
    return Document(f"{collection}/{document_id}", data, str(version))


def query_sql(query: Query, start: Position | None, now: datetime) -> tuple[str, list[Any]]:
    """Return the statement of a query and its parameters; it asks for one more than the page holds."""
    kind = query.collection.rpartition("/")[2]
    # The kind is a literal: only so SQLite can prove that a partial index serves the query.
    conditions, values = ["collection = ?", f"kind = {literal(kind)}", _ALIVE], [query.collection, time_text(now)]
    for f in query.where:
        condition, value = _condition(f)
        conditions.append(condition)
        values += value
    if query.order_by:
        conditions.append(f"json_type(fields, {json_path(query.order_by)}) IS NOT NULL")
    if start:
        condition, value = _behind(query, start)
        conditions.append(condition)
        values += value
    direction = " DESC" if query.descending else ""
    order = f"{field_sql(query.order_by)}{direction}, id{direction}" if query.order_by else f"id{direction}"
    where = " AND ".join(conditions)
    # Nothing of a caller stands in it: values are bound, and fields and kind are those of a declared index, quoted.
    sql = f"SELECT {_COLUMNS} FROM documents WHERE {where} ORDER BY {order} LIMIT ?"  # noqa: S608 - see above
    return sql, [*values, query.limit + 1]


def _condition(f: Filter) -> tuple[str, list[Any]]:
    """Compare within one type, as Firestore does: true is not 1, and no text is more than a number."""
    field, json_type = field_sql(f.field), f"json_type(fields, {json_path(f.field)})"
    comparison = f"{field} {'=' if f.op == '==' else f.op} ?"
    if isinstance(f.value, bool):
        return f"{comparison} AND {json_type} IN ('true', 'false')", [int(f.value)]
    if isinstance(f.value, int | float):
        return f"{comparison} AND {json_type} IN ('integer', 'real')", [f.value]
    return f"{comparison} AND {json_type} = 'text'", [_plain(f.value)]


def _behind(query: Query, start: Position) -> tuple[str, list[Any]]:
    more = "<" if query.descending else ">"
    if query.order_by is None:
        return f"id {more} ?", [start.id]
    field = field_sql(query.order_by)
    if start.value is not None:
        rest = f" OR {field} IS NULL" if query.descending else ""
        return f"(({field}, id) {more} (?, ?){rest})", [_plain(start.value), start.id]
    rest = "" if query.descending else f" OR {field} IS NOT NULL"
    return f"(({field} IS NULL AND id {more} ?){rest})", [start.id]


def _plain(value: Any) -> Any:
    return time_text(value) if isinstance(value, datetime) else value


def write_all(
    connection: sqlite3.Connection, writes: Iterable[Prepared], version: int, now: datetime
) -> dict[str, str]:
    """Apply the writes of one commit. Raises StoreConflict and DocumentTooLarge; the caller rolls back."""
    versions: dict[str, str] = {}
    for prepared in writes:
        _write(connection, prepared, version, now)
        if prepared.fields is not None:
            versions[prepared.write.path] = str(version)
    return versions


def _write(connection: sqlite3.Connection, prepared: Prepared, version: int, now: datetime) -> None:
    write, key = prepared.write, (prepared.collection, prepared.id)
    row: Row | None = None
    if write.precondition is not None or isinstance(write, Merge):
        row = connection.execute(_GET, (*key, time_text(now))).fetchone()
        _check_precondition(write, row)
    if prepared.fields is None or isinstance(write, Delete):
        connection.execute(_DELETE, key)
        return
    fields, payload = _merged(write, prepared.fields, row if isinstance(write, Merge) else None, now)
    check_size(write.path, len(payload or "") + len(fields))
    kind = prepared.collection.rpartition("/")[2]
    expire_at = json.loads(fields).get("expire_at") if '"expire_at"' in fields else None
    connection.execute(_UPSERT, (*key, kind, version, expire_at, fields, payload))


def _check_precondition(write: Write, row: Row | None) -> None:
    wanted = write.precondition
    if wanted is ABSENT and row is not None:
        raise StoreConflict(f"{write.path} is there already.")
    if wanted is PRESENT and row is None:
        raise StoreConflict(f"{write.path} is not there.")
    if isinstance(wanted, AtVersion) and (row is None or str(row[2]) != wanted.version):
        raise StoreConflict(f"{write.path} has changed since it was read.")


def _merged(write: Put | Merge, new: Fields, row: Row | None, now: datetime) -> tuple[str, str | None]:
    """Return a document's two columns as they become; `row` is what a merge goes into."""
    scalars: dict[str, Any] = json.loads(row[3]) if row else {}
    scalars |= {name: _plain(value) for name, value in new.scalars.items()}
    scalars |= dict.fromkeys(write.server_time, time_text(now))
    if isinstance(write, Merge):
        for name, amount in write.increments.items():
            scalars[name] = increment(scalars.get(name), amount)
    for name in new.payloads:
        scalars.pop(name, None)
    payload = row[4] if row else None
    if new.payloads:
        payload = _payload(payload, new.payloads)
    return json.dumps(scalars, ensure_ascii=False, separators=(",", ":")), payload


def _payload(stored: str | None, new: dict[str, str]) -> str:
    kept: dict[str, Any] = json.loads(stored) if stored else {}
    texts = {name: json_text(value)[0] for name, value in kept.items() if name not in new}
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in (texts | new).items()) + "}"


def purge(connection: sqlite3.Connection, limit: int, now: datetime) -> int:
    return connection.execute(_PURGE, (time_text(now), limit)).rowcount
