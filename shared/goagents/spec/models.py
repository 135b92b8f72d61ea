"""Names of models: short aliases of the providers' current families, and how a name becomes a provider's id.

The ids are those that the vendors' own SDKs list. A name that is in no table is an id already and passes unchanged.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

_ANTHROPIC: Final[Mapping[str, str]] = {
    # a family without a version is its newest member
    "claude-opus": "claude-opus-5-5",
    "claude-sonnet": "claude-sonnet-5-5",
    "claude-haiku": "claude-haiku-5-5",
    # a member without its date
    "claude-opus-4-5": "claude-opus-4-5-20251101",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-opus-4-1": "claude-opus-4-1-20250805",
    "claude-opus-4": "claude-opus-4-20250514",
    "claude-sonnet-4": "claude-sonnet-4-20250514",
    "claude-3-7-sonnet": "claude-3-7-sonnet-20250219",
    "claude-3-5-sonnet": "claude-3-5-sonnet-20241022",
    "claude-3-5-haiku": "claude-3-5-haiku-20241022",
    # versions as people write them
    "claude-opus-5.5": "claude-opus-5-5",
    "claude-sonnet-5.5": "claude-sonnet-5-5",
    "claude-haiku-5.5": "claude-haiku-5-5",
    "claude-opus-4.5": "claude-opus-4-5-20251101",
    "claude-sonnet-4.5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4.5": "claude-haiku-4-5-20251001",
    "claude-opus-4.1": "claude-opus-4-1-20250805",
    "claude-3.7-sonnet": "claude-3-7-sonnet-20250219",
    "claude-3.5-sonnet": "claude-3-5-sonnet-20241022",
    "claude-3.5-haiku": "claude-3-5-haiku-20241022",
}
_GEMINI: Final[Mapping[str, str]] = {
    "gemini-pro": "gemini-pro-latest",
    "gemini-flash": "gemini-flash-latest",
    "gemini-flash-lite": "gemini-flash-lite-latest",
    "gemini-3.1-pro": "gemini-3.1-pro-preview",
    "gemini-3-pro": "gemini-3-pro-preview",
    "gemini-3-flash": "gemini-3-flash-preview",
}
ALIASES: Final[Mapping[str, str]] = {**_ANTHROPIC, **_GEMINI}

# Names that are ids as they stand: known only to tell a misspelling from a name that is merely new to us.
_IDS: Final[tuple[str, ...]] = (
    "claude-opus-5-5",
    "claude-opus-5",
    "claude-sonnet-5-5",
    "claude-sonnet-5",
    "claude-haiku-5-5",
    "claude-opus-4-8",
    "claude-opus-4-7",
    "claude-opus-4-6",
    "claude-sonnet-4-6",
    "gpt-6.2-sol",
    "gpt-6-sol",
    "gpt-6-luna",
    "gpt-5.6-sol",
    "gpt-5.6-luna",
    "gpt-5.5",
    "gpt-5.4",
    "gpt-5.4-mini",
    "gpt-5.2",
    "gpt-5.1",
    "gpt-5",
    "gpt-5-mini",
    "gpt-5-nano",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4.1-nano",
    "gpt-4o",
    "gpt-4o-mini",
    "o3",
    "o3-mini",
    "o4-mini",
    "gemini-3.8-flash",
    "gemini-3.5-flash",
    "gemini-3.5-flash-lite",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-2.0-flash",
)

# The day (ISO) from which the vendor announced that the id is no longer served.
RETIRED: Final[Mapping[str, str]] = {
    "claude-3-5-sonnet-20241022": "2025-10-28",
    "claude-3-7-sonnet-20250219": "2026-02-19",
    "claude-3-5-haiku-20241022": "2026-02-19",
    "claude-opus-4-20250514": "2026-06-15",
    "claude-sonnet-4-20250514": "2026-06-15",
    "claude-sonnet-4-5-20250929": "2026-11-30",
    "gpt-4.1-nano": "2026-10-23",
    "o4-mini": "2026-10-23",
    "o3-mini": "2026-10-23",
    "gpt-5": "2026-12-11",
    "gpt-5-mini": "2026-12-11",
    "gpt-5-nano": "2026-12-11",
    "o3": "2026-12-11",
    "gpt-4.1": "2027-01-14",
    "gpt-4.1-mini": "2027-01-14",
    "gpt-4o": "2027-01-14",
    "gpt-4o-mini": "2027-01-14",
    "gpt-5.1": "2027-04-01",
}
_MAX_STEPS = 8


def resolve_model(name: str, aliases: Mapping[str, str] | None = None) -> str:
    """Return the provider's id of `name`.

    The configuration's aliases go before the built-in ones, and an alias may name another.
    """
    for _ in range(_MAX_STEPS):
        target = (aliases or {}).get(name) or ALIASES.get(name, name)
        if target == name:
            break
        name = target
    return name


def alias_cycle(name: str, aliases: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the aliases that lead from `name` round to one of them again, if they do."""
    seen = [name]
    while (target := aliases.get(seen[-1])) is not None and target != seen[-1]:
        if target in seen:
            return (*seen, target)
        seen.append(target)
    return None


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the name among `known` that `name` was most likely meant to be, if any is near."""
    matches = get_close_matches(name, [*known], n=1, cutoff=cutoff)
    return matches[0] if matches else None


def misspelt_model(name: str, aliases: Mapping[str, str]) -> str | None:
    """Return the known name that `name` looks like a misspelling of; None for known and for quite new names."""
    known = (*ALIASES, *ALIASES.values(), *_IDS, *aliases, *aliases.values())
    # a dated or a newer member of a known family is no misspelling, nor is another version: gpt-5.7
    if name in known or any(name.startswith(f"{other}-") for other in known):
        return None
    guess = nearest(name, known, cutoff=0.85)
    if guess is None or _without_digits(guess) == _without_digits(name):
        return None
    return guess


def _without_digits(name: str) -> str:
    return "".join(letter for letter in name if not letter.isdigit())
