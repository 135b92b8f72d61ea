"""Who may call: the bearer of a key, whom the platform let through, or (without either) this machine only."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from goagents.access.authentication import authenticate, bearer, mode_of
from goagents.errors import ConfigurationError, PermissionDenied, Unauthenticated

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHOWN = 16  # digits of a key's hash: enough to tell the keys of one toolkit apart


class Callers:
    """`api_keys` are SHA-256 hashes in hexadecimal, as in `auth.api_keys`, with `sha256:` before them or not.

    Raises ConfigurationError for what is no such hash.
    """

    def __init__(self, api_keys: Sequence[str], *, on_cloud_run: bool) -> None:
        if isinstance(api_keys, str):
            raise ConfigurationError("api_keys: is a list of hashes, not one text")
        self._digests = [_digest(f"api_keys.{place}", text) for place, text in enumerate(api_keys)]
        self._mode = mode_of(None, on_cloud_run=on_cloud_run)

    @property
    def by_key(self) -> bool:
        return bool(self._digests)

    def admit(self, headers: Mapping[str, str], host: str | None) -> str:
        """Return who calls. `headers` has lower-case names, `host` is the peer's address.

        Raises Unauthenticated and PermissionDenied.
        """
        if self._digests:
            return self._by_key(headers)
        try:
            return authenticate(None, mode=self._mode, headers=headers, client_host=host).id
        except PermissionDenied:
            raise PermissionDenied(
                "Without keys only requests of the same machine, for localhost, are served. Give the toolkit "
                "`api_keys` to serve others."
            ) from None

    def _by_key(self, headers: Mapping[str, str]) -> str:
        digest = hashlib.sha256(bearer(headers.get("authorization")).encode("utf-8", "surrogateescape")).hexdigest()
        # All keys are compared, whichever fits: the time tells nothing.
        if not any([hmac.compare_digest(digest, known) for known in self._digests]):  # noqa: C419 # see above
            raise Unauthenticated("This API key is not known here.")
        # Each key is somebody else: who repeats another's Idempotency-Key is not given that one's result.
        return f"key:{digest[:_SHOWN]}"


def _digest(place: str, text: str) -> str:
    digest = text.removeprefix("sha256:").lower()
    if not _DIGEST.fullmatch(digest):
        raise ConfigurationError(f"{place}: is not a SHA-256 in hexadecimal; make it with: printf %s KEY | sha256sum")
    return digest
