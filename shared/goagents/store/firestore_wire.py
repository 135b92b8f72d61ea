"""Documents as Firestore's protocol has them, and back.

Scalars are native. A payload is a map of one entry, `{"json": TEXT}`, and one kept in parts is
`{"parts": ID, "count": N}`: no scalar looks like that, and both can be read in the console. `_write` is a value that is
new with every write, because Firestore keeps a document's update time when a write changes nothing. Raw protobuf
messages throughout: the wrappers of the client library take many times as long. `_id` is the document's id, in the
collections that are read backwards by id: Firestore orders by a key upward only, and by a field both ways.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import types

from goagents.errors import StoreConflict
from goagents.store.base import Document
from goagents.store.encoding import Scalar

WRITE_ID = "_write"
ID_FIELD = "_id"
EXPIRY = "expire_at"

ValuePb: Any = types.Value.pb()
DocumentPb: Any = types.Document.pb()
WritePb: Any = types.Write.pb()
TransformPb: Any = types.DocumentTransform.FieldTransform.pb()

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SIMPLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SERVER_TIME = TransformPb.ServerValue.REQUEST_TIME


@dataclass(frozen=True, slots=True)
class Parts:
    """Where one field's content lies: `count` documents named by `id`."""

    id: str
    count: int

    def paths(self, path: str) -> list[str]:
        return [f"{path}/_parts/{self.id}-{number:04d}" for number in range(self.count)]


@dataclass(frozen=True, slots=True)
class Held:
    """What the store holds at a path, as far as a write must know it; expired or not."""

    seconds: int
    nanos: int
    expire_at: datetime | None = None
    parts: Mapping[str, Parts] | None = None  # by field

    def version(self) -> str:
        """The update time in full. Expiry and parts ride along, so that who writes at a version need not read first."""
        text = f"{self.seconds}.{self.nanos:09d}"
        if self.expire_at is None and not self.parts:
            return text
        parts = {name: [p.id, p.count] for name, p in (self.parts or {}).items()}
        expire_at = self.expire_at.isoformat() if self.expire_at else None
        return f"{text} {json.dumps([expire_at, parts], separators=(',', ':'))}"


def held_at(version: str) -> Held:
    """Read a version. Raises StoreConflict for one that is none of ours: no document has it."""
    text, _, extra = version.partition(" ")
    try:
        seconds, nanos = map(int, text.split("."))
        expire_at, parts = json.loads(extra) if extra else (None, {})
        expiry = datetime.fromisoformat(expire_at) if expire_at else None
        return Held(seconds, nanos, expiry, {name: Parts(*where) for name, where in parts.items()})
    except (ValueError, TypeError, AttributeError) as e:
        raise StoreConflict("That version is none of this store's.") from e


def set_timestamp(message: Any, moment: datetime) -> None:
    passed = moment - _EPOCH
    message.seconds = passed.days * 86400 + passed.seconds
    message.nanos = passed.microseconds * 1000


def timestamp(message: Any) -> datetime:
    return _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def set_scalar(value: Any, scalar: Scalar) -> None:
    if scalar is None:
        value.null_value = 0
    elif isinstance(scalar, bool):
        value.boolean_value = scalar
    elif isinstance(scalar, int):
        value.integer_value = scalar
    elif isinstance(scalar, float):
        value.double_value = scalar
    elif isinstance(scalar, str):
        value.string_value = scalar
    else:
        set_timestamp(value.timestamp_value, scalar)


def set_payload(value: Any, text: str) -> None:
    value.map_value.fields["json"].string_value = text


def set_parts(value: Any, parts: Parts) -> None:
    value.map_value.fields["parts"].string_value = parts.id
    value.map_value.fields["count"].integer_value = parts.count


def server_time(name: str) -> Any:
    return TransformPb(field_path=mask_path(name), set_to_server_value=_SERVER_TIME)


def increment(name: str, amount: float) -> Any:
    transform = TransformPb(field_path=mask_path(name))
    set_scalar(transform.increment, amount)
    return transform


def mask_path(name: str) -> str:
    if _SIMPLE_NAME.fullmatch(name):
        return name
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


@dataclass(slots=True)
class Found:
    """A document as read; the fields in `held.parts` are still missing from `data`."""

    path: str
    data: dict[str, Any]
    held: Held
    size: int

    def document(self) -> Document:
        return Document(self.path, self.data, self.held.version())

    def expired(self, now: datetime) -> bool:
        return self.held.expire_at is not None and self.held.expire_at <= now


def read_document(message: Any, root: str) -> Found:
    data: dict[str, Any] = {}
    parts: dict[str, Parts] = {}
    for name, value in message.fields.items():
        if name in (WRITE_ID, ID_FIELD):
            continue
        content = _content(value)
        if isinstance(content, Parts):
            parts[name] = content
        else:
            data[name] = content
    expire_at = data.get(EXPIRY)
    held = Held(
        message.update_time.seconds,
        message.update_time.nanos,
        expire_at if isinstance(expire_at, datetime) else None,
        parts,
    )
    return Found(message.name[len(root) + 1 :], data, held, message.ByteSize())


def _content(value: Any) -> Any:
    kind = value.WhichOneof("value_type")
    if kind == "map_value":
        entries = value.map_value.fields
        if "parts" in entries:
            return Parts(entries["parts"].string_value, entries["count"].integer_value)
        return json.loads(entries["json"].string_value)
    if kind == "timestamp_value":
        return timestamp(value.timestamp_value)
    if kind == "null_value":
        return None
    return getattr(value, kind)


def part_content(messages: Iterable[Any]) -> Any:
    """Put a field together from its part documents, in order."""
    return json.loads(b"".join(message.fields["content"].bytes_value for message in messages))
