"""Identifiers. Random, not time-ordered: Firestore spreads load by key, and keys that only grow make one hot range."""

import os
from base64 import b32hexencode


def new_id(prefix: str) -> str:
    """Return a fresh identifier such as `run_7m2k…`: 120 random bits, safe in a URL and in a document path."""
    return f"{prefix}_{b32hexencode(os.urandom(15)).decode().lower()}"


def sequence(number: int) -> str:
    """Return `number` as ten digits, so that ids sort as their numbers do."""
    return f"{number:010d}"
