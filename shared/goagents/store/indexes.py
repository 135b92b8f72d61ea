"""Every query on fields, as the index it needs. SQLite makes its indexes of this list, and Firestore is given them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Index:
    """`collection` is the last collection name of the path; equality fields first, then the order field.

    `__name__`, alone, is the document's id, read downward: Firestore needs no index for it but a field that the store
    adds, see `store/firestore_wire.py`.
    """

    collection: str
    fields: tuple[str, ...]
    descending: bool = False


INDEXES: tuple[Index, ...] = (
    Index("messages", ("__name__",), descending=True),
    Index("clusters", ("namespace",)),
    Index("clusters", ("status",)),
    Index("runs", ("cluster_uid", "created_at")),
    Index("runs", ("cluster_uid", "created_at"), descending=True),
    Index("runs", ("cluster_uid", "agent", "created_at")),
    Index("runs", ("cluster_uid", "agent", "created_at"), descending=True),
    Index("runs", ("status", "created_at")),
    Index("runs", ("principal", "created_at"), descending=True),
    Index("runs", ("principal", "status", "created_at"), descending=True),
    Index("runs", ("principal", "session", "created_at"), descending=True),
    Index("runs", ("principal", "session", "status", "created_at"), descending=True),
    Index("runs", ("principal", "cluster_uid", "created_at"), descending=True),
    Index("runs", ("principal", "cluster_uid", "status", "created_at"), descending=True),
    Index("runs", ("principal", "cluster_uid", "agent", "created_at"), descending=True),
    Index("runs", ("principal", "cluster_uid", "agent", "status", "created_at"), descending=True),
    Index("events", ("position",)),
    Index("deliveries", ("state", "next_at")),
    Index("sessions", ("cluster_uid", "created_at")),
    Index("sessions", ("active_run",)),
    Index("usage", ("day",)),
)

# Fields never filtered or ordered on: exempt from Firestore's automatic single-field indexes.
EXEMPT_FIELDS: tuple[str, ...] = (
    "expire_at",
    "manifest",
    "message",
    "input",
    "output",
    "error",
    "usage",
    "intents",
    "scaling",
    "log",
    "events",
    "queue",
    "waiting",
    "decisions",
    "unfinished",
    "body",
    "text",
    "summary",
    "doubts",
    "_write",  # the Firestore store's own: new with every write
    "content",  # of the parts of large documents
)
