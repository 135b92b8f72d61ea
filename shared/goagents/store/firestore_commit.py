"""A commit as Firestore takes it: large fields cut into parts, preconditions, transforms, and the parts' own fate.

Parts are written first, under fresh ids and with an `expire_at` a day ahead; the main commit points at them and sets
their expiry to that of their document, in one step. So parts that nothing points at vanish by themselves. The parts of
what a commit replaces or deletes go in that same commit.
"""

import secrets
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import types

from goagents.errors import DocumentTooLarge
from goagents.ids import new_id
from goagents.store.base import ABSENT, MAX_WRITES, AtVersion, Delete, Merge, Put, Write
from goagents.store.encoding import Fields, encode, json_text
from goagents.store.firestore_wire import (
    EXPIRY,
    ID_FIELD,
    WRITE_ID,
    DocumentPb,
    Held,
    Parts,
    WritePb,
    increment,
    mask_path,
    server_time,
    set_parts,
    set_payload,
    set_scalar,
    set_timestamp,
)

CommitRequestPb: Any = types.CommitRequest.pb()

MESSAGE_LIMIT = 3_500_000  # bytes of one commit; larger messages are refused, and retried in vain by the library
PART_SIZE = 900_000
PUT_INLINE = 768 * 1024  # a document may take 1 MiB
MERGE_INLINE = 192 * 1024  # it comes on top of what is stored
TIGHT_INLINE = 4 * 1024  # after a merge was refused because the stored document is nearly full
MIN_SPILL = 1024
PROVISIONAL = timedelta(days=1)
_WRITE_OVERHEAD = 512  # names, preconditions, transforms


