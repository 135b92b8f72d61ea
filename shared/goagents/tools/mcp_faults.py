"""What went wrong with a server, in words for a model and its operator; and whether a call may be repeated."""

import httpx2
from mcp import MCPError
from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, METHOD_NOT_FOUND
from pydantic import ValidationError

from goagents.errors import GoAgentsError, ToolError, ToolFailed, ToolInvalidArguments
from goagents.tools.mcp_delivery import TRANSPORT_FAILED, Delivery
from goagents.tools.mcp_target import Program, Target

MAX_ERROR = 2000  # characters of a server's error that are told; where it is cut, secrets are out of it
_MAX_MESSAGE = 32_000  # characters of it that are looked at for secrets
# CONNECTION_CLOSED is a code that servers use for errors of their own: the SDK's are known by what they say.
_CLOSED = ("Connection closed", "SSE stream ended", "SSE stream failed")
_DOUBT = "; whether it acted is unknown"


class Lost(Exception):
    """A call failed with its connection. `never_sent`: the server cannot have acted on it. `whole`: the connection is
    of no more use, for any call."""

    def __init__(self, reason: str, *, never_sent: bool, whole: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.never_sent = never_sent
        self.whole = whole

    def told(self) -> ToolFailed:
        """Return the error for the model."""
        doubt = "" if self.never_sent or "unknown" in self.reason else _DOUBT
        return ToolFailed(f"{self.reason}{doubt}").because("server", sent=not self.never_sent)


def fault(error: MCPError | ValidationError | httpx2.HTTPError, delivery: Delivery) -> Lost | ToolError:
    """Return what an error of a call means."""
    if isinstance(error, ValidationError):
        return ToolFailed(f"the server's answer is not valid: {_first(error)}{_DOUBT}")
    if isinstance(error, httpx2.HTTPError):
        return Lost(f"the connection failed ({type(error).__name__})", never_sent=not delivery.sent, whole=True)
    message = error.message[:_MAX_MESSAGE]
    if delivery.session_is_gone and error.code not in (INVALID_PARAMS, METHOD_NOT_FOUND):
        return Lost(f"the server does not know the session any more ({message})", never_sent=True, whole=True)
    if error.code == TRANSPORT_FAILED:
        return _transport_fault(message, delivery)
    if error.code == CONNECTION_CLOSED and message.startswith(_CLOSED):
        return Lost("the server closed the connection before it answered", never_sent=not delivery.sent, whole=True)
    return ToolInvalidArguments(message) if error.code == INVALID_PARAMS else ToolFailed(f"{message} ({error.code})")


def _transport_fault(message: str, delivery: Delivery) -> Lost | ToolError:
    if delivery.failure is None:
        return ToolFailed(f"the server {message}")
    if delivery.status is None:
        return Lost(delivery.failure, never_sent=not delivery.sent, whole=False)
    failed = ToolFailed(f"{delivery.failure}{_DOUBT if delivery.sent else ''}")
    if delivery.status == 429:
        return failed.because("busy")
    return failed.because("server") if delivery.status >= 500 else failed


def explain_setup(error: BaseException, target: Target, last: Delivery, output: str, seconds: float) -> str:
    """Say why a connection cannot be opened. `last` is the latest HTTP request, `output` what a program wrote."""
    cause = _leaf(error)
    place = target.place
    if last.failure is not None:
        return last.failure
    if isinstance(cause, OSError) and not isinstance(cause, TimeoutError) and isinstance(target, Program):
        where = "" if target.cwd is None else f" in {target.cwd}"
        return f"cannot start {place}{where}: {cause.strerror or type(cause).__name__}{target.hint}"
    return f"{place} {_stumble(cause, seconds)}{output}"


def _stumble(cause: BaseException, seconds: float) -> str:
    if isinstance(cause, TimeoutError):
        return f"was not ready within {seconds:g} s."
    if isinstance(cause, ValidationError):
        return f"does not speak the protocol: {_first(cause)}."
    if isinstance(cause, MCPError) and cause.code == CONNECTION_CLOSED:
        return "ended the connection before it was ready."
    if isinstance(cause, GoAgentsError | MCPError | RuntimeError):
        return f"cannot be used: {str(cause)[:_MAX_MESSAGE]}."
    return f"cannot be connected to: {type(cause).__name__}."


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _first(error: ValidationError) -> str:
    """Return the first thing wrong, without the input."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, found['loc']))[:200]}: {found['msg'][:200]}"
