"""Identifiers. Random, not time-ordered: Firestore spreads load by key, and keys that only grow make one hot range."""

import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no letter looks like a digit
_LENGTH = 24  # 120 bits


def new_id(prefix: str) -> str:
    """Return a fresh identifier such as `run_7m2k…`: 120 random bits, safe in a URL and in a document path."""
    number = secrets.randbits(5 * _LENGTH)
    return f"{prefix}_" + "".join(_ALPHABET[(number >> 5 * i) & 31] for i in range(_LENGTH))


def sequence(number: int) -> str:
    """Return `number` as ten digits, so that ids sort as their numbers do."""
    return f"{number:010d}"
