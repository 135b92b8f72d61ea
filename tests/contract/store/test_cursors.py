"""Cursors that somebody made up: invalid or a place in the list, never anything else. Runs on every store."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goagents.errors import Invalid
from goagents.store.base import Filter, Put, Query, Store

START = datetime(2026, 1, 1, tzinfo=UTC)
GROUP = (Filter("group", "==", "g"),)
QUERIES = (
    Query("items", limit=1),
    Query("items", order_by="rank", limit=1),
    Query("items", order_by="made_at", limit=1),
    Query("items", GROUP, "rank", descending=True, limit=1),
)
# What has a bound somewhere: of 64 bits, of a calendar, of UTF-8, of paths.
EDGES: tuple[Any, ...] = (
    10**400, -(1 << 63) - 1, 1 << 63, 1 << 64, 1e308, float("inf"), float("nan"), True, None, "", "\ud800", "\0", "é",
    "/", "..", "a/b", "a/b/c", "__x__", "x" * 3000, "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59", "0001-01-01", "2026-W01", "2026-01-01T00:00:00+00:00", [], {}, [[]],
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
PARTS = st.sampled_from(EDGES) | JSON
KINDS = st.sampled_from(["time", "value"]) | PARTS


def cursor(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


async def first_cursor(store: Store, query: Query) -> list[Any]:
    """Return what the cursor behind a list's first page says."""
    items = {name: {"group": "g", "rank": n, "made_at": START + timedelta(days=n)} for n, name in enumerate("abc")}
    await store.commit([Put(f"items/{name}", data) for name, data in items.items()])
    text = (await store.query(query)).next_cursor
    assert text is not None
    content: list[Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return content


async def tried(store: Store, query: Query, content: Any) -> bool:
    """Return whether the cursor is a place in the list; any error but Invalid is raised."""
    try:
        page = await store.query(
            Query(query.collection, query.where, query.order_by, query.descending, 9, cursor(content))
        )
    except Invalid:
        return False
    assert {document.id for document in page.documents} <= {"a", "b", "c"}
    return True


@pytest.mark.parametrize("query", QUERIES)
async def test_every_part_at_its_edges(store: Store, query: Query):
    fingerprint, kind, plain, document_id = await first_cursor(store, query)
    assert await tried(store, query, [fingerprint, kind, plain, document_id])
    for edge in EDGES:
        assert not await tried(store, query, [edge, kind, plain, document_id])
        for other in ("time", "value"):
            await tried(store, query, [fingerprint, other, edge, document_id])
        await tried(store, query, [fingerprint, kind, plain, edge])


@pytest.mark.parametrize(
    "change",
    [
        lambda fingerprint, plain, document_id: [fingerprint, "value", 10**400, document_id],
        lambda fingerprint, plain, document_id: [fingerprint, "value", "\ud800", document_id],
        lambda fingerprint, plain, document_id: [fingerprint, "value", float("inf"), document_id],
        lambda fingerprint, plain, document_id: [fingerprint, "time", plain, "\ud800"],
        lambda fingerprint, plain, document_id: [fingerprint, "time", plain, "a/b"],
        lambda fingerprint, plain, document_id: [fingerprint, "time", "9999-12-31T23:59:59-23:59", document_id],
        lambda fingerprint, plain, document_id: [fingerprint, "time", "9999-12-31T23:59:59", document_id],
    ],
)
async def test_what_no_document_can_have_is_invalid(store: Store, change: Callable[[str, str, str], list[Any]]):
    query = Query("items", order_by="made_at", limit=1)
    fingerprint, _, plain, document_id = await first_cursor(store, query)
    assert not await tried(store, query, change(fingerprint, plain, document_id))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), query=st.sampled_from(QUERIES))
async def test_any_json_is_invalid_or_a_place(store: Store, data: st.DataObject, query: Query):
    fingerprint, kind, plain, document_id = await first_cursor(store, query)
    content = data.draw(
        JSON
        | st.tuples(st.just(fingerprint), KINDS, PARTS, PARTS)
        | st.tuples(st.just(fingerprint), st.just(kind), PARTS, st.just(document_id))
        | st.tuples(st.just(fingerprint), st.just(kind), st.just(plain), PARTS)
    )
    await tried(store, query, content)
