"""The secret port: a name in, its value out. Values are never stored, logged or returned by the API."""

from typing import Protocol


class SecretStore(Protocol):
    """One scheme of `${scheme:NAME}`; `scheme` is "env", "secret" (Secret Manager) or "aws-secret"."""

    scheme: str

    def get(self, name: str) -> str | None:
        """Return the secret's value, or None where there is no such secret."""
        ...
