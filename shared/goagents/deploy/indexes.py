"""The indexes, exemptions and TTL fields that Firestore is given, as the file that Terraform reads.

    python -m goagents.deploy.indexes > infra/terraform/modules/firestore/indexes.json

Terraform needs no Python for it: the file is committed, and a test holds it equal to `store/indexes.py`.
"""

import json
import sys
from typing import Any

from goagents.store.indexes import INDEXES, Index

from .plan_store import exempt_fields, expiring_collections

_EXPIRY = "expire_at"


def described() -> dict[str, list[dict[str, Any]]]:
    """Return the composite `indexes`, and the `fields` that are not indexed; `ttl`: they make documents expire."""
    expiring = {(group, _EXPIRY) for group in expiring_collections()}
    fields = sorted({*exempt_fields(), *expiring})
    return {
        "indexes": [_composite(index) for index in INDEXES if len(index.fields) > 1],
        "fields": [{"collection": group, "field": name, "ttl": (group, name) in expiring} for group, name in fields],
    }


def _composite(index: Index) -> dict[str, Any]:
    last = "DESCENDING" if index.descending else "ASCENDING"
    orders = ["ASCENDING"] * (len(index.fields) - 1) + [last]
    fields = [{"field": name, "order": order} for name, order in zip(index.fields, orders, strict=True)]
    return {"collection": index.collection, "fields": fields}


def text() -> str:
    """Return the file's content: an entry a line, so that a change is seen in a review."""
    parts = [
        f'  "{kind}": [\n    ' + ",\n    ".join(json.dumps(entry) for entry in entries) + "\n  ]"
        for kind, entries in described().items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.stdout.write(text())
