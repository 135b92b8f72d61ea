"""What is Firestore's own: lost answers, how a document looks in the console, parts, and its errors."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.firestore import AsyncClient
from tests.support.cutting_proxy import CuttingProxy, cutting_proxy
from tests.support.ports import free_port

from goagents.errors import DocumentTooLarge, OutcomeUnknown, StoreConflict, StoreError, StoreUnavailable
from goagents.store.base import ABSENT, PRESENT, AtVersion, Delete, Merge, Put, Query
from goagents.store.firestore import FirestoreStore
from goagents.store.firestore_client import FirestoreClient

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("firestore")]

MIB = 1024 * 1024
PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture
async def store(firestore_address: str, project: str) -> AsyncIterator[FirestoreStore]:
    made = FirestoreStore(project)
    yield made
    await made.aclose()


@pytest.fixture
async def proxy(firestore_address: str) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(firestore_address) as made:
        yield made


@pytest.fixture
async def behind(
    store: FirestoreStore, proxy: CuttingProxy, project: str, monkeypatch: Any
) -> AsyncIterator[FirestoreStore]:
    """A store on the same database as `store`, whose connection the test may cut."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
    made = FirestoreStore(project, connect_timeout=1, commit_timeout=1.5)
    await made.check()
    yield made
    await made.aclose()


async def parts(store: FirestoreStore, path: str) -> dict[str, Any]:
    return {one.id: one.data.get("expire_at") for one in (await store.query(Query(f"{path}/_parts"))).documents}


async def test_an_answer_cut_off_leaves_the_outcome_unknown(
    store: FirestoreStore, behind: FirestoreStore, proxy: CuttingProxy
):
    proxy.mode = "cut"
    with pytest.raises(OutcomeUnknown, match="may have been applied"):
        await behind.commit([Put("items/a", {"n": 1}, ABSENT)])
    proxy.mode = "pass"
    assert (await store.get_many(["items/a"])).documents["items/a"].data == {"n": 1}  # it was, this time
    assert (await behind.get_many(["items/a"])).documents["items/a"].data == {"n": 1}  # and the store goes on
    with pytest.raises(StoreConflict):
        await behind.commit([Put("items/a", {"n": 1}, ABSENT)])


async def test_a_commit_is_sent_once(store: FirestoreStore, behind: FirestoreStore, proxy: CuttingProxy):
    await behind.commit([Merge("items/a", increments={"n": 1})])
    proxy.mode = "cut"
    with pytest.raises(OutcomeUnknown):
        await behind.commit([Merge("items/a", increments={"n": 1})])
    proxy.mode = "pass"
    await asyncio.sleep(0.5)
    assert (await store.get_many(["items/a"])).documents["items/a"].data["n"] == 2


async def test_no_answer_in_time_leaves_the_outcome_unknown(behind: FirestoreStore, proxy: CuttingProxy):
    proxy.mode = "silent"
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        await behind.commit([Put("items/a", {"n": 1}, ABSENT)])
    assert 1 < time.monotonic() - started < 4


async def test_parts_that_fail_have_written_nothing(store: FirestoreStore, behind: FirestoreStore, proxy: CuttingProxy):
    proxy.mode = "cut"
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        await behind.commit([Put("items/a", {"text": "x" * 2 * MIB}, ABSENT)])
    proxy.mode = "pass"
    assert (await store.get_many(["items/a"])).documents == {}
    expiries = (await parts(store, "items/a")).values()
    assert all(expiry is not None and expiry < FUTURE for expiry in expiries)  # what is left goes by itself


async def test_a_read_survives_a_lost_connection(behind: FirestoreStore, proxy: CuttingProxy):
    await behind.commit([Put("items/a", {"n": 1})])
    reading = [asyncio.create_task(behind.get_many(["items/a"])) for _ in range(20)]
    await asyncio.sleep(0.002)
    proxy.disconnect()
    for one in await asyncio.gather(*reading):
        assert one.documents["items/a"].data == {"n": 1}


async def test_where_nothing_listens_nothing_was_written(project: str, monkeypatch: Any):
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    store = FirestoreStore(project, connect_timeout=0.5)
    for call in (
        store.commit([Put("items/a", {})]),
        store.get_many(["items/a"]),
        store.query(Query("items")),
        store.check(),
    ):
        with pytest.raises(StoreUnavailable, match="cannot be reached: is the emulator running"):
            await call
    await store.aclose()


async def test_a_document_can_be_read_in_the_console(store: FirestoreStore, project: str):
    message = {"role": "user", "content": [["nested"], "é"]}
    await store.commit([Put("items/a", {"n": 1, "text": "t", "message": message, "expire_at": FUTURE, "f": 1.0})])
    client = AsyncClient(project=project)
    raw = (await client.document("items/a").get()).to_dict()
    client.close()
    assert raw is not None
    assert isinstance(raw.pop("_write"), int)
    assert raw == {
        "n": 1,
        "text": "t",
        "f": 1.0,
        "expire_at": FUTURE,  # a timestamp: TTL needs it
        "message": {"json": '{"role":"user","content":[["nested"],"é"]}'},
    }


async def test_versions_are_update_times_in_full(store: FirestoreStore, project: str):
    version = (await store.commit([Put("items/a", {"n": 1})])).versions["items/a"]
    client = AsyncClient(project=project)
    snapshot = await client.document("items/a").get()
    client.close()
    updated = snapshot.update_time
    assert version == f"{int(updated.timestamp())}.{updated.nanosecond:09d}"


