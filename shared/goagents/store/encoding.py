"""What both stores make of a document: its path split, its fields checked, scalars apart from payload.

Scalars (null, booleans, numbers, strings, datetimes) can be filtered on and stay native; containers are payload and
become JSON text, which is quick in Python and knows none of Firestore's limits on nesting.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from goagents.errors import DocumentTooLarge, Invalid
from goagents.store.base import MAX_PAGE, MAX_WRITES, Merge, Put, Write

MAX_DOCUMENT = 16 * 1024 * 1024  # bytes; more belongs into an object store
MAX_ID = 1500  # bytes of UTF-8, Firestore's bound
_INT64 = 1 << 63
# Nearly every path is of this form: one match says so, where a look at each segment takes ten times as long.
_PLAIN = re.compile(r"[A-Za-z0-9~-][A-Za-z0-9_.~-]*(?:/[A-Za-z0-9~-][A-Za-z0-9_.~-]*)*")

_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode  # made once

Scalar = None | bool | int | float | str | datetime


@dataclass(frozen=True, slots=True)
class Fields:
    """A document's fields apart: `payloads` holds JSON text; `sizes` the bytes of each payload and string."""

    scalars: dict[str, Scalar]
    payloads: dict[str, str]
    sizes: dict[str, int]

    @property
    def size(self) -> int:
        return sum(self.sizes.values()) + sum(len(name) + 16 for name in self.scalars)


def split(path: str) -> tuple[str, str]:
    """Return a document path's collection and id. Raises Invalid for what is no document path."""
    collection, _, document_id = path.rpartition("/")
    if path.count("/") % 2 == 0 or not _are_segments(path):
        raise Invalid(f"{path[:200]!r} is no path of a document: collections and ids alternate, none of them empty.")
    return collection, document_id


def check_collection(path: str) -> str:
    """Return the collection's own name. Raises Invalid for what is no path of a collection."""
    if path.count("/") % 2 or not _are_segments(path):
        raise Invalid(f"{path[:200]!r} is no path of a collection: collections and ids alternate, none of them empty.")
    return path.rpartition("/")[2]


def _are_segments(path: str) -> bool:
    return (len(path) <= MAX_ID and _PLAIN.fullmatch(path) is not None) or all(map(_is_segment, path.split("/")))


def _is_segment(text: str) -> bool:
    if text in ("", ".", "..") or (text.startswith("__") and text.endswith("__")):
        return False
    try:
        return len(text) <= MAX_ID and len(text.encode()) <= MAX_ID
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def check_paths(paths: Sequence[str]) -> None:
    """Raises Invalid for a path that is none, ValueError for more than MAX_PAGE of them."""
    if len(paths) > MAX_PAGE:
        raise ValueError(f"{len(paths)} documents in one read: read at most {MAX_PAGE} together.")
    for path in paths:
        split(path)


def check_writes(writes: Sequence[Write]) -> None:
    """Raises Invalid for a path that is none, ValueError for a commit that breaks the port's rules."""
    if len(writes) > MAX_WRITES:
        raise ValueError(f"{len(writes)} writes in one commit: commit at most {MAX_WRITES} together.")
    seen: set[str] = set()
    for write in writes:
        split(write.path)
        if write.path in seen:
            raise ValueError(f"{write.path} is written twice in one commit: make it one write.")
        seen.add(write.path)
        if isinstance(write, Put | Merge):
            _check_transforms(write)


def _check_transforms(write: Put | Merge) -> None:
    increments: Mapping[str, int | float] = write.increments if isinstance(write, Merge) else {}
    for name in write.server_time:
        if not name.endswith("_at"):
            raise ValueError(f"{write.path}: server_time names {name!r}, but a datetime's field ends in `_at`.")
    for name, amount in increments.items():
        _check_name(write.path, name)
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            raise TypeError(f"{write.path}: {name!r} is incremented by a {type(amount).__name__}, not by a number.")
        check_number(write.path, name, amount)
    names = [*write.data, *increments, *write.server_time]
    if len(set(names)) != len(names):
        raise ValueError(f"{write.path}: a field is both set and transformed.")


def encode(path: str, data: Mapping[str, Any]) -> Fields:
    """Check and encode a document's data.

    Raises:
        ValueError, TypeError: a value that the port does not take, a mistake in the program.
        DocumentTooLarge: more than MAX_DOCUMENT bytes, or nested too deeply to be written as JSON.
    """
    fields = Fields({}, {}, {})
    for name, value in data.items():
        _check_name(path, name)
        if isinstance(value, datetime) != (name.endswith("_at") and value is not None):
            raise ValueError(
                f"{path}: {name!r} is a {type(value).__name__}; fields ending in `_at`, and no other, are datetimes."
            )
        if isinstance(value, datetime):
            fields.scalars[name] = as_utc(path, name, value)
        elif isinstance(value, str):
            _add_text(fields, name, value)
        elif value is None or isinstance(value, bool | int | float):
            check_number(path, name, value)
            fields.scalars[name] = value
        else:
            _add_payload(fields, path, name, value)
    check_size(path, fields.size)
    return fields


def check_size(path: str, size: int) -> None:
    if size > MAX_DOCUMENT:
        raise DocumentTooLarge(
            f"{path} would take {size / 1048576:.1f} MiB, and a document may take {MAX_DOCUMENT // 1048576} MiB: "
            "keep large content elsewhere and store where it is."
        )


def _check_name(path: str, name: str) -> None:
    if not name or name.startswith("_") or not name.isprintable():
        raise ValueError(f"{path}: a field cannot be named {name!r}; names that begin with `_` are the store's own.")


def check_number(path: str, name: str, value: Any) -> None:
    """Raises ValueError for a number that no store takes; what is no number passes."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}: {name!r} is {value}, which JSON does not know.")
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise ValueError(f"{path}: {name!r} is an integer of more than 64 bits; store it as a string.")


def as_utc(path: str, name: str, value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError(f"{path}: {name!r} is a datetime without time zone.")
    return value.astimezone(UTC)


def _add_text(fields: Fields, name: str, value: str) -> None:
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        fields.payloads[name], fields.sizes[name] = json_text(value)
        return
    fields.scalars[name] = value
    fields.sizes[name] = size


def _add_payload(fields: Fields, path: str, name: str, value: Any) -> None:
    try:
        fields.payloads[name], fields.sizes[name] = json_text(value)
    except RecursionError as e:
        raise DocumentTooLarge(f"{path}: {name!r} is nested too deeply to be stored.") from e
    except (TypeError, ValueError) as e:
        raise type(e)(f"{path}: {name!r} is no JSON value: {e}") from e


def json_text(value: Any) -> tuple[str, int]:
    """Return a value as compact JSON and its size in bytes."""
    text = _to_json(value)
    if text.isascii():
        return text, len(text)
    try:
        return text, len(text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair: only JSON's escapes can hold it
        text = json.dumps(value, separators=(",", ":"))
        return text, len(text)


def time_text(moment: datetime) -> str:
    """As text that sorts as the times do; `datetime.fromisoformat` reads it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def decode_times(data: dict[str, Any], names: Iterable[str]) -> None:
    """Turn the texts of the fields among `names` that end in `_at` back into datetimes, in place."""
    for name in names:
        if name.endswith("_at") and data[name] is not None:
            data[name] = datetime.fromisoformat(data[name])


def increment(current: Any, amount: float) -> float:
    """What becomes of a number that is incremented: absent, or no number, counts as 0."""
    is_number = isinstance(current, int | float) and not isinstance(current, bool)
    return current + amount if is_number else amount
