"""What goes wrong between the client and the server, and what the server's own errors become."""

import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from goagents import errors
from goagents.codes import by_code
from goagents.errors import FieldError, GoAgentsError
from goagents.resources import Waiting


class ServerUnreachable(GoAgentsError):
    """The server cannot be reached."""

    status = 503
    code = "server_unreachable"
    retryable = True


class ConnectionBroke(ServerUnreachable):
    """The connection broke before the answer was complete; what was asked may still happen."""

    code = "connection_broke"


class ServerTimedOut(GoAgentsError):
    """The server did not answer in time."""

    status = 504
    code = "server_timed_out"


class UnexpectedAnswer(GoAgentsError):
    """The server's answer is not one of GoAgents."""

    status = 502
    code = "unexpected_answer"


class GatewayFailed(UnexpectedAnswer):
    """Something in front of the server could not reach it, or lost it."""

    retryable = True


class StreamEnded(GoAgentsError):
    """The stream ended before the run did; the run may go on, and its answer will be in the session."""

    status = 502
    code = "stream_ended"


class RunWaiting(GoAgentsError):
    """The run waits for a person: decide by `approve_run`, then wait for it by `wait_for_run`."""

    status = 409
    code = "run_waiting"

    def __init__(self, run_id: str, session_id: str | None, waiting: Waiting | None) -> None:
        calls = ", ".join(call.name for call in waiting.calls) if waiting else ""
        super().__init__(
            f"the run {run_id} waits for a person to decide{f' on {calls}' if calls else ''}: "
            f"`approve_run` or `goagents runs approve {run_id}`; its answer then comes from `wait_for_run`"
        )
        self.run_id = run_id
        self.session_id = session_id
        self.waiting = waiting


BY_CODE: dict[str, type[GoAgentsError]] = by_code(GoAgentsError)
_BY_STATUS: dict[int, type[GoAgentsError]] = {
    400: errors.BadRequest,
    401: errors.Unauthenticated,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    409: errors.Conflict,
    413: errors.PayloadTooLarge,
    415: errors.UnsupportedMediaType,
    422: errors.Invalid,
    429: errors.LimitExceeded,
}
_OF_GATEWAYS = frozenset({502, 503, 504})
_SECONDS_OF_A_DAY = 86_400.0


def from_problem(problem: dict[str, Any], retry_after: float | None = None) -> GoAgentsError:
    """Return the error that a problem (RFC 9457) stands for: by `code`, else by `status`."""
    status = problem.get("status")
    kind = BY_CODE.get(str(problem.get("code"))) or _BY_STATUS.get(status if isinstance(status, int) else 0)
    error = (kind or GoAgentsError)(
        _text(problem.get("detail")) or _text(problem.get("title")),
        errors=_field_errors(problem.get("errors")),
        retry_after=retry_after,
    )
    error.run_id = _text(problem.get("run_id"))
    error.session_id = _text(problem.get("session_id"))
    return error


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _field_errors(value: Any) -> list[FieldError]:
    entries = value if isinstance(value, list) else []
    return [FieldError(str(e.get("path", "")), str(e.get("message", ""))) for e in entries if isinstance(e, dict)]


def from_response(response: httpx2.Response) -> GoAgentsError:
    """Return the error of an answer that is no success; its body must have been read."""
    pause = retry_after(response.headers.get("retry-after"))
    problem = _problem(response)
    if problem is not None:
        return from_problem({"status": response.status_code, **problem}, pause)
    detail = f"{_origin(response)} answered {response.status_code} {response.reason_phrase}".rstrip()
    other = GatewayFailed if response.status_code in _OF_GATEWAYS else UnexpectedAnswer
    kind = _BY_STATUS.get(response.status_code, other)
    return kind(f"{detail}, not as GoAgents does{_hint(response)}", retry_after=pause)


def _problem(response: httpx2.Response) -> dict[str, Any] | None:
    if "json" not in response.headers.get("content-type", ""):
        return None
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) and ("code" in body or "detail" in body) else None


def _hint(response: httpx2.Response) -> str:
    match response.status_code:
        case 401 | 403:
            return (
                ": something in front of it refused the credential (Cloud Run's IAM wants the role run.invoker and an "
                "identity token; sign in by `gcloud auth login`)"
            )
        case 301 | 302 | 307 | 308:
            return f": it sends you to {response.headers.get('location', 'another address')}; use that address"
        case 404:
            return ": is this the address of a GoAgents server?"
        case _:
            return ""


def _origin(response: httpx2.Response) -> str:
    url = response.request.url
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def retry_after(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which holds seconds or a date; None where it holds neither."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
    return seconds if 0 <= seconds <= _SECONDS_OF_A_DAY else None


def from_transport(fault: httpx2.TransportError, server: str) -> GoAgentsError:
    """Return the error of a request that got no answer, with the remedy."""
    match fault:
        case httpx2.ConnectTimeout():
            return ServerUnreachable(f"{server} does not accept a connection in time. {_REMEDY}")
        case httpx2.TimeoutException():
            return ServerTimedOut(f"{server} did not answer in time; what was asked may still happen")
        case httpx2.ConnectError() if _is_certificate(fault):
            return ServerUnreachable(
                f"the certificate of {server} cannot be verified ({fault}). "
                "For a private CA name its file in SSL_CERT_FILE"
            )
        case httpx2.ConnectError():
            return ServerUnreachable(f"cannot connect to {server} ({fault}). {_REMEDY}")
        case httpx2.NetworkError() | httpx2.RemoteProtocolError():
            return ConnectionBroke(f"the connection to {server} broke ({str(fault) or type(fault).__name__})")
        case _:
            return ServerUnreachable(f"cannot talk to {server} ({str(fault) or type(fault).__name__})")


_REMEDY = "Is it running? Start one by `goagents run`, or name another by --server or GOAGENTS_SERVER"


def _is_certificate(fault: BaseException) -> bool:
    cause: BaseException | None = fault
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