@dataclass(slots=True)
class Planned:
    """One write on its way. `known` is what the store holds there, where that is known.

    `guard`: the write is to replace an expired document, exactly the one known, as if it were absent.
    """

    write: Write
    fields: Fields | None
    known: Held | None = None
    guard: bool = False
    spilled: dict[str, tuple[Parts, bytes]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return _WRITE_OVERHEAD + (self.fields.size if self.fields else 0)

    @property
    def fresh(self) -> bool:
        """Nothing of what is stored stays."""
        return isinstance(self.write, Put) or self.guard or self.write.precondition is ABSENT

    def spillable(self) -> dict[str, int]:
        return {name: size for name, size in (self.fields.sizes if self.fields else {}).items() if size >= MIN_SPILL}

    def spill(self, name: str) -> None:
        """Take one field out of the document and into parts."""
        fields = self.fields
        if fields is None:
            return
        text = fields.payloads.pop(name, None) or json_text(fields.scalars.pop(name))[0]
        content = text.encode()
        del fields.sizes[name]
        self.spilled[name] = (Parts(new_id("part"), -(-len(content) // PART_SIZE)), content)

    def changed(self) -> set[str]:
        """The fields that the write sets."""
        if isinstance(self.write, Delete):
            return set()
        increments = self.write.increments if isinstance(self.write, Merge) else {}
        return {*self.write.data, *increments, *self.write.server_time}

    def parts_after(self) -> dict[str, Parts]:
        kept = {} if self.fresh else {n: p for n, p in self._known_parts().items() if n not in self.changed()}
        return kept | {name: parts for name, (parts, _) in self.spilled.items()}

    def parts_before(self) -> Iterator[Parts]:
        """The parts that nothing points at any more after this write."""
        if isinstance(self.write, Delete) or self.fresh:
            yield from self._known_parts().values()
            return
        yield from (parts for name, parts in self._known_parts().items() if name in self.changed())

    def expiry_after(self) -> datetime | None:
        if self.fields and EXPIRY in self.fields.scalars:
            expire_at = self.fields.scalars[EXPIRY]
            return expire_at if isinstance(expire_at, datetime) else None
        return None if self.fresh or self.known is None else self.known.expire_at

    def _known_parts(self) -> Mapping[str, Parts]:
        return (self.known.parts if self.known else None) or {}


def plan(writes: Sequence[Write], known: Mapping[str, Held], guarded: Iterable[str], tight: bool) -> list[Planned]:
    """Encode writes and cut what is too large. Raises DocumentTooLarge."""
    guards = set(guarded)
    planned = [
        Planned(
            write,
            None if isinstance(write, Delete) else encode(write.path, write.data),
            known.get(write.path),
            write.path in guards,
        )
        for write in writes
    ]
    for one in planned:
        limit = PUT_INLINE if one.fresh else TIGHT_INLINE if tight else MERGE_INLINE
        _shrink([one], limit, one.write.path)
    _shrink(planned, MESSAGE_LIMIT, "The commit")
    return planned


def _shrink(planned: Sequence[Planned], limit: int, what: str) -> None:
    size = sum(one.size for one in planned)
    if size <= limit:
        return
    candidates = sorted(((n, name, one) for one in planned for name, n in one.spillable().items()), key=lambda c: -c[0])
    for saved, name, one in candidates:
        one.spill(name)
        size -= saved
        if size <= limit:
            return
    raise DocumentTooLarge(
        f"{what} takes {size} bytes in fields too small to be cut, and {limit} fit: make it smaller."
    )


def part_requests(planned: Iterable[Planned], database: str, now: datetime) -> Iterator[Any]:
    """The commits that write the parts, each within the bound of a message."""
    request, size = CommitRequestPb(database=database), 0
    for one in planned:
        for parts, content in one.spilled.values():
            for number, path in enumerate(parts.paths(one.write.path)):
                chunk = content[number * PART_SIZE : (number + 1) * PART_SIZE]
                if size + len(chunk) > MESSAGE_LIMIT:
                    yield request
                    request, size = CommitRequestPb(database=database), 0
                document = request.writes.add().update
                document.name = f"{database}/documents/{path}"
                document.fields["content"].bytes_value = chunk
                set_timestamp(document.fields[EXPIRY].timestamp_value, now + PROVISIONAL)
                size += len(chunk) + _WRITE_OVERHEAD
    if request.writes:
        yield request


def main_request(planned: Sequence[Planned], database: str, read_backwards: Container[str]) -> Any:
    """The commit itself: the caller's writes in their order, then what becomes of parts.

    `read_backwards` names the collections whose documents carry their id as a field.
    """
    root = f"{database}/documents"
    write_id = secrets.randbits(62)
    request = CommitRequestPb(database=database)
    for one in planned:
        message = _write(one, root, write_id)
        collection, document_id = one.write.path.split("/")[-2:]
        if collection in read_backwards and not isinstance(one.write, Delete):
            _add_id(message, document_id)
        request.writes.append(message)
    for one in planned:
        request.writes.extend(_part_writes(one, root))
    if len(request.writes) > MAX_WRITES:
        raise DocumentTooLarge(
            f"The commit comes to {len(request.writes)} writes with the parts of its large documents, and {MAX_WRITES} "
            "fit: commit large documents apart."
        )
    return request


def _write(one: Planned, root: str, write_id: int) -> Any:
    write, message = one.write, WritePb()
    if isinstance(write, Delete):
        message.delete = f"{root}/{write.path}"
    else:
        _set_update(message, one, f"{root}/{write.path}", write_id)
        message.update_transforms.extend(map(server_time, write.server_time))
        if isinstance(write, Merge):
            message.update_transforms.extend(increment(name, amount) for name, amount in write.increments.items())
    _set_precondition(message.current_document, one)
    return message


def _set_update(message: Any, one: Planned, name: str, write_id: int) -> None:
    message.update.name = name
    fields = message.update.fields
    fields[WRITE_ID].integer_value = write_id
    if one.fields is not None:
        for field_name, scalar in one.fields.scalars.items():
            set_scalar(fields[field_name], scalar)
        for field_name, text in one.fields.payloads.items():
            set_payload(fields[field_name], text)
    for field_name, (parts, _) in one.spilled.items():
        set_parts(fields[field_name], parts)
    if not one.fresh:
        message.update_mask.field_paths.extend(mask_path(field_name) for field_name in fields)


def _add_id(message: Any, document_id: str) -> None:
    message.update.fields[ID_FIELD].string_value = document_id
    if message.HasField("update_mask"):
        message.update_mask.field_paths.append(ID_FIELD)


def _set_precondition(message: Any, one: Planned) -> None:
    wanted = one.write.precondition
    if one.known is not None and (one.guard or isinstance(wanted, AtVersion)):
        message.update_time.seconds = one.known.seconds
        message.update_time.nanos = one.known.nanos
    elif wanted is not None:
        message.exists = wanted is not ABSENT


def _part_writes(one: Planned, root: str) -> Iterator[Any]:
    for parts in one.parts_before():
        for path in parts.paths(one.write.path):
            yield WritePb(delete=f"{root}/{path}")
    expiry, before = one.expiry_after(), one.known.expire_at if one.known else None
    for name, parts in one.parts_after().items():
        if name not in one.spilled and expiry == before:
            continue
        for path in parts.paths(one.write.path):
            message = WritePb(update=DocumentPb(name=f"{root}/{path}"))
            if expiry is not None:
                set_timestamp(message.update.fields[EXPIRY].timestamp_value, expiry)
            message.update_mask.field_paths.append(EXPIRY)
            message.current_document.exists = True
            yield message
