"""Every error of Google's SDK and API as one of ours."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.genai import errors

from goagents.errors import (
    ProviderAuthenticationFailed,
    ProviderContextTooLong,
    ProviderError,
    ProviderInvalidRequest,
    ProviderModelNotFound,
    ProviderOverloaded,
    ProviderPermissionDenied,
    ProviderProtocolError,
    ProviderRateLimited,
    ProviderTimedOut,
    ProviderUnavailable,
)
from goagents.providers.faults import retry_after, status_fault, transport_fault, vendor_message
from goagents.providers.gemini_request import NAME

# `error.status`, a name of google.rpc.Code, in a response's body and in a chunk of the stream alike.
_STATUSES: dict[str, type[ProviderError]] = {
    "INVALID_ARGUMENT": ProviderInvalidRequest,
    "OUT_OF_RANGE": ProviderInvalidRequest,
    "UNIMPLEMENTED": ProviderInvalidRequest,
    "FAILED_PRECONDITION": ProviderPermissionDenied,  # the account's country, or its billing
    "UNAUTHENTICATED": ProviderAuthenticationFailed,
    "PERMISSION_DENIED": ProviderPermissionDenied,
    "NOT_FOUND": ProviderModelNotFound,
    "RESOURCE_EXHAUSTED": ProviderRateLimited,
    "UNAVAILABLE": ProviderOverloaded,
    "DEADLINE_EXCEEDED": ProviderTimedOut,
    "INTERNAL": ProviderUnavailable,
    "UNKNOWN": ProviderUnavailable,
    "ABORTED": ProviderUnavailable,
    "CANCELLED": ProviderUnavailable,
    "DATA_LOSS": ProviderUnavailable,
}
_BAD_KEY = ("api key not valid", "api_key_invalid", "api key expired", "api key not found")
_TOO_LONG = re.compile(r"token count.*exceeds|exceeds the maximum number of tokens", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
_SDK = "google.genai"


def sdk_fault(error: Exception, api_key: str) -> ProviderError | None:
    """Return what an error of the SDK or of the wire means, or None where it is neither (a bug of ours)."""
    if isinstance(error, errors.APIError):
        headers = getattr(error.response, "headers", None)
        wait = retry_after(headers) if headers is not None else None
        return body_fault(error.details, api_key, status=error.code, wait=wait)
    if type(error).__name__ == "EphemeralTokenAPIKeyError":  # of a private module
        return ProviderAuthenticationFailed(f"{NAME} takes no ephemeral token as API key")
    below = transport_fault(error, NAME)
    if below is not None:
        return below
    if type(error).__module__.startswith(_SDK):
        return ProviderProtocolError(f"{NAME} sent an answer that cannot be read: {type(error).__name__}")
    return None


def body_fault(body: Any, api_key: str, *, status: int | None = None, wait: float | None = None) -> ProviderError:
    """Return what an error body means: of a response with `status`, or of a chunk of the stream where that is None."""
    error = _error(body)
    message = vendor_message(str(error.get("message") or ""), api_key)
    kind = _kind(error, message, status)
    if wait is None:
        wait = next(_retry_delays(error), None)
    place = "broke off its answer" if status is None else f"answered with status {status}"
    detail = f"{NAME} {place}: {message}" if message else f"{NAME} {place}"
    if kind is ProviderAuthenticationFailed:
        detail += f" (check providers.{NAME}.api_key)"
    return kind(detail, retry_after=wait)


def _error(body: Any) -> Mapping[str, Any]:
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, Mapping):
        return {}
    inner = body.get("error", body)
    return inner if isinstance(inner, Mapping) else {}


def _kind(error: Mapping[str, Any], message: str, status: int | None) -> type[ProviderError]:
    kind = _STATUSES.get(str(error.get("status")))
    if kind is None:
        code = error.get("code") if status is None else status
        kind = status_fault(code) if isinstance(code, int) and code >= 400 else ProviderUnavailable
        if status is not None and status < 400:
            kind = status_fault(status)
    if kind is not ProviderInvalidRequest:
        return kind
    if any(sign in f"{message} {error.get('details')}".lower() for sign in _BAD_KEY):
        return ProviderAuthenticationFailed
    return ProviderContextTooLong if _TOO_LONG.search(message) else kind


def _retry_delays(error: Mapping[str, Any]) -> Iterator[float]:
    """Yield the seconds of google.rpc.RetryInfo, which stands in the body where others send Retry-After."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        delay = _DURATION.fullmatch(str(detail.get("retryDelay"))) if isinstance(detail, Mapping) else None
        if delay:
            yield float(delay[1])
