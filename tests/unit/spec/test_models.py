"""Aliases of models, and names that are probably misspelt."""

import pytest

from goagents.spec.models import ALIASES, RETIRED, misspelt_model, resolve_model


@pytest.mark.parametrize(
    ("name", "resolved"),
    [
        ("claude-sonnet-4", "claude-sonnet-4-20250514"),
        ("claude-haiku-4.5", "claude-haiku-4-5-20251001"),
        ("claude-sonnet", "claude-sonnet-5-5"),
        ("gemini-3.1-pro", "gemini-3.1-pro-preview"),
        ("gpt-4o", "gpt-4o"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-20250514"),
        ("something-new", "something-new"),
        ("ft:gpt-4.1:org::id", "ft:gpt-4.1:org::id"),
    ],
)
def test_names_become_ids_and_unknown_names_pass(name: str, resolved: str) -> None:
    assert resolve_model(name) == resolved


def test_the_configuration_goes_before_the_built_in_aliases() -> None:
    assert resolve_model("claude-sonnet", {"claude-sonnet": "my-proxy/sonnet"}) == "my-proxy/sonnet"


def test_an_alias_may_name_another() -> None:
    assert resolve_model("fast", {"fast": "small", "small": "claude-haiku"}) == "claude-haiku-5-5"


def test_a_circle_of_aliases_ends() -> None:
    assert resolve_model("a", {"a": "b", "b": "a"}) in ("a", "b")


def test_every_built_in_alias_leads_to_an_id() -> None:
    assert not set(ALIASES.values()) & set(ALIASES) - {name for name, target in ALIASES.items() if name == target}
    assert all(day[:2] == "20" and len(day) == 10 for day in RETIRED.values())


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("claude-sonet-4", "claude-sonnet-4"),
        ("cluade-opus-5-5", "claude-opus-5-5"),
        ("gtp-4o-mini", "gpt-4o-mini"),
        ("gemini-2.5-flsh", "gemini-2.5-flash"),
        ("suport", "support"),
        ("claude-sonnet-4", None),
        ("claude-sonnet-4-20990101", None),
        ("claude-sonnet-7", None),
        ("gpt-5.7", None),
        ("gemini-9.9-flash", None),
        ("llama3.3:70b", None),
        ("my-own-model", None),
    ],
)
def test_misspellings_are_told_from_new_names(name: str, guess: str | None) -> None:
    assert misspelt_model(name, {"support": "gpt-5.4"}) == guess
