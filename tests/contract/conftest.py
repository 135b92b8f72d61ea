"""The Firestore emulator, one for all contract tests of a worker; each test has a project of its own."""

import uuid
from collections.abc import Iterator

import pytest
from tests.support.firestore_emulator import firestore_emulator, missing


@pytest.fixture(scope="session")
def emulator_address() -> Iterator[str]:
    if reason := missing():
        pytest.skip(reason)
    with firestore_emulator() as address:
        yield address


@pytest.fixture
def firestore_address(emulator_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The emulator, as FIRESTORE_EMULATOR_HOST names it."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator_address)
    return emulator_address


@pytest.fixture
def project() -> str:
    return f"test-{uuid.uuid4().hex[:16]}"
