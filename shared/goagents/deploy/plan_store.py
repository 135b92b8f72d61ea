"""The part of a plan that makes the database: its indexes, what is exempt from them, and what expires."""

from collections.abc import Iterator, Mapping
from typing import Any

from goagents import records
from goagents.logins import LoginRecord
from goagents.store.indexes import EXEMPT_FIELDS, INDEXES, Index

from .steps import Judge, Step, last, named
from .target import Target

_KEY = "__name__"
_EXPIRY = "expire_at"
# The records by the collection they lie in; `_parts` is the Firestore store's own, and so is the field `_write`.
_RECORDS: Mapping[str, type[records.Record]] = {
    "clusters": records.ClusterRecord,
    "generations": records.GenerationRecord,
    "slots": records.SlotRecord,
    "instances": records.InstanceRecord,
    "toolsets": records.ToolsetRecord,
    "sessions": records.SessionRecord,
    "messages": records.MessageRecord,
    "runs": records.RunRecord,
    "lease": records.LeaseRecord,
    "signals": records.SignalRecord,
    "steps": records.StepRecord,
    "events": records.EventsRecord,
    "idempotency": records.IdempotencyRecord,
    "tool_answers": records.ToolAnswerRecord,
    "mcp_logins": LoginRecord,
    "deliveries": records.DeliveryRecord,
    "deletions": records.DeletionRecord,
    "usage": records.UsageRecord,
}
_FIELDS = {group: (*record.model_fields, "_write") for group, record in _RECORDS.items()} | {
    "_parts": ("content", _EXPIRY)
}


def exempt_fields() -> Iterator[tuple[str, str]]:
    """Yield collection and field of what nothing is found by."""
    for group, fields in _FIELDS.items():
        yield from ((group, name) for name in fields if name in EXEMPT_FIELDS)


def expiring_collections() -> list[str]:
    return [group for group, fields in _FIELDS.items() if _EXPIRY in fields]


def database_steps(target: Target) -> Iterator[Step]:
    """Yield the steps in an order that leaves time between the two changes of a field that expires: out of the indexes
    first, as Firestore advises, and deleted by it last. If that was not enough, the second one is tried until it is.
    """
    yield Step(
        id="database",
        line=f"make the Firestore database {target.database} in {target.database_location or target.region}",
        argv=(
            *("firestore", "databases", "create", f"--database={target.database}"),
            *(f"--location={target.database_location or target.region}", "--type=firestore-native"),
            "--delete-protection",
        ),
        look=("firestore", "databases", "list"),
        state=named("databases", target.database),
    )
    where = f"--database={target.database}"
    for group, name in exempt_fields():
        yield Step(
            id=f"exempt-{group}-{name}",
            line=f"leave {group}.{name} out of the indexes",
            argv=(
                *("firestore", "indexes", "fields", "update", name, f"--collection-group={group}", where),
                *("--disable-indexes", "--async"),
            ),
            look=("firestore", "indexes", "fields", "list", where),
            state=_exempt(group, name),
        )
    for index in INDEXES:
        if len(index.fields) > 1:
            yield _composite(index, where)
    for group in expiring_collections():
        yield Step(
            id=f"ttl-{group}",
            line=f"delete what has expired in {group}",
            argv=(
                *("firestore", "fields", "ttls", "update", _EXPIRY, f"--collection-group={group}", where),
                *("--enable-ttl", "--async"),
            ),
            look=("firestore", "fields", "ttls", "list", where),
            state=_expires(group),
        )


def _composite(index: Index, where: str) -> Step:
    order = ["ascending"] * (len(index.fields) - 1) + ["descending" if index.descending else "ascending"]
    fields = list(zip(index.fields, order, strict=True))
    return Step(
        id="-".join(("index", index.collection, *index.fields, order[-1])),
        line=f"index {index.collection} by {', '.join(index.fields)}" + (" downward" if index.descending else ""),
        argv=(
            *("firestore", "indexes", "composite", "create", f"--collection-group={index.collection}", where),
            *(f"--field-config=field-path={name},order={direction}" for name, direction in fields),
            *("--query-scope=collection", "--async"),
        ),
        look=("firestore", "indexes", "composite", "list", where),
        state=_indexed(index.collection, fields),
    )


def _indexed(collection: str, fields: list[tuple[str, str]]) -> Judge:
    wanted = [(name, direction.upper()) for name, direction in fields]

    def key(found: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [(f["fieldPath"], f.get("order", "")) for f in found.get("fields", ()) if f["fieldPath"] != _KEY]

    return lambda found: (
        "done"
        if any(last(each, "collectionGroups") == collection and key(each) == wanted for each in found or ())
        else "absent"
    )


def _field(found: Mapping[str, Any], group: str, name: str) -> bool:
    return last(dict(found), "collectionGroups") == group and last(dict(found), "fields").strip("`") == name


def _exempt(group: str, name: str) -> Judge:
    return lambda found: (
        "done"
        if any(_field(each, group, name) and not each.get("indexConfig", {}).get("indexes") for each in found or ())
        else "absent"
    )


def _expires(group: str) -> Judge:
    return lambda found: (
        "done" if any(_field(each, group, _EXPIRY) and "ttlConfig" in each for each in found or ()) else "absent"
    )
