"""Secrets from the process environment: `${VAR}`."""

from collections.abc import Mapping


class EnvironmentSecrets:
    """The scheme `env`. A variable set to the empty string counts as not set, as in the shell's `${VAR:-default}`."""

    scheme = "env"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def get(self, name: str) -> str | None:
        return self._environ.get(name) or None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._environ)} variables)"
