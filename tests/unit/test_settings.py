"""What the process environment says."""

import os

import pytest

from goagents.errors import ConfigurationError
from goagents.settings import DEFAULT_STORE, Settings, store_url
from goagents.spec.config import Config


def test_nothing_set() -> None:
    settings = Settings.from_environ({})
    assert settings == Settings()
    assert settings.server == "http://127.0.0.1:8080"
    assert not settings.on_cloud_run
    assert not settings.offline


def test_everything_set() -> None:
    settings = Settings.from_environ(
        {
            "GOAGENTS_CONFIG": os.pathsep.join(["a.yaml", "", "b.yaml"]),
            "GOAGENTS_STORE": "firestore://p/(default)",
            "GOAGENTS_SERVER": "https://agents.example.com",
            "GOAGENTS_API_KEY": "key",
            "GOAGENTS_METRICS_PORT": "9090",
            "GOAGENTS_OFFLINE": "1",
            "K_SERVICE": "chat",
            "GOOGLE_CLOUD_PROJECT": "p",
            "FIRESTORE_EMULATOR_HOST": "127.0.0.1:8085",
        }
    )
    assert settings.config_paths == ("a.yaml", "b.yaml")
    assert (settings.store, settings.server, settings.api_key) == (
        "firestore://p/(default)",
        "https://agents.example.com",
        "key",
    )
    assert (settings.metrics_port, settings.offline, settings.on_cloud_run) == (9090, True, True)
    assert (settings.project, settings.firestore_emulator) == ("p", "127.0.0.1:8085")


def test_empty_counts_as_not_set() -> None:
    assert Settings.from_environ(dict.fromkeys(("GOAGENTS_CONFIG", "GOAGENTS_STORE", "K_SERVICE"), "")) == Settings()


def test_all_that_is_wrong_is_told_at_once() -> None:
    environ = {"GOAGENTS_STORE": "mysql://x", "GOAGENTS_METRICS_PORT": "99999", "GOAGENTS_OFFLINE": "perhaps"}
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environ(environ)
    assert sorted(error.path for error in caught.value.errors) == sorted(environ)


def test_keys_do_not_show() -> None:
    assert "s3cret" not in repr(
        Settings.from_environ({"GOAGENTS_API_KEY": "s3cret", "GOAGENTS_INTERNAL_KEY": "s3cret"})
    )


CONFIGURED = Config.model_validate({"store": {"url": "sqlite:///configured.db"}})


@pytest.mark.parametrize(
    ("config", "settings", "url"),
    [
        (Config(), Settings(), DEFAULT_STORE),
        (CONFIGURED, Settings(), "sqlite:///configured.db"),
        (CONFIGURED, Settings(store="sqlite:///mine.db"), "sqlite:///mine.db"),
        (CONFIGURED, Settings(service="chat", project="p"), "sqlite:///configured.db"),
        (Config(), Settings(service="chat", project="p"), "firestore://p/(default)"),
        (Config(), Settings(project="p"), DEFAULT_STORE),
    ],
)
def test_which_store(config: Config, settings: Settings, url: str) -> None:
    assert store_url(config, settings) == url


def test_cloud_run_without_a_project() -> None:
    with pytest.raises(ConfigurationError, match="GOOGLE_CLOUD_PROJECT"):
        store_url(Config(), Settings(service="chat"))
