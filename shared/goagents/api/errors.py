"""The one place where an error becomes a response: problem+json (RFC 9457)."""

import json
import logging
import math
import traceback
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Send

from goagents.errors import BadRequest, GoAgentsError, MethodNotAllowed, PayloadTooLarge, RequestError, Unauthenticated
from goagents.telemetry.base import Unexpected

from .calls import Call

PROBLEM = "application/problem+json"
MAX_ERRORS = 100

_log = logging.getLogger("goagents.api")
_DEFECT = GoAgentsError("Something went wrong on our side. The server's log has the details under this request's id.")


class NotServing(GoAgentsError):
    """The server cannot serve: its configuration or its store is not usable. `GET /ready` and its log say why."""

    status = 503
    code = "not_serving"


class RequestTimedOut(RequestError):
    """The request did not arrive in time."""

    status = 408
    code = "request_timed_out"


class NotAllowedHere(MethodNotAllowed):
    """This path does not answer that method."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"This path does not answer {method[:32]!r}; it answers {allowed}.")
        self.allowed = allowed


def as_error(error: Exception, call: Call) -> GoAgentsError:
    """Return what to tell the client; what nobody expected is told to the log only."""
    if isinstance(error, GoAgentsError):
        return error
    if isinstance(error, ClientDisconnect):
        return BadRequest("The connection ended before the request did.")
    report(error, call)
    return _DEFECT


def report(error: BaseException, call: Call) -> None:
    """Tell the log of a defect, with its traceback."""
    where = f"{call.method} {call.route}"
    if call.services is None:
        _log.error("unexpected error in %s: %r", where, error, exc_info=error)
        return
    text = "".join(traceback.format_exception(error))
    call.services.telemetry.emit(Unexpected(where, repr(error)[:1000], text))


def problem_of(error: GoAgentsError, call: Call) -> dict[str, Any]:
    """Return the problem's body. A problem of a run says which."""
    body = error.problem()
    if "errors" in body:
        body["errors"] = body["errors"][:MAX_ERRORS]
    if call.run_id:
        body["run_id"] = call.run_id
    if call.session_id:
        body["session_id"] = call.session_id
    return body


async def send_error(error: GoAgentsError, call: Call, send: Send) -> None:
    body = json.dumps(problem_of(error, call)).encode()
    headers = [
        (b"content-type", PROBLEM.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *_headers(error),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(error: GoAgentsError) -> list[tuple[bytes, bytes]]:
    headers = []
    if error.retry_after is not None and math.isfinite(error.retry_after):
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after))))
    elif error.status == 429:
        headers.append((b"retry-after", b"1"))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b'Bearer realm="goagents"'))
    if isinstance(error, NotAllowedHere):
        headers.append((b"allow", error.allowed.encode()))
    if isinstance(error, PayloadTooLarge | RequestTimedOut):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    return headers
