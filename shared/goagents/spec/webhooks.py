"""The keys that sign webhooks, as Standard Webhooks writes symmetric ones: checked as the configuration loads."""

import base64

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

_PREFIX = "whsec_"
_MIN_KEY, _MAX_KEY = 24, 64  # bytes
NO_KEY = (
    f"is no key: it is `{_PREFIX}` and the base64 of {_MIN_KEY} to {_MAX_KEY} random bytes; "
    f'make one with: echo "{_PREFIX}$(openssl rand -base64 32)"'
)


def signing_key(secret: str) -> bytes | None:
    """Return the key's bytes, None where `secret` is none. The base64 may lack its padding, nothing else."""
    text = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None
    written = base64.b64encode(key).decode()
    sound = secret in (_PREFIX + written, _PREFIX + written.rstrip("="))  # as any receiver's library reads it
    return key if sound and _MIN_KEY <= len(key) <= _MAX_KEY else None


def is_signing_key(secret: SecretStr) -> SecretStr:
    """Return `secret` if it is a key; the error shows nothing of it."""
    if signing_key(secret.get_secret_value()) is None:
        raise PydanticCustomError("webhook_secret", NO_KEY)
    return secret
