"""What Firestore would charge for: counted at the store's port, and on Firestore itself between adapter and library."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from tests.support.runs import PATHS

from goagents.engine.execution.settle import SHARDS
from goagents.store.base import Delete, Merge, Page, Store, Write
from goagents.store.firestore import FirestoreStore
from goagents.testing.stores import Method, PassingStore, Subject

T = TypeVar("T")


@dataclass(frozen=True)
class Bill:
    """Operations. `expiring` documents are new ones, each of which is charged as a deletion when it expires."""

    reads: int = 0
    writes: int = 0
    deletes: int = 0
    expiring: int = 0

    def __add__(self, other: "Bill") -> "Bill":
        return Bill(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Bill") -> "Bill":
        return Bill(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def price(self, read: float, write: float, delete: float) -> float:
        """Return the US$ for a million of it; `read`, `write` and `delete` are those for 100,000 operations."""
        return 10 * (self.reads * read + self.writes * write + (self.deletes + self.expiring) * delete)


@dataclass
class _Tally:
    reads: int = 0
    writes: int = 0
    deletes: int = 0
    expiring: int = 0


class Meter(PassingStore):
    """Counts what is asked of a store. On Firestore, what its adapter sends has to come to the same.

    `alone`: nobody else uses the store, so that can be told.
    """

    def __init__(self, store: Store, *, alone: bool = True) -> None:
        super().__init__(store)
        self._port, self._wire = _Tally(), _Tally()
        self._tapped = alone and isinstance(store, FirestoreStore)
        if alone and isinstance(store, FirestoreStore):
            _tap(store, self._wire)

    def reset(self) -> None:
        for tally in (self._port, self._wire):
            for one in fields(tally):
                setattr(tally, one.name, 0)

    def bill(self) -> Bill:
        found, sent = Bill(*astuple(self._port)), Bill(*astuple(self._wire))
        if self._tapped and (found.reads, found.writes, found.deletes) != (sent.reads, sent.writes, sent.deletes):
            raise AssertionError(f"at the port there were {found}, and {sent} were sent")
        return found

    async def around(self, method: Method, subject: Subject, call: Callable[[], Awaitable[T]]) -> T:
        done = await call()
        asked: Any = subject
        if method == "get_many":
            self._port.reads += len(set(asked))  # one that is not there is charged as well
        elif isinstance(done, Page):
            more = done.next_cursor is not None  # the adapter asks for one beyond the page, to know
            self._port.reads += max(1, len(done.documents) + more)
        elif method == "commit":
            for write in asked:
                self._count(write)
        return done

    def _count(self, write: Write) -> None:
        if isinstance(write, Delete):
            self._port.deletes += 1
            return
        self._port.writes += 1
        is_new = write.precondition is not None and not hasattr(write.precondition, "version")
        self._port.expiring += is_new and "expire_at" in write.data


def _tap(store: FirestoreStore, tally: _Tally) -> None:
    """Count the documents of each request and answer, between the adapter and Google's library."""
    client = store._client
    read, commit = client.read, client.commit

    async def counted_read(method: str, request: Any, collect: Callable[[Any], Awaitable[T]]) -> T:
        if method == "batch_get_documents":
            tally.reads += len(type(request).pb(request).documents)
            return await read(method, request, collect)
        found = 0

        async def each(answers: AsyncIterator[Any]) -> AsyncIterator[Any]:
            nonlocal found
            async for answer in answers:
                found += type(answer).pb(answer).HasField("document")
                yield answer

        done = await read(method, request, lambda answers: collect(each(answers)))
        tally.reads += max(1, found)
        return done

    async def counted_commit(request: Any, *, conditional: bool) -> Any:
        for write in type(request).pb(request).writes:
            tally.deletes += bool(write.delete)
            tally.writes += not write.delete
        return await commit(request, conditional=conditional)

    client.read, client.commit = counted_read, counted_commit  # type: ignore[method-assign]


async def touch_counters(store: Store) -> None:
    """Have the process know each shard of the counters: it reads one before it writes it for the first time."""
    now = datetime.now(UTC)
    for day in (now, now + timedelta(days=1)):
        name = day.strftime("%Y%m%d")
        for shard in range(SHARDS):
            await store.commit([Merge(PATHS.usage_shard(name, shard), {"day": name})])
