"""The store port: documents at paths, each with a version, read by key or query and written in atomic commits.

A path alternates collections and ids (`tenants/default/runs/run_1`). A document's data is a flat record: top-level
values are JSON values or aware datetimes; a field whose name ends in `_at` is a datetime, and only such a field is.
Containers (lists, objects) are payload: they round-trip, and cannot be filtered on or ordered by.

A document whose `expire_at` is past is absent, for reads, queries and preconditions alike, whether or not anything
has deleted it yet. There are no interactive transactions and no retries inside: a conflict or an unknown outcome is an
error the caller decides on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Literal, Protocol

MAX_WRITES = 500  # Firestore's bound on one commit
MAX_PAGE = 500

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Document:
    """`version` is opaque: it changes with every write, and equal versions mean the same content."""

    path: str
    data: dict[str, Any]
    version: str

    @property
    def id(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The documents found, by path (an absent one has no entry), and the server's time of the read."""

    documents: dict[str, Document]
    read_at: datetime

    def get(self, path: str) -> Document | None:
        return self.documents.get(path)


@dataclass(frozen=True, slots=True)
class Filter:
    field: str
    op: Literal["==", "<", "<=", ">", ">="]
    value: Any


@dataclass(frozen=True, slots=True)
class Query:
    """Documents of one collection, in the order of `order_by` (a field; None: the document's id), ties by id.

    `where` holds equalities, and at most one range, on the `order_by` field. `after` is a page's `next_cursor`.
    `limit` is at most `MAX_PAGE`. Every combination of fields used is declared in `store/indexes.py`.
    """

    collection: str
    where: tuple[Filter, ...] = ()
    order_by: str | None = None
    descending: bool = False
    limit: int = 100
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    documents: tuple[Document, ...]
    read_at: datetime
    next_cursor: str | None = None


class Existence(Enum):
    ABSENT = "absent"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class AtVersion:
    version: str


ABSENT = Existence.ABSENT
PRESENT = Existence.PRESENT
Precondition = Existence | AtVersion | None


@dataclass(frozen=True, slots=True)
class Put:
    """Write the whole document. `server_time` names fields that get the commit's server time."""

    path: str
    data: Data
    precondition: Precondition = None
    server_time: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Merge:
    """Set some top-level fields and leave the others; `increments` adds to numbers (absent counts as 0).

    Without a precondition it creates the document when absent.
    """

    path: str
    data: Data = field(default_factory=dict)
    precondition: Precondition = None
    increments: Mapping[str, int | float] = field(default_factory=dict)
    server_time: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete one document (not what lies below it). Deleting an absent one is no error, unless PRESENT is asked."""

    path: str
    precondition: Precondition = None


Write = Put | Merge | Delete


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit did: the new version of each document put or merged, and the server's time."""

    versions: dict[str, str]
    committed_at: datetime


class Store(Protocol):
    async def get_many(self, paths: Sequence[str]) -> Snapshot:
        """Read documents by path, together. Raises StoreUnavailable."""
        ...

    async def query(self, query: Query) -> Page:
        """Read a page of one collection. Raises StoreUnavailable, and Invalid for a cursor that is none of ours."""
        ...

    async def commit(self, writes: Sequence[Write]) -> Commit:
        """Apply all writes or none. At most one write a path and `MAX_WRITES` in all.

        Raises:
            StoreConflict: a precondition did not hold; nothing was written.
            StoreUnavailable: nothing was written.
            OutcomeUnknown: no answer came; the commit may have been applied.
            DocumentTooLarge: it cannot be stored, whole or in parts; nothing was written.
        """
        ...

    async def purge(self, limit: int = MAX_WRITES) -> int:
        """Delete up to `limit` expired documents and return how many went. A store that does so itself returns 0."""
        ...

    async def check(self) -> None:
        """Return if the store answers; raise StoreUnavailable with what to do about it otherwise."""
        ...

    async def aclose(self) -> None: ...
