"""Queries checked against the declared indexes, and the cursors of their pages."""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from goagents.errors import Invalid
from goagents.store.base import MAX_PAGE, Document, Query
from goagents.store.encoding import Scalar, as_utc, check_collection, check_number, split, time_text
from goagents.store.indexes import Index

ID = "__name__"  # what Firestore calls a document's id in an index
MAX_PAGE_BYTES = 32 * 1024 * 1024  # a page of large documents ends early, so that it fits into memory


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page begins: behind the document with this id and this value of the `order_by` field."""

    value: Scalar
    id: str


def check_query(query: Query, indexes: Sequence[Index]) -> Index | None:
    """Return the index that serves a query, None for one in the order of ids alone.

    Raises Invalid for a limit or collection path that cannot be, ValueError for a query that no index is declared for.
    """
    collection = check_collection(query.collection)
    if not 1 <= query.limit <= MAX_PAGE:
        raise Invalid(f"A page holds 1 to {MAX_PAGE} documents, not {query.limit}.")
    equal = [f.field for f in query.where if f.op == "=="]
    ranges = [f for f in query.where if f.op != "=="]
    if any(f.field != query.order_by for f in ranges):
        raise ValueError(f"A query of {query.collection} has a range on a field that it does not order by.")
    if any(f.value is None or isinstance(f.value, list | dict) for f in query.where):
        raise ValueError(
            f"A query of {query.collection} filters by a value that is no string, number, boolean or time."
        )
    if not equal and query.order_by is None and not query.descending:
        return None
    fields = (*equal, query.order_by or ID)
    for index in indexes:
        if index.collection == collection and _serves(index, equal, query):
            return index
    raise ValueError(
        f"No index serves a query of {collection!r} by {fields}{' descending' if query.descending else ''}: "
        "declare it in store/indexes.py."
    )


def _serves(index: Index, equal: list[str], query: Query) -> bool:
    count = len(equal)
    order = (query.order_by,) if query.order_by else (ID,) if not equal else ()
    if set(index.fields[:count]) != set(equal) or index.fields[count:] != order:
        return False
    # A field alone is indexed both ways, and so are equalities alone; ids only upward.
    return index.descending == query.descending or (index.fields != (ID,) and len(order) + count == 1) or not order


def next_cursor(query: Query, last: Document) -> str:
    """Return the opaque cursor of the page after the one that `last` ends."""
    value = last.data.get(query.order_by) if query.order_by else None
    kind, plain = ("time", time_text(value)) if isinstance(value, datetime) else ("value", value)
    text = json.dumps([_fingerprint(query), kind, plain, last.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position(query: Query) -> Position | None:
    """Read the cursor in `query.after`. Raises Invalid for one that is none of ours, or is another query's."""
    if query.after is None:
        return None
    try:
        padded = query.after + "=" * (-len(query.after) % 4)
        fingerprint, kind, plain, document_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        value = _time(plain) if kind == "time" else _value(plain)
        _check_id(query, document_id)
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError, Invalid) as e:
        raise Invalid("This page token is none of ours: pass next_page_token as it came.") from e
    if fingerprint != _fingerprint(query):
        raise Invalid("This page token belongs to another list: start again without it.")
    return Position(value, document_id)


def _time(plain: Any) -> datetime:
    """Raises TypeError, ValueError or OverflowError for what is no time of a document."""
    return as_utc("a page token", "time", datetime.fromisoformat(plain))


def _value(plain: Any) -> Scalar:
    """Raises TypeError or ValueError for what no document holds as a scalar."""
    if isinstance(plain, str):
        plain.encode()  # half of a surrogate pair is no text
    elif plain is not None and not isinstance(plain, bool | int | float):
        raise TypeError("Only scalars are ordered by.")
    check_number("a page token", "value", plain)
    return plain  # type: ignore[no-any-return]


def _check_id(query: Query, document_id: Any) -> None:
    """Raises TypeError or Invalid for what is no id of a document."""
    if not isinstance(document_id, str) or "/" in document_id:
        raise TypeError("An id is one segment of a path.")
    split(f"{query.collection}/{document_id}")


def _fingerprint(query: Query) -> str:
    where = [(f.field, f.op, str(f.value)) for f in query.where]
    identity = json.dumps([query.collection, where, query.order_by, query.descending])
    return hashlib.sha256(identity.encode()).hexdigest()[:12]
