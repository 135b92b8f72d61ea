"""What the process environment says, read in one place.

| variable | meaning |
|---|---|
| `GOAGENTS_CONFIG` | configuration files, separated as in PATH |
| `GOAGENTS_STORE` | the store's URL; goes before the configuration's |
| `GOAGENTS_SERVER`, `GOAGENTS_API_KEY` | where the command line and the client find the server, and their credential |
| `GOAGENTS_METRICS_PORT` | the serving process serves metrics there too |
| `GOAGENTS_INTERNAL_KEY` | the key of internal calls where the platform has no identity tokens |
| `GOAGENTS_OFFLINE` | 1: model APIs are never reached; providers need a `base_url` on this machine |
| `K_SERVICE`, `K_REVISION` | set by Cloud Run |
| `GOOGLE_CLOUD_PROJECT`, `GOOGLE_CLOUD_REGION` | project and region |
| `FIRESTORE_EMULATOR_HOST` | host:port of the Firestore emulator |
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from goagents.errors import ConfigurationError, FieldError
from goagents.spec.config import Config, store_url_form

DEFAULT_SERVER = "http://127.0.0.1:8080"
DEFAULT_STORE = "sqlite:///.goagents/goagents.db"


@dataclass(frozen=True, slots=True)
class Settings:
    config_paths: tuple[str, ...] = ()
    store: str | None = None
    server: str = DEFAULT_SERVER
    api_key: str | None = field(default=None, repr=False)
    internal_key: str | None = field(default=None, repr=False)
    metrics_port: int | None = None
    offline: bool = False
    service: str | None = None
    revision: str | None = None
    project: str | None = None
    region: str | None = None
    firestore_emulator: str | None = None

    @property
    def on_cloud_run(self) -> bool:
        return self.service is not None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read `environ` (the process's own by default); empty counts as not set.

        Raises ConfigurationError naming the variables that are wrong, all of them at once.
        """
        reader = _Reader(os.environ if environ is None else environ)
        settings = cls(
            config_paths=tuple(path for path in (reader.text("GOAGENTS_CONFIG") or "").split(os.pathsep) if path),
            store=reader.store("GOAGENTS_STORE"),
            server=reader.text("GOAGENTS_SERVER") or DEFAULT_SERVER,
            api_key=reader.text("GOAGENTS_API_KEY"),
            internal_key=reader.text("GOAGENTS_INTERNAL_KEY"),
            metrics_port=reader.port("GOAGENTS_METRICS_PORT"),
            offline=reader.flag("GOAGENTS_OFFLINE"),
            service=reader.text("K_SERVICE"),
            revision=reader.text("K_REVISION"),
            project=reader.text("GOOGLE_CLOUD_PROJECT") or reader.text("GCLOUD_PROJECT"),
            region=reader.text("GOOGLE_CLOUD_REGION"),
            firestore_emulator=reader.text("FIRESTORE_EMULATOR_HOST"),
        )
        if reader.errors:
            raise ConfigurationError("The environment is wrong", errors=reader.errors)
        return settings


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.errors: list[FieldError] = []

    def text(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def flag(self, name: str) -> bool:
        value = self.text(name)
        if value not in (None, "0", "1"):
            self.errors.append(FieldError(name, "must be 1 or 0"))
        return value == "1"

    def port(self, name: str) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if value.isascii() and value.isdigit() and 1 <= int(value[:6]) <= 65_535:
            return int(value)
        self.errors.append(FieldError(name, "must be a port, 1 to 65535"))
        return None

    def store(self, name: str) -> str | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            return store_url_form(value)
        except ValueError as error:
            self.errors.append(FieldError(name, str(error)))
            return None


def store_url(config: Config, settings: Settings) -> str:
    """Return the store's URL: GOAGENTS_STORE, `store.url`, Firestore on Cloud Run, SQLite in the working directory.

    Raises ConfigurationError on Cloud Run where no project is known.
    """
    chosen = settings.store or config.store.url
    if chosen:
        return chosen
    if not settings.on_cloud_run:
        return DEFAULT_STORE
    if settings.project is None:
        message = "is not set: name the project of the Firestore database, or set GOAGENTS_STORE"
        raise ConfigurationError("No store", errors=[FieldError("GOOGLE_CLOUD_PROJECT", message)])
    return f"firestore://{settings.project}/(default)"
