"""The smoke test of a deployed function: one request, whose answer only GoAgents gives. Standard library only."""

import json
import urllib.error
import urllib.request
from http.client import HTTPException

from .catalogue import Function

TIMEOUT = 60.0  # seconds; the function may be cold
_MAX_BODY = 65_536
_BODY = b'{"message": "smoke"}'


def fault_of(url: str, function: Function, token: str, *, timeout: float = TIMEOUT) -> str | None:
    """Return what is wrong with the function at `url`, None where it answers as it should.

    The token is an identity token for Cloud Run, or empty.
    """
    smoke = function.smoke
    request = urllib.request.Request(  # noqa: S310 - its scheme is looked at below
        url.rstrip("/") + smoke.path,
        method=smoke.method,
        data=_BODY if smoke.method == "POST" else None,
        headers={"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})},
    )
    asked = f"{smoke.method} {request.full_url}"
    if not request.full_url.startswith(("https://", "http://127.0.0.1:")):
        return f"{asked}: not an https address"
    try:
        # An opener of its own: the module keeps the first one, with the proxies there were then.
        with urllib.request.build_opener().open(request, timeout=timeout) as answer:
            status, kind, body = answer.status, answer.headers.get("content-type", ""), answer.read(_MAX_BODY)
    except urllib.error.HTTPError as error:
        with error:
            status, kind, body = error.code, error.headers.get("content-type", ""), error.read(_MAX_BODY)
    except (OSError, HTTPException) as error:
        return f"{asked}: {error}"
    # An error must be one of ours: Google's front end answers 403 and 404, too.
    ours = status < 400 or kind.startswith("application/problem+json")
    if status == smoke.status and ours:
        return None
    return f"{asked}: {status} instead of {smoke.status}: {_said(kind, body)}"


def _said(kind: str, body: bytes) -> str:
    """What an answer says; a page of somebody else's is left out."""
    if not kind.startswith("application/problem+json"):
        return f"not an answer of GoAgents ({kind or 'no content type'})"
    try:
        detail = json.loads(body).get("detail", "")
    except (ValueError, AttributeError):
        detail = ""
    return str(detail)[:300]
