"""Idempotency: one call for each key, whatever store keeps them."""

import hashlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.support.toolkit import Ask

from goagents.errors import StoreUnavailable
from goagents.toolkit import Entry, KeyStore, MemoryKeyStore, SqliteKeyStore, ToolCallContext, ToolError, Toolkit


class Hours:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


MakeStore = Callable[[Hours], KeyStore]


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    if request.param == "memory":
        return lambda now: MemoryKeyStore(lease=60, now=now)
    return lambda now: SqliteKeyStore(tmp_path / "keys.db", lease=60, now=now)


@pytest.fixture
def store(make_store: MakeStore) -> KeyStore:
    return make_store(Hours())


def test_who_claims_first_has_the_key(store: KeyStore):
    assert store.claim("k", "f", "one") == Entry("f", "one")
    assert store.claim("k", "f", "two") == Entry("f", "one")
    store.record("k", "two", b"2")
    assert store.claim("k", "f", "two") == Entry("f", "one")
    store.record("k", "one", b"1")
    store.record("k", "one", b"3")
    store.release("k", "one")
    assert store.claim("k", "g", "two") == Entry("f", "one", b"1")


def test_who_fails_lets_go(store: KeyStore):
    store.claim("k", "f", "one")
    store.release("k", "two")
    assert store.claim("k", "f", "two").token == "one"
    store.release("k", "one")
    assert store.claim("k", "f", "two") == Entry("f", "two")


def test_what_a_dead_process_claimed_is_taken_over(make_store: MakeStore):
    hours = Hours()
    store = make_store(hours)
    store.claim("k", "f", "one")
    hours.now += 59
    assert store.claim("k", "f", "two").token == "one"
    hours.now += 1
    assert store.claim("k", "other", "two") == Entry("f", "one")
    assert store.claim("k", "f", "two") == Entry("f", "two")
    store.record("k", "one", b"late")
    assert store.claim("k", "f", "three") == Entry("f", "two")


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_one_of_many_threads_gets_a_key(kind: str, tmp_path: Path):
    for number in range(40):  # a new file each time: the first to open it sets it up while others want it
        store = MemoryKeyStore() if kind == "memory" else SqliteKeyStore(tmp_path / f"keys{number}.db")
        start = threading.Barrier(8)

        def claim(token: str, store: KeyStore = store, start: threading.Barrier = start) -> str:
            start.wait(60)
            return store.claim("k", "f", token).token

        with ThreadPoolExecutor(8) as threads:
            owners = list(threads.map(claim, map(str, range(8))))
        assert len(set(owners)) == 1


def test_the_memory_is_bounded():
    store = MemoryKeyStore(max_entries=2, max_bytes=10)
    for key in ("a", "b", "c"):
        store.claim(key, "f", key)
        store.record(key, key, b"1234")
    assert store.claim("b", "f", "x") == Entry("f", "b", b"1234")
    assert store.claim("a", "f", "x") == Entry("f", "x")  # went first; c goes for it now
    assert store.claim("c", "f", "y") == Entry("f", "y")
    store.record("c", "y", b"12345678901")  # larger than all there may be
    assert store.claim("c", "f", "z") == Entry("f", "z")


def test_the_file_outlives_its_process_and_forgets_in_time(tmp_path: Path):
    hours = Hours()
    path = tmp_path / "keys.db"
    first = SqliteKeyStore(path, kept_for=100, now=hours)
    first.claim("k", "f", "one")
    first.record("k", "one", b"1")
    hours.now += 99
    assert SqliteKeyStore(path, kept_for=100, now=hours).claim("k", "f", "two") == Entry("f", "one", b"1")
    hours.now += 1
    assert SqliteKeyStore(path, kept_for=100, now=hours).claim("k", "g", "two") == Entry("g", "two")


def test_a_file_that_cannot_be_used_is_said(tmp_path: Path):
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        SqliteKeyStore(tmp_path / "no" / "such" / "folder.db").claim("k", "f", "one")


class Payments:
    """A tool that counts what it does, and can be told to fail or to take its time."""

    def __init__(self, store: KeyStore | None, patience: float = 0.0) -> None:
        self.kit = Toolkit("shop", store=store, patience=patience)
        self.calls: list[str | None] = []
        self.error: Exception | None = None
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

        @self.kit.tool(effect="idempotent")
        def refund(order: str, amount: int, context: ToolCallContext) -> Receipt:
            """Refunds an order."""
            self.calls.append(context.idempotency_key)
            self.entered.set()
            assert self.gate.wait(60)
            if self.error:
                raise self.error
            return Receipt(order=order, amount=amount, number=len(self.calls))

        self.kit.tool(name="refund_again", effect="idempotent")(refund)
        self.kit.tool(name="unsafe_refund")(refund)


