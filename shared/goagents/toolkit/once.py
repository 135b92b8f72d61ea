"""One call for each idempotency key: repetitions get the recorded result."""

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from goagents.errors import Conflict

from .keys import Entry, KeyStore

_log = logging.getLogger("goagents.toolkit")
_FIRST_LOOK = 0.02
_LONGEST_LOOK = 0.5


class InProgress(Conflict):
    """A call with this Idempotency-Key is in progress. Repeat the request later, with the same key."""

    code = "in_progress"
    retryable = True


def key_of(*parts: str) -> str:
    """Return the name of a key in the store: a hash, so that it holds nothing of the caller's."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def fingerprint_of(arguments: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()


def call_once(
    store: KeyStore, key: str, fingerprint: str, call: Callable[[], bytes], patience: float
) -> tuple[bytes, bool]:
    """Return the call's result, and whether it was recorded before. `patience` is in seconds.

    Raises Conflict where the key belongs to another payload, InProgress where an earlier call has no result within
    `patience`. A call that raises is not recorded: it may be repeated.
    """
    token = secrets.token_hex(16)
    entry = _claimed(store, key, fingerprint, token, patience)
    if entry.result is not None:
        return entry.result, True
    try:
        result = call()
    except BaseException:
        _settle(lambda: store.release(key, token))
        raise
    _settle(lambda: store.record(key, token, result))
    return result, False


def _claimed(store: KeyStore, key: str, fingerprint: str, token: str, patience: float) -> Entry:
    """Return an entry that is ours, or has a result."""
    until = time.monotonic() + patience
    pause = _FIRST_LOOK
    while True:
        entry = store.claim(key, fingerprint, token)
        if entry.fingerprint != fingerprint:
            raise Conflict("This Idempotency-Key was used for other arguments; use a fresh key.")
        if entry.token == token or entry.result is not None:
            return entry
        if time.monotonic() + pause > until:
            raise InProgress(retry_after=1)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_LOOK)


def _settle(write: Callable[[], None]) -> None:
    try:
        write()
    except Exception:  # noqa: BLE001 - a store of the user's own may raise anything; the log has it
        # The call itself is over, and what came of it is worth more to the caller than this.
        _log.exception("the store of idempotency keys failed: a repetition of this call may be carried out again")
