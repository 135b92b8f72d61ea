"""What an error of the OpenAI SDK, of its server or of the wire beneath means to us."""

import re
from collections.abc import Mapping
from typing import Any

import openai

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
    ProviderRefused,
    ProviderTimedOut,
    ProviderUnavailable,
)
from goagents.providers.faults import retry_after, status_fault, transport_fault, vendor_message

_NAME = "openai"

# Of the error body: a `code` or `type` that says more than the status, and a `type` for where there is no status.
_CODES: dict[str, type[ProviderError]] = {
    "context_length_exceeded": ProviderContextTooLong,
    "exceed_context_size_error": ProviderContextTooLong,  # llama.cpp
    "model_not_found": ProviderModelNotFound,
    "invalid_api_key": ProviderAuthenticationFailed,
    "insufficient_quota": ProviderPermissionDenied,  # sent as 429, but waiting does not help
    "billing_not_active": ProviderPermissionDenied,
    "billing_hard_limit_reached": ProviderPermissionDenied,
    "account_deactivated": ProviderPermissionDenied,
    "rate_limit_exceeded": ProviderRateLimited,
    "content_filter": ProviderRefused,
    "content_policy_violation": ProviderRefused,
}
_TYPES: dict[str, type[ProviderError]] = {
    "rate_limit_error": ProviderRateLimited,
    "rate_limit_exceeded": ProviderRateLimited,
    "requests": ProviderRateLimited,
    "tokens": ProviderRateLimited,
    "authentication_error": ProviderAuthenticationFailed,
    "permission_error": ProviderPermissionDenied,
    "invalid_request_error": ProviderInvalidRequest,
    "server_error": ProviderUnavailable,
    "api_error": ProviderUnavailable,
    "overloaded_error": ProviderOverloaded,
    "service_unavailable_error": ProviderOverloaded,
}
_CONTEXT_TOO_LONG = re.compile(
    r"(?:maximum|max|exceed\w*|longer than|larger than).{0,60}context|context.{0,40}(?:exceed|too long)", re.IGNORECASE
)


def sdk_fault(error: BaseException, api_key: str = "") -> ProviderError | None:
    """Return what an error of the SDK, or of the wire beneath it, means; None where it is neither."""
    if isinstance(error, openai.APIStatusError):
        return _status_error(error, api_key)
    if isinstance(error, openai.APIConnectionError):
        # Its cause knows better: the SDK's aiohttp transport calls a refused connection a timeout.
        fault = transport_fault(error, _NAME)
        kind = ProviderTimedOut if isinstance(error, openai.APITimeoutError) else ProviderConnectionFailed
        return fault or kind(f"openai: {vendor_message(str(error), api_key)}")
    if isinstance(error, openai.ContentFilterFinishReasonError):
        return ProviderRefused(f"openai: {vendor_message(str(error), api_key)}")
    if isinstance(error, openai.APIError) and not isinstance(error, openai.APIResponseValidationError):
        body = error.body if isinstance(error.body, dict) else {"message": error.message}
        kind_of_body = _classify(body, None)
        return kind_of_body(f"openai: {_detail(body, api_key) or vendor_message(error.message, api_key)}")
    if isinstance(error, openai.OpenAIError | openai.InvalidWebhookSignatureError):
        return ProviderProtocolError(f"openai: {vendor_message(str(error), api_key)}")
    return transport_fault(error, _NAME)


def _status_error(error: openai.APIStatusError, api_key: str) -> ProviderError:
    body = error.body if isinstance(error.body, dict) else {}
    kind = _classify(body, error.status_code)
    detail = _detail(body, api_key) or vendor_message(error.message, api_key)
    if error.status_code == 404 and not body:
        kind, detail = ProviderInvalidRequest, "there is no Chat Completions API here: check providers.openai.base_url"
    if kind is ProviderAuthenticationFailed:
        detail += " (check providers.openai.api_key)"
    wait = retry_after(error.response.headers)
    return kind(f"openai answered {error.status_code}: {detail}", retry_after=wait)


def stream_fault(error: Any, api_key: str) -> ProviderError:
    """Return what an error sent in place of a chunk means. `error` is its JSON, an object as a rule."""
    body = error if isinstance(error, dict) else {"message": str(error)}
    return _classify(body, None)(f"openai broke off its answer: {_detail(body, api_key)}")


def _classify(body: Mapping[str, Any], status: int | None) -> type[ProviderError]:
    """The body's code says most, then the status, then the body's type: many servers send one type for everything."""
    code, kind = str(body.get("code") or ""), str(body.get("type") or "")
    for word in (code, kind):
        if word in _CODES:
            return _CODES[word]
    if status in (None, 400, 413, 422, 500) and _CONTEXT_TOO_LONG.search(str(body.get("message") or "")):
        return ProviderContextTooLong  # servers without codes say it in words
    if status is None and code.isdigit():
        status = int(code)  # OpenRouter and others put the status there
    if status is not None:
        return status_fault(status)
    return _TYPES.get(kind) or _TYPES.get(code) or ProviderUnavailable


def _detail(body: Mapping[str, Any], api_key: str) -> str:
    return vendor_message(str(body.get("message") or ""), api_key)
