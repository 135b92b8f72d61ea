"""Every error of Anthropic's SDK and API as one of ours."""

from collections.abc import Mapping
from typing import Any

import anthropic

from goagents.errors import (
    ProviderAuthenticationFailed,
    ProviderConnectionFailed,
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
from goagents.providers.anthropic_request import NAME
from goagents.providers.faults import retry_after, status_fault, transport_fault, vendor_message

# `error.type` of the API, in a response's body and in the stream's error event alike.
_TYPES: dict[str, type[ProviderError]] = {
    "invalid_request_error": ProviderInvalidRequest,
    "request_too_large": ProviderContextTooLong,
    "authentication_error": ProviderAuthenticationFailed,
    "billing_error": ProviderPermissionDenied,
    "permission_error": ProviderPermissionDenied,
    "not_found_error": ProviderModelNotFound,
    "rate_limit_error": ProviderRateLimited,
    "timeout_error": ProviderTimedOut,
    "api_error": ProviderUnavailable,
    "overloaded_error": ProviderOverloaded,
    "conflict_error": ProviderUnavailable,
}
# What the SDK raises by itself, the particular before the general.
_SDK_FAULTS: tuple[tuple[type[Exception], type[ProviderError], str], ...] = (
    (anthropic.APITimeoutError, ProviderTimedOut, "did not answer in time"),
    (anthropic.APIConnectionError, ProviderConnectionFailed, "could not be reached, or the connection broke"),
    (anthropic.RetryableError, ProviderConnectionFailed, "could not be reached, or the connection broke"),
    (anthropic.CredentialsError, ProviderAuthenticationFailed, "has no usable credentials"),
    (anthropic.AnthropicError, ProviderProtocolError, "sent an answer that cannot be read"),
)
_TOO_LONG = ("prompt is too long", "exceed context limit", "context window", "too many total text bytes")


def sdk_fault(error: Exception, api_key: str) -> ProviderError | None:
    """Return what an error of the SDK or of the wire means, or None where it is neither (a bug of ours)."""
    if isinstance(error, anthropic.APIStatusError):
        return _answer_fault(error, api_key)
    below = transport_fault(error, NAME)
    if below is not None:
        return below
    found = next((entry for entry in _SDK_FAULTS if isinstance(error, entry[0])), None)
    return None if found is None else found[1](f"{NAME} {found[2]}")


def _answer_fault(error: anthropic.APIStatusError, api_key: str) -> ProviderError:
    body = error.body if isinstance(error.body, Mapping) else {}
    return body_fault(body, api_key, status=error.status_code, wait=retry_after(error.response.headers))


def body_fault(
    body: Mapping[str, Any], api_key: str, *, status: int | None = None, wait: float | None = None
) -> ProviderError:
    """Return what an error body means: of a response with `status`, or of an error event where that is None."""
    inner = body.get("error")
    error: Mapping[str, Any] = inner if isinstance(inner, Mapping) else {}
    message = vendor_message(str(error.get("message") or ""), api_key)
    kind = _TYPES.get(str(error.get("type")))
    if kind is None or status in (413, 529):  # a gateway's body may say less than its status
        kind = ProviderUnavailable if status is None else status_fault(status)
    if status == 413:
        kind = ProviderContextTooLong
    if kind is ProviderInvalidRequest and any(sign in message.lower() for sign in _TOO_LONG):
        kind = ProviderContextTooLong
    place = "broke off its answer" if status is None else f"answered with status {status}"
    detail = f"{NAME} {place}: {message}" if message else f"{NAME} {place}"
    if kind is ProviderAuthenticationFailed:
        detail += f" (check providers.{NAME}.api_key)"
    return kind(detail, retry_after=wait)
