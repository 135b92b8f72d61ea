"""What a tool may know of the call beside its arguments."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import flask

from goagents.errors import FieldError, Invalid

MAX_KEY = 255
_OURS = re.compile(r"(run_[0-9a-z]+)/[^/]+/.+")  # {run}/{step}/{call}, which the `http` tool sends
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "x-serverless-authorization", "cookie"})


@dataclass(frozen=True, slots=True)
class ToolCallContext:
    """One call. A tool that has a parameter of this type, under any name, is given it; the model is not asked for it.

    `idempotency_key` is the same whenever the same call is repeated: forward it to the backend that does the work.
    `run_id` is the run it belongs to, where GoAgents calls (its `http` tool sends a key unless the effect is `read`).
    `caller` is who asked: the account behind the platform's token, else "local", or `key:` and the first 16 digits of
    the key's SHA-256. `traceparent` is W3C's. `headers` have lower-case names, and no credential.
    """

    tool: str
    idempotency_key: str | None = None
    run_id: str | None = None
    caller: str = "local"
    traceparent: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def context_of(request: flask.Request, tool: str, caller: str) -> ToolCallContext:
    """Return the context of a request. Raises Invalid for an unusable Idempotency-Key."""
    key = _key(request)
    ours = _OURS.fullmatch(key or "")
    headers = {name.lower(): value for name, value in request.headers.items() if name.lower() not in _CREDENTIALS}
    return ToolCallContext(tool, key, ours[1] if ours else None, caller, headers.get("traceparent"), headers)


def _key(request: flask.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")  # WSGI has joined repeated ones by a comma: such a key is as good
    if key is not None and not 0 < len(key) <= MAX_KEY:
        place = FieldError("Idempotency-Key", f"has 1 to {MAX_KEY} characters")
        raise Invalid("The header Idempotency-Key is not usable.", errors=[place])
    return key
