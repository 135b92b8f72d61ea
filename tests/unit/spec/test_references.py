"""The syntax of references, and what they resolve to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goagents.errors import ConfigurationError
from goagents.secrets.environment import EnvironmentSecrets
from goagents.spec.interpolation import Resolver, UnsetReference
from goagents.spec.references import Reference, escape, looks_secret, parse, references

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
VALUES = st.text(min_size=1, max_size=20)


def resolver(environ: Any = None, allow: Any = None):
    return Resolver({"env": EnvironmentSecrets(environ or {})}, allow=allow)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        ("${A}", "1"),
        ("x${A}y${B}z", "x1y2z"),
        ("${A}${A}", "11"),
        ("${NO:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${A:-default}", "1"),
        ("${NO:-}", ""),
        ("${NO:-${B}}", "2"),
        ("${NO:-a${NO2:-${A}}c}", "a1c"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$$", "$$"),
        ("$A costs $5", "$A costs $5"),
        ("{A}", "{A}"),
        ("${A}}", "1}"),
        ("${NO:-x:-y}", "x:-y"),
    ],
)
def test_resolving(text: str, value: Any):
    assert resolver({"A": "1", "B": "2", "EMPTY": ""}).resolve(text) == value


def test_resolving_all_of_some_data_leaves_keys_numbers_and_schemas_alone():
    data = {"${A}": ["${A}", 1, None, {"x": "$${A}"}], "parameters": {"pattern": "${A}"}}
    resolved = {"${A}": ["1", 1, None, {"x": "${A}"}], "parameters": {"pattern": "${A}"}}
    assert resolver({"A": "1"}).resolve_all(data) == resolved
    with pytest.raises(ConfigurationError, match="GONE"):
        resolver().resolve_all({"deep": [["${GONE}"]]})


def test_a_value_is_not_resolved_again():
    assert resolver({"A": "${B}", "B": "secret"}).resolve("${A}") == "${B}"


@given(st.text(max_size=40))
def test_an_escaped_text_resolves_to_itself(text: str):
    assert resolver().resolve(escape(text)) == text


@given(st.lists(st.tuples(VALUES, NAMES), max_size=5), st.dictionaries(NAMES, VALUES, max_size=5))
def test_texts_between_references_stay_and_references_become_their_values(pieces: Any, environ: Any):
    text = "".join(f"{escape(literal)} ${{{name}:-?}}" for literal, name in pieces)
    expected = "".join(f"{literal} {environ.get(name, '?')}" for literal, name in pieces)
    assert resolver(environ).resolve(text) == expected


@given(st.text(alphabet="${}:-AB secret", max_size=30))
def test_no_text_breaks_the_parser(text: str):
    try:
        parts = parse(text)
    except ValueError as error:
        assert "$" in str(error)  # noqa: PT017 - either outcome is right, and each is checked
        return
    assert all(isinstance(part, str | Reference) for part in parts)


@pytest.mark.parametrize("text", ["${", "${A", "${}", "${1A}", "${A B}", "${:-x}", "${A:-x", "${A:-${B}", "${é}"])
def test_what_is_no_reference_says_how_to_write_it(text: str):
    with pytest.raises(ConfigurationError, match=r"\$\$\{|\$\{NAME\}"):
        resolver({"A": "1"}).resolve(text)


def test_deeply_nested_defaults_are_refused():
    with pytest.raises(ValueError, match="nested"):
        parse("${A:-" * 50 + "}" * 50)


def test_references_lists_defaults_too():
    found = references("${A:-${B}} ${secret:projects/p/secrets/s/versions/1} $${C}")
    assert [reference.key for reference in found] == ["A", "B", "secret:projects/p/secrets/s/versions/1"]


def test_an_unset_variable_is_named():
    with pytest.raises(UnsetReference, match="OPENAI_API_KEY is not set") as caught:
        resolver().resolve("Bearer ${OPENAI_API_KEY}")
    assert caught.value.reference == Reference("env", "OPENAI_API_KEY")


@pytest.mark.parametrize("scheme", ["secret", "aws-secret"])
def test_secret_managers_are_known_and_refused(scheme: str):
    with pytest.raises(ConfigurationError, match="not implemented in this version"):
        resolver().resolve(f"${{{scheme}:name:-x}}")


def test_an_unknown_scheme_says_what_there_is():
    with pytest.raises(ConfigurationError, match=r"unknown kind of reference 'vault'; write \$\{NAME\}"):
        resolver().resolve("${vault:x}")


def test_another_secret_store_is_asked_by_its_scheme():
    stores = {"env": EnvironmentSecrets({"A": "1"}), "secret": {"db": "pass"}}
    assert Resolver(stores).resolve("${A}:${secret:db}") == "1:pass"


@pytest.mark.parametrize(
    "name",
    ["Authorization", "X-Auth", "Cookie", "X-Api-Key", "apikey", "apiKey", "KEY", "OPENAI_API_KEY", "API_KEYS", "key",
     "DB_PASSWORD", "GITHUB_TOKEN", "AccessToken", "clientSecret", "GITHUB_PAT", "MYSQL_PWD", "DB_PASS", "TOKEN_URL",
     "GOOGLE_APPLICATION_CREDENTIALS", "AWS_ACCESS_KEY_ID", "authKey", "PASSPHRASE", "PROXY_AUTHORIZATION"],
)  # fmt: skip
def test_names_of_secrets(name: str):
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    ["LOG_LEVEL", "GIT_AUTHOR_NAME", "MONKEY", "KEYBOARD", "Accept", "PATH", "ORDERS_KEY_FILE", "TOKEN-PATH", "PATTERN",
     "COMPASS", "keyboardLayout", ""],
)  # fmt: skip
def test_names_of_other_things(name: str):
    assert not looks_secret(name)


class TestAllow:
    def test_listed_names_resolve(self):
        assert resolver({"A": "1"}, allow=frozenset({"A"})).resolve("${A}") == "1"

    @pytest.mark.parametrize("text", ["${B}", "${B:-default}", "${A:-${B}}x${B}", "${secret:A}"])
    def test_others_do_not_and_their_values_do_not_show(self, text: str):
        with pytest.raises(ConfigurationError, match="allow:") as caught:
            resolver({"A": "1", "B": "hunter2"}, allow=frozenset({"A"})).resolve(text)
        assert "hunter2" not in str(caught.value)
