"""Google's identity tokens (OIDC), as Cloud Tasks, Cloud Scheduler and service accounts send them.

The signature is checked here, by google-auth and Google's certificates, which are fetched once in a few hours. Where no
certificates can be had, nobody is let in, and nobody is told that the token is wrong: that is a 503.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Collection, Mapping
from typing import Any

import httpx2
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError

from goagents.clock import Clock, SystemClock
from goagents.errors import ConfigurationError, Unauthenticated

from .base import IdentityUnavailable

CERTS_URL = "https://www.googleapis.com/oauth2/v1/certs"
ISSUERS = frozenset({"https://accounts.google.com", "accounts.google.com"})
FETCH_TIMEOUT = 5.0
SKEW = 10  # seconds that two clocks may differ
MIN_AGE, MAX_AGE = 300.0, 86_400.0  # how long certificates are kept, whatever their answer says
STALE = 86_400.0  # and how much longer where no new ones can be had
REFETCH = 30.0  # seconds between two requests for them
_MAX_CERTS = 1 << 20
_log = logging.getLogger("goagents.identity")
Certificates = Mapping[str, str]


class GoogleTokens:
    """`certs_url` answers PEM certificates by key id; `ca_bundle` is a PEM file trusted besides the system's.

    Raises ConfigurationError for an unreadable `ca_bundle`.
    """

    def __init__(
        self,
        *,
        certs_url: str = CERTS_URL,
        ca_bundle: str | None = None,
        timeout: float = FETCH_TIMEOUT,
        clock: Clock | None = None,
    ) -> None:
        self._certs_url = certs_url
        self._tls = _tls(ca_bundle)
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._certificates: Certificates = {}
        self._fresh_until = 0.0
        self._asked_at: float | None = None
        self._failed = False
        self._fetching = asyncio.Lock()

    async def verify(self, token: str, audiences: Collection[str]) -> str:
        key = _key_of(token)
        claims = _verified(token, {key: await self._certificate(key)}, audiences)
        if claims.get("iss") not in ISSUERS:
            raise Unauthenticated("The identity token was not issued by Google.")
        email = claims.get("email")
        if not isinstance(email, str) or not email or claims.get("email_verified") is not True:
            raise Unauthenticated("The identity token names no verified e-mail address.")
        return email

    async def _certificate(self, key: str) -> str:
        """Raises Unauthenticated where Google has no such key, IdentityUnavailable where that cannot be told."""
        if not self._knows(key, self._fresh_until):
            async with self._fetching:
                if not self._knows(key, self._fresh_until):
                    await self._fetch()
        if self._knows(key, self._fresh_until + (STALE if self._failed else 0.0)):
            return self._certificates[key]
        if self._failed:
            raise IdentityUnavailable
        raise Unauthenticated("The identity token is signed with a key that is not Google's.")

    def _knows(self, key: str, until: float) -> bool:
        return key in self._certificates and self._clock.monotonic() < until

    async def _fetch(self) -> None:
        """Fetch anew, unless that was tried a moment ago: who sends tokens of keys that are not there costs little."""
        now = self._clock.monotonic()
        if self._asked_at is not None and now - self._asked_at < REFETCH:
            return
        self._asked_at, self._failed = now, True  # until they are there: this may be cancelled
        try:
            certificates, age = await self._fetched()
        except (httpx2.HTTPError, TimeoutError, ValueError) as error:
            _log.warning("Google's certificates cannot be had from %s: %r", self._certs_url, error)
        else:
            self._certificates, self._fresh_until, self._failed = certificates, now + age, False

    async def _fetched(self) -> tuple[Certificates, float]:
        async with (
            asyncio.timeout(self._timeout),
            httpx2.AsyncClient(verify=self._tls, timeout=self._timeout) as client,
            client.stream("GET", self._certs_url) as response,
        ):
            if response.status_code != 200:
                raise ValueError(f"it answers {response.status_code}")
            content = b""
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > _MAX_CERTS:
                    raise ValueError("its answer is too large")
            return _certificates(content), _age(response.headers.get("cache-control", ""))


def _tls(ca_bundle: str | None) -> ssl.SSLContext | bool:
    if ca_bundle is None:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"ca_bundle: {ca_bundle} holds no certificates that can be read") from error
    return context


def _certificates(content: bytes) -> Certificates:
    found = json.loads(content)
    if not isinstance(found, dict) or not all(isinstance(pem, str) for pem in found.values()):
        raise ValueError("its answer holds no certificates")
    return found


def _age(cache_control: str) -> float:
    """Return for how many seconds an answer may be kept."""
    for directive in cache_control.lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name == "max-age" and value.isascii() and value.isdigit():
            return min(max(float(value[:9]), MIN_AGE), MAX_AGE)
    return MIN_AGE


def _key_of(token: str) -> str:
    """Return the id of the key that a token says it is signed with; only RSA signatures are taken, as Google's are."""
    try:
        header = jwt.decode_header(token)  # type: ignore[no-untyped-call]  # google-auth has no types here
    except (GoogleAuthError, ValueError, RecursionError):
        raise Unauthenticated("This is no identity token: send `Authorization: Bearer TOKEN`.") from None
    key = header.get("kid")
    if header.get("alg") != "RS256" or not isinstance(key, str):
        raise Unauthenticated("The identity token is not signed as Google's are.")
    return key


def _verified(token: str, certificates: Certificates, audiences: Collection[str]) -> Mapping[str, Any]:
    try:
        claims: Mapping[str, Any] = jwt.decode(  # type: ignore[no-untyped-call]
            token, certs=certificates, audience=list(audiences), clock_skew_in_seconds=SKEW
        )
    except (GoogleAuthError, ValueError, TypeError, RecursionError) as error:
        # Its messages hold parts of the token: told is what is wrong, and nothing of it.
        raise Unauthenticated(_why(error, audiences)) from None
    return claims


def _why(error: Exception, audiences: Collection[str]) -> str:
    text = str(error)
    if "audience" in text:
        return f"The identity token is for another audience than {' or '.join(sorted(audiences))}."
    if "expired" in text:
        return "The identity token has expired."
    if "too early" in text:
        return "The identity token is not valid yet: one of the two clocks is wrong."
    return "The identity token's signature or content is wrong."
