"""Signatures as Standard Webhooks has them (symmetric ones): the configured keys, and the headers of one message."""

import base64
import hashlib
import hmac
from collections.abc import Sequence

from goagents.errors import ConfigurationError, FieldError
from goagents.spec.webhooks import NO_KEY, signing_key


class Signer:
    """Signs with every key, so that a receiver may know any one of them: that is how a key is replaced."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Raises ConfigurationError that names each wrong secret by its place, and shows nothing of it."""
        keys = [signing_key(secret) for secret in secrets]
        wrong = [FieldError(f"webhooks.secrets.{n}", NO_KEY) for n, key in enumerate(keys) if key is None]
        if wrong:
            raise ConfigurationError(str(wrong[0]), errors=wrong)
        self._keys = tuple(key for key in keys if key is not None)

    @property
    def ready(self) -> bool:
        """Whether there is a key at all."""
        return bool(self._keys)

    def headers(self, message: str, timestamp: int, body: bytes) -> dict[str, str]:
        """Return the headers that identify and sign the message with the id `message`; `timestamp` is in seconds."""
        content = f"{message}.{timestamp}.".encode() + body
        digests = (hmac.digest(key, content, hashlib.sha256) for key in self._keys)
        return {
            "webhook-id": message,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
        }
