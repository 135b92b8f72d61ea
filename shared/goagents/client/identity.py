"""gcloud's identity token as the credential: what Cloud Run's IAM asks for."""

import asyncio
import base64
import binascii
import json
import shutil
import subprocess
import time
from collections.abc import AsyncGenerator, Generator

import httpx2

from goagents.errors import Unauthenticated

TIMEOUT = 20.0
_MARGIN = 120.0


def is_installed() -> bool:
    return shutil.which("gcloud") is not None


class GcloudIdentity(httpx2.Auth):
    """Asks `gcloud auth print-identity-token` once, and again shortly before the token ends.

    Raises Unauthenticated, with gcloud's own last line, where gcloud gives none.
    """

    def __init__(self) -> None:
        self._token = ""  # nosec B105 - none yet
        self._expires_at = 0.0

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        self._refresh()
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        if self._is_stale():
            await asyncio.to_thread(self._refresh)
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request

    def _is_stale(self) -> bool:
        return time.time() > self._expires_at - _MARGIN

    def _refresh(self) -> None:
        if self._is_stale():
            self._token = _print_identity_token()
            self._expires_at = _expiry(self._token)


def _print_identity_token() -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            [shutil.which("gcloud") or "gcloud", "auth", "print-identity-token", "--quiet"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Unauthenticated(f"gcloud gave no identity token ({type(fault).__name__}); {_REMEDY}") from fault
    token = done.stdout.strip()
    if done.returncode != 0 or not token:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = f": {lines[0][:300]}" if lines else ""
        raise Unauthenticated(f"gcloud gave no identity token{said}; {_REMEDY}")
    return token


_REMEDY = "set GOAGENTS_API_KEY, or sign in by `gcloud auth login`"


def _expiry(token: str) -> float:
    """Return when a JSON Web Token ends, in seconds since the epoch; at once where it does not say."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return 0.0
