"""Idempotency keys: where the result of a call is kept, so that its repetition gets the same one."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

LEASE = 600.0  # seconds: longer than any call, so a claim past it is of a process that died


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a key. `token` is that of the call that claimed it; `result` is None while it is in progress."""

    fingerprint: str
    token: str
    result: bytes | None = None


class KeyStore(Protocol):
    """Keys and fingerprints are hashes in hexadecimal; results are JSON. Called from several threads at once.

    Any exception of `claim` keeps the tool from being called.
    """

    def claim(self, key: str, fingerprint: str, token: str) -> Entry:
        """Make the key ours unless somebody has it, in one atomic step, and return whose it is now.

        One that is in progress for too long, with the same fingerprint, is of a process that died, and becomes ours.
        """
        ...

    def record(self, key: str, token: str, result: bytes) -> None:
        """Keep the result, if the key is still that of `token`."""
        ...

    def release(self, key: str, token: str) -> None:
        """Forget the key, if it is still that of `token`: the call failed, and may be made again."""
        ...


@dataclass(slots=True)
class _Kept:
    entry: Entry
    at: float


class MemoryKeyStore:
    """The keys of this process, the latest used ones. Another process, or the next one, knows nothing of them.

    Holds at most `max_entries` keys and `max_bytes` of results; `lease` is in seconds. Calls in progress are never
    dropped; there are no more of them than the server has threads.
    """

    def __init__(
        self,
        max_entries: int = 10_000,
        max_bytes: int = 32 << 20,
        *,
        lease: float = LEASE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._lease = lease
        self._now = now
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def claim(self, key: str, fingerprint: str, token: str) -> Entry:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or self._is_left_behind(kept, fingerprint):
                kept = self._kept[key] = _Kept(Entry(fingerprint, token), self._now())
            self._kept.move_to_end(key)
            self._trim()
            return kept.entry

    def record(self, key: str, token: str, result: bytes) -> None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or kept.entry.token != token or kept.entry.result is not None:
                return
            kept.entry = Entry(kept.entry.fingerprint, token, result)
            self._bytes += len(result)
            self._trim()

    def release(self, key: str, token: str) -> None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept.entry.token == token and kept.entry.result is None:
                del self._kept[key]

    def _is_left_behind(self, kept: _Kept, fingerprint: str) -> bool:
        entry = kept.entry
        return entry.result is None and entry.fingerprint == fingerprint and self._now() - kept.at >= self._lease

    def _trim(self) -> None:
        """Drop the results that were not used for longest, until the bounds hold."""
        while len(self._kept) > self._max_entries or self._bytes > self._max_bytes:
            oldest = next(((key, kept) for key, kept in self._kept.items() if kept.entry.result is not None), None)
            if oldest is None:
                return
            self._bytes -= len(oldest[1].entry.result or b"")
            del self._kept[oldest[0]]