async def test_the_parts_of_what_goes_go_too(store: FirestoreStore):
    big = {"text": "x" * 2 * MIB}
    version = (await store.commit([Put("items/a", {"one": big, "two": big, "n": 1}, ABSENT)])).versions["items/a"]
    assert len(await parts(store, "items/a")) == 6
    version = (await store.commit([Merge("items/a", {"one": 1, "n": 2}, AtVersion(version))])).versions["items/a"]
    assert len(await parts(store, "items/a")) == 3
    version = (await store.commit([Put("items/a", {"two": big}, AtVersion(version))])).versions["items/a"]
    assert len(await parts(store, "items/a")) == 3
    await store.commit([Put("items/a", {"two": big})])  # blind: reads first
    assert len(await parts(store, "items/a")) == 3
    await store.commit([Merge("items/a", {"two": []})])
    assert await parts(store, "items/a") == {}
    await store.commit([Put("items/b", {"one": big, "expire_at": PAST})])
    await store.commit([Put("items/b", {"n": 1}, ABSENT)])
    await store.commit([Put("items/c", {"one": big})])
    await store.commit([Delete("items/c")])
    assert [await parts(store, f"items/{name}") for name in "bc"] == [{}, {}]


async def test_parts_expire_with_their_document(store: FirestoreStore):
    big = {"text": "x" * 2 * MIB}
    version = (await store.commit([Put("items/a", {"one": big}, ABSENT)])).versions["items/a"]
    assert set((await parts(store, "items/a")).values()) == {None}
    version = (await store.commit([Merge("items/a", {"expire_at": FUTURE}, AtVersion(version))])).versions["items/a"]
    assert set((await parts(store, "items/a")).values()) == {FUTURE}
    await store.commit([Merge("items/a", {"expire_at": None}, PRESENT)])
    assert set((await parts(store, "items/a")).values()) == {None}


async def test_a_document_whose_parts_are_gone_is_an_error_not_half_an_answer(store: FirestoreStore):
    await store.commit([Put("items/a", {"one": {"text": "x" * 2 * MIB}}, ABSENT)])
    await store.commit([Delete(f"items/a/_parts/{name}") for name in await parts(store, "items/a")])
    with pytest.raises(StoreUnavailable, match=r"Parts .*items/a"):
        await store.get_many(["items/a"])


async def test_a_counter_is_read_before_its_first_write_only(store: FirestoreStore):
    reads = 0
    read = store._reader.read

    async def counted(paths: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(paths)

    store._reader.read = counted  # type: ignore[method-assign]
    for _ in range(5):
        await store.commit(
            [Merge("items/a", increments={"n": 1}), Put("items/b", {}, ABSENT), Delete("items/b/c/d", ABSENT)]
        )
        await store.commit([Delete("items/b", PRESENT)])
    assert reads == 1 + 5  # the counter once; a document to be deleted each time, for it may have parts


async def test_a_commit_too_large_in_small_fields_is_refused(store: FirestoreStore):
    with pytest.raises(DocumentTooLarge, match="make it smaller"):
        await store.commit([Put(f"items/{n}", {f"f{k}": "x" * 1000 for k in range(15)}) for n in range(400)])


@pytest.mark.parametrize(
    ("error", "conditional", "expected"),
    [
        (exceptions.FailedPrecondition, True, StoreConflict),
        (exceptions.AlreadyExists, True, StoreConflict),
        (exceptions.NotFound, True, StoreConflict),
        (exceptions.Aborted, True, StoreConflict),
        (exceptions.Aborted, False, StoreConflict),
        (exceptions.FailedPrecondition, False, StoreUnavailable),
        (exceptions.NotFound, False, StoreUnavailable),
        (exceptions.PermissionDenied, True, StoreUnavailable),
        (exceptions.Unauthenticated, True, StoreUnavailable),
        (exceptions.ResourceExhausted, True, StoreUnavailable),
        (exceptions.MethodNotImplemented, True, StoreUnavailable),
        (exceptions.ServiceUnavailable, True, OutcomeUnknown),
        (exceptions.DeadlineExceeded, True, OutcomeUnknown),
        (exceptions.InternalServerError, True, OutcomeUnknown),
        (exceptions.Cancelled, True, OutcomeUnknown),
        (exceptions.Unknown, True, OutcomeUnknown),
        (exceptions.DataLoss, True, OutcomeUnknown),
        (exceptions.GoogleAPICallError, True, OutcomeUnknown),
    ],
)
def test_what_a_failed_commit_means(error: Any, conditional: bool, expected: type[StoreError]):
    client = FirestoreClient("p", "(default)", 1, 1)
    assert type(client._commit_error(error("why"), conditional)) is expected


def test_a_refusal_for_size_is_told_from_other_refusals():
    client = FirestoreClient("p", "(default)", 1, 1)
    message = "Document 'items/a' cannot be written because its size (1,500,000 bytes) exceeds the maximum allowed size"
    assert type(client._commit_error(exceptions.InvalidArgument(message), True)) is DocumentTooLarge
    assert type(client._commit_error(exceptions.InvalidArgument("Invalid value"), True)) is StoreError


@pytest.mark.parametrize(("project", "database"), [("", "(default)"), ("p", "")])
def test_a_project_and_a_database_are_needed(project: str, database: str):
    with pytest.raises(ValueError, match="firestore://PROJECT/DATABASE"):
        FirestoreStore(project, database)
