"""Names that every provider takes: letters, digits, `_` and `-`, at most 64, each one once."""

import hashlib
import re
from collections.abc import Iterable

MAX_LENGTH = 64
_HASH_LENGTH = 8
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")


def safe_name(name: str) -> str:
    """Return `name` in `[A-Za-z0-9_-]{1,64}`; a name that was cut ends with a hash of the whole, so it stays apart."""
    clean = _FOREIGN.sub("_", name).strip("_") or "tool"
    return clean if len(clean) <= MAX_LENGTH else _hashed(clean, name)


def unique_names(names: Iterable[str]) -> list[str]:
    """Return one safe name for each of `names`, in order, none twice. The same list always gives the same answer."""
    taken: set[str] = set()
    result = []
    for name in names:
        candidate = safe_name(name)
        round_ = 0
        while candidate in taken:
            candidate = _hashed(safe_name(name), f"{name}#{round_}" if round_ else name)
            round_ += 1
        taken.add(candidate)
        result.append(candidate)
    return result


def _hashed(clean: str, whole: str) -> str:
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{clean[: MAX_LENGTH - _HASH_LENGTH - 1]}_{digest}"
