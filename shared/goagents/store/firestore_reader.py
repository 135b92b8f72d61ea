"""Reading Firestore: documents by path, pages of a query, and the parts of large documents."""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import types

from goagents.errors import StoreUnavailable
from goagents.store.base import Filter, Query
from goagents.store.firestore_client import FirestoreClient
from goagents.store.firestore_wire import ID_FIELD, Found, mask_path, part_content, read_document, set_scalar, timestamp
from goagents.store.paging import ID, MAX_PAGE_BYTES, Position

BatchGetPb: Any = types.BatchGetDocumentsRequest.pb()
RunQueryPb: Any = types.RunQueryRequest.pb()
StructuredQueryPb: Any = types.StructuredQuery.pb()

_CLOCK = "goagents/clock"  # a document that does not exist: reading it tells the server's time
_OPERATORS = {
    "==": StructuredQueryPb.FieldFilter.Operator.EQUAL,
    "<": StructuredQueryPb.FieldFilter.Operator.LESS_THAN,
    "<=": StructuredQueryPb.FieldFilter.Operator.LESS_THAN_OR_EQUAL,
    ">": StructuredQueryPb.FieldFilter.Operator.GREATER_THAN,
    ">=": StructuredQueryPb.FieldFilter.Operator.GREATER_THAN_OR_EQUAL,
}
_DIRECTIONS = {False: StructuredQueryPb.Direction.ASCENDING, True: StructuredQueryPb.Direction.DESCENDING}


class FirestoreReader:
    def __init__(self, client: FirestoreClient) -> None:
        self._client = client
        self._root = f"{client.database}/documents"
        self._server_time: tuple[datetime, float] | None = None

    def note_time(self, server_time: datetime) -> None:
        """Remember a time that the server has just answered."""
        self._server_time = (server_time, time.monotonic())

    def is_past(self, moment: datetime | None) -> bool:
        """Tell whether a moment is surely past on the server, by its last answer and the time since."""
        if moment is None or self._server_time is None:
            return False
        server_time, here = self._server_time
        return moment <= server_time + timedelta(seconds=time.monotonic() - here)

    async def read(self, paths: Sequence[str]) -> tuple[list[Found], datetime]:
        """Read documents as they are, expired ones too, and the server's time."""
        request = BatchGetPb(database=self._client.database)
        request.documents.extend(f"{self._root}/{path}" for path in dict.fromkeys(paths) or [_CLOCK])
        return await self._collect("batch_get_documents", types.BatchGetDocumentsRequest, request, "found")

    async def page(self, query: Query, start: Position | None) -> tuple[list[Found], datetime, bool]:
        """Read a page's documents that have not expired, and whether there are more behind them."""
        alive: list[Found] = []
        size = 0
        while True:
            wanted = query.limit + 1 - len(alive)
            request = _query_request(query, start, wanted, self._root)
            found, read_at = await self._collect("run_query", types.RunQueryRequest, request, "document")
            for one in found:
                if one.expired(read_at):
                    continue
                if len(alive) == query.limit or size > MAX_PAGE_BYTES:
                    return alive, read_at, True
                alive.append(one)
                size += one.size
            if len(found) < wanted:
                return alive, read_at, False
            last = found[-1]
            start = Position(last.data.get(query.order_by) if query.order_by else None, last.document().id)

    async def complete(self, found: Iterable[Found]) -> bool:
        """Fetch what lies in parts, field by field. False: some are gone, replaced since the read."""
        for one in found:
            for name, parts in (one.held.parts or {}).items():
                wanted = parts.paths(one.path)
                request = BatchGetPb(database=self._client.database, documents=[f"{self._root}/{p}" for p in wanted])
                contents = await self._client.read(
                    "batch_get_documents", types.BatchGetDocumentsRequest.wrap(request), _parts
                )
                if len(contents) < len(wanted):
                    return False
                one.data[name] = part_content(contents[f"{self._root}/{path}"] for path in wanted)
        return True

    async def _collect(self, method: str, kind: Any, request: Any, field: str) -> tuple[list[Found], datetime]:
        async def collect(answers: AsyncIterator[Any]) -> tuple[list[Found], datetime | None]:
            found, read_at = [], None
            async for wrapped in answers:
                answer = type(wrapped).pb(wrapped)
                if answer.HasField(field):
                    found.append(read_document(getattr(answer, field), self._root))
                if answer.HasField("read_time"):
                    read_at = timestamp(answer.read_time)  # it only grows; what came before has not changed since
            return found, read_at

        found, read_at = await self._client.read(method, kind.wrap(request), collect)
        if read_at is None:
            raise StoreUnavailable("Firestore's answer ended before it told the time of the read.")
        self.note_time(read_at)
        return found, read_at


async def _parts(answers: AsyncIterator[Any]) -> dict[str, Any]:
    contents = {}
    async for wrapped in answers:
        answer = types.BatchGetDocumentsResponse.pb(wrapped)
        if answer.HasField("found"):
            contents[answer.found.name] = answer.found
    return contents


def _query_request(query: Query, start: Position | None, limit: int, root: str) -> Any:
    parent, _, collection = query.collection.rpartition("/")
    request = RunQueryPb(parent=f"{root}/{parent}" if parent else root)
    structured = request.structured_query
    structured.from_.add().collection_id = collection
    for f in query.where:
        _add_filter(structured.where.composite_filter, f)
    if query.where:
        structured.where.composite_filter.op = StructuredQueryPb.CompositeFilter.Operator.AND
    # Firestore knows no descending order of keys alone: collections read so have their ids in a field.
    order_by = ID_FIELD if query.descending and not query.where and not query.order_by else query.order_by
    for name in [mask_path(order_by), ID] if order_by else [ID]:
        field = StructuredQueryPb.FieldReference(field_path=name)
        structured.order_by.add(field=field, direction=_DIRECTIONS[query.descending])
    if start is not None:
        if order_by:
            set_scalar(structured.start_at.values.add(), start.id if order_by == ID_FIELD else start.value)
        structured.start_at.values.add().reference_value = f"{root}/{query.collection}/{start.id}"
        structured.start_at.before = False
    structured.limit.value = limit
    return request


def _add_filter(composite: Any, f: Filter) -> None:
    field_filter = composite.filters.add().field_filter
    field_filter.field.field_path = mask_path(f.field)
    field_filter.op = _OPERATORS[f.op]
    set_scalar(field_filter.value, f.value)