class Receipt(BaseModel):
    order: str
    amount: int
    number: int


BODY = {"order": "7", "amount": 5}


def test_a_repetition_gets_the_first_result(store: KeyStore, ask: Ask):
    payments = Payments(store)
    key = {"Idempotency-Key": "run_1/2/a"}
    first = ask(payments.kit, "POST", "/refund", json=BODY, headers=key)
    again = ask(payments.kit, "POST", "/refund", json=dict(reversed(BODY.items())), headers=key)
    assert first.json == again.json == {**BODY, "number": 1}
    assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
    other = ask(payments.kit, "POST", "/refund", json={**BODY, "amount": 6}, headers=key)
    assert (other.status_code, other.json["code"]) == (409, "conflict")
    assert payments.calls == ["run_1/2/a"]


def test_a_key_is_of_its_tool_and_needs_to_be_there(store: KeyStore, ask: Ask):
    payments = Payments(store)
    for path in ("/refund", "/refund_again", "/unsafe_refund", "/unsafe_refund"):
        assert ask(payments.kit, "POST", path, json=BODY, headers={"Idempotency-Key": "k"}).status_code == 200
    for _ in range(2):
        assert ask(payments.kit, "POST", "/refund", json=BODY).status_code == 200
    assert payments.calls == ["k", "k", "k", "k", None, None]


@pytest.mark.parametrize(("error", "status"), [(ToolError("No."), 400), (RuntimeError("no"), 500)])
def test_what_failed_may_be_repeated(store: KeyStore, ask: Ask, error: Exception, status: int):
    payments = Payments(store)
    payments.error = error
    key = {"Idempotency-Key": "k"}
    assert ask(payments.kit, "POST", "/refund", json=BODY, headers=key).status_code == status
    payments.error = None
    assert ask(payments.kit, "POST", "/refund", json=BODY, headers=key).json["number"] == 2


def test_a_call_in_progress_is_waited_for(store: KeyStore, ask: Ask):
    payments = Payments(store, patience=0.0)
    patient = Payments(store, patience=20.0)
    payments.gate.clear()
    key = {"Idempotency-Key": "k"}
    answers = []

    def call(kit: Toolkit) -> None:
        answers.append(ask(kit, "POST", "/refund", json=BODY, headers=key).json)

    first = threading.Thread(target=call, args=(payments.kit,))
    first.start()
    assert payments.entered.wait(60)
    busy = ask(payments.kit, "POST", "/refund", json=BODY, headers=key)
    assert (busy.status_code, busy.json["code"], busy.headers["Retry-After"]) == (409, "in_progress", "1")
    second = threading.Thread(target=call, args=(patient.kit,))
    second.start()
    payments.gate.set()
    for thread in (first, second):
        thread.join(60)
    assert answers == [{**BODY, "number": 1}] * 2
    assert patient.calls == []


class Forgetful(MemoryKeyStore):
    def record(self, key: str, token: str, result: bytes) -> None:
        raise StoreUnavailable("the disk is full")


def test_a_result_is_told_even_if_it_cannot_be_kept(ask: Ask, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR, "goagents.toolkit"):
        answer = ask(Payments(Forgetful()).kit, "POST", "/refund", json=BODY, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json["number"]) == (200, 1)
    assert "may be carried out again" in caplog.text


def test_nothing_is_called_without_the_store(tmp_path: Path, ask: Ask):
    payments = Payments(SqliteKeyStore(tmp_path / "no" / "keys.db"))
    answer = ask(payments.kit, "POST", "/refund", json=BODY, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json["code"], payments.calls) == (503, "store_unavailable", [])
    assert str(tmp_path) not in answer.text


def test_each_api_key_is_a_caller_of_its_own(make_store: MakeStore, ask: Ask):
    hashes = [hashlib.sha256(key.encode()).hexdigest() for key in ("alice-key", "bob-key")]
    kit = Toolkit("shop", api_keys=hashes, store=make_store(Hours()))

    @kit.tool(effect="idempotent")
    def mine(context: ToolCallContext) -> str:
        """Whose."""
        return context.caller

    def called(key: str) -> Any:
        return ask(kit, "POST", "/mine", headers={"Authorization": f"Bearer {key}", "Idempotency-Key": "k"})

    first, second, again = called("alice-key"), called("bob-key"), called("alice-key")
    assert first.json != second.json
    assert "Idempotent-Replayed" not in second.headers
    assert (again.json, again.headers["Idempotent-Replayed"]) == (first.json, "true")
    assert not any(key in first.json + second.json for key in ("alice-key", "bob-key"))
