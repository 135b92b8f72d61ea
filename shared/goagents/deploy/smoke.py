"""The smoke test of a deployed function: one request, whose answer only GoAgents gives. Standard library only.

With `auth.mode: api_key` a release, which has no key, gets no further than the refusal of its identity token. That is
an answer only GoAgents gives, and only once it has read its configuration; at what lies behind it only /ready looks.
"""

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from .catalogue import Function

TIMEOUT = 60.0  # seconds; the function may be cold
_MAX_BODY = 65_536
_BODY = b'{"message": "smoke"}'
_PROBLEM = "application/problem+json"
_WANTS_A_KEY = {"code": "unauthenticated", "detail": "This API key is not known here."}  # access/authentication.py


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
    ours = status < 400 or kind.startswith(_PROBLEM)
    if status == smoke.status and ours:
        return None
    problem = _problem(kind, body)
    if status == 401 and function.called_by == "users" and _WANTS_A_KEY.items() <= problem.items():
        return None
    said = str(problem.get("detail", ""))[:300] if ours else f"not an answer of GoAgents ({kind or 'no content type'})"
    return f"{asked}: {status} instead of {smoke.status}: {said}"


def _problem(kind: str, body: bytes) -> dict[str, Any]:
    """The problem that an answer of ours describes; of somebody else's, nothing."""
    if not kind.startswith(_PROBLEM):
        return {}
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
