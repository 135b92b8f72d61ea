"""Secrets from the environment."""

from goagents.secrets.base import SecretStore
from goagents.secrets.environment import EnvironmentSecrets


def test_a_variable_is_found_by_its_name():
    assert EnvironmentSecrets({"KEY": "s3cret"}).get("KEY") == "s3cret"


def test_unset_and_empty_are_both_absent():
    secrets = EnvironmentSecrets({"EMPTY": ""})
    assert secrets.get("EMPTY") is None
    assert secrets.get("UNSET") is None


def test_it_is_a_secret_store_of_the_scheme_env():
    store: SecretStore = EnvironmentSecrets({})
    assert store.scheme == "env"


def test_what_it_holds_is_not_in_its_repr():
    assert "s3cret" not in repr(EnvironmentSecrets({"KEY": "s3cret"}))
