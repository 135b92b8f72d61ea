"""Every error of the SDK, and of the wire beneath it, is one of ours."""

import inspect
import json

import aiohttp
import httpx2
import openai
import pytest
from openai import _exceptions as sdk

from goagents import errors
from goagents.errors import ProviderError
from goagents.providers.openai_faults import sdk_fault, stream_fault

REQUEST = httpx2.Request("POST", "https://api.openai.com/v1/chat/completions")


def response(status: int, headers: dict[str, str] | None = None) -> httpx2.Response:
    return httpx2.Response(status, request=REQUEST, headers=headers)


STATUS = {
    openai.BadRequestError: (400, errors.ProviderInvalidRequest),
    openai.AuthenticationError: (401, errors.ProviderAuthenticationFailed),
    openai.OAuthError: (401, errors.ProviderAuthenticationFailed),
    openai.PermissionDeniedError: (403, errors.ProviderPermissionDenied),
    openai.NotFoundError: (404, errors.ProviderModelNotFound),
    openai.ConflictError: (409, errors.ProviderUnavailable),
    openai.UnprocessableEntityError: (422, errors.ProviderInvalidRequest),
    openai.RateLimitError: (429, errors.ProviderRateLimited),
    openai.InternalServerError: (500, errors.ProviderUnavailable),
    openai.APIStatusError: (418, errors.ProviderInvalidRequest),
}
OTHERS = {
    openai.OpenAIError: (lambda: openai.OpenAIError("x"), errors.ProviderProtocolError),
    openai.APIError: (lambda: openai.APIError("x", REQUEST, body=None), errors.ProviderUnavailable),
    openai.APIConnectionError: (lambda: openai.APIConnectionError(request=REQUEST), errors.ProviderConnectionFailed),
    openai.APITimeoutError: (lambda: openai.APITimeoutError(REQUEST), errors.ProviderTimedOut),
    openai.APIResponseValidationError: (
        lambda: openai.APIResponseValidationError(response(200), None),
        errors.ProviderProtocolError,
    ),
    openai.LengthFinishReasonError: (
        lambda: openai.LengthFinishReasonError(completion=openai.types.chat.ChatCompletion.model_construct(usage=None)),
        errors.ProviderProtocolError,
    ),
    openai.ContentFilterFinishReasonError: (openai.ContentFilterFinishReasonError, errors.ProviderRefused),
    openai.InvalidWebhookSignatureError: (
        lambda: openai.InvalidWebhookSignatureError("x"),
        errors.ProviderProtocolError,
    ),
    sdk.SubjectTokenProviderError: (lambda: sdk.SubjectTokenProviderError("x"), errors.ProviderProtocolError),
    sdk.WebSocketConnectionClosedError: (
        lambda: sdk.WebSocketConnectionClosedError("x", unsent_messages=[]),
        errors.ProviderProtocolError,
    ),
    openai._AmbiguousModuleClientUsageError: (openai._AmbiguousModuleClientUsageError, errors.ProviderProtocolError),
    sdk.WebSocketQueueFullError: (lambda: sdk.WebSocketQueueFullError("x"), errors.ProviderProtocolError),
}


def sdk_classes() -> list[type[BaseException]]:
    found = {
        value
        for module in (openai, sdk)
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, Exception) and not issubclass(value, Warning) and value.__module__.startswith("openai")
    }
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", sdk_classes(), ids=lambda kind: kind.__name__)
def test_every_error_class_of_the_sdk_is_one_of_ours(kind: type[Exception]):
    if kind in STATUS:
        status, expected = STATUS[kind]
        message = () if kind is openai.OAuthError else ("no",)
        error = kind(*message, response=response(status), body={"message": "no"})
    else:
        make, expected = OTHERS[kind]  # a KeyError here: the SDK has a new error class, say what it means
        error = make()
    fault = sdk_fault(error)
    assert type(fault) is expected
    assert fault.detail


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"code": "context_length_exceeded", "message": "too long"}, errors.ProviderContextTooLong),
        (400, {"message": "This model's maximum context length is 8192 tokens"}, errors.ProviderContextTooLong),
        (400, {"type": "exceed_context_size_error", "message": "x"}, errors.ProviderContextTooLong),
        (429, {"code": "insufficient_quota", "message": "x"}, errors.ProviderPermissionDenied),
        (429, {"type": "insufficient_quota", "code": None, "message": "x"}, errors.ProviderPermissionDenied),
        (429, {"type": "tokens", "code": "rate_limit_exceeded", "message": "x"}, errors.ProviderRateLimited),
        (404, {"code": "model_not_found", "message": "x"}, errors.ProviderModelNotFound),
        (400, {"code": "model_not_found", "message": "x"}, errors.ProviderModelNotFound),
        (400, {"code": "content_filter", "message": "x"}, errors.ProviderRefused),
        (401, {"code": "invalid_api_key", "message": "x"}, errors.ProviderAuthenticationFailed),
        (402, {"message": "x"}, errors.ProviderPermissionDenied),
        (408, {"message": "x"}, errors.ProviderTimedOut),
        (503, {"message": "x"}, errors.ProviderOverloaded),
        (529, {"message": "x"}, errors.ProviderOverloaded),
        (502, {}, errors.ProviderUnavailable),
        (504, {}, errors.ProviderTimedOut),
    ],
)
def test_the_body_says_more_than_the_status(status: int, body: dict[str, object], expected: type[ProviderError]):
    error = openai.APIStatusError("no", response=response(status), body=body)
    assert type(sdk_fault(error)) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"type": "server_error", "message": "x"}, errors.ProviderUnavailable),
        ({"type": "overloaded_error", "message": "x"}, errors.ProviderOverloaded),
        ({"code": 429, "message": "x"}, errors.ProviderRateLimited),
        ({"code": "rate_limit_exceeded", "message": "x"}, errors.ProviderRateLimited),
        ({"type": "invalid_request_error", "message": "x"}, errors.ProviderInvalidRequest),
        ("just words", errors.ProviderUnavailable),
    ],
)
def test_an_error_in_the_stream_is_classified_by_its_body(error: object, expected: type[ProviderError]):
    fault = stream_fault(error, "")
    assert type(fault) is expected
    assert ("words" if isinstance(error, str) else "x") in fault.detail


def test_a_404_without_a_body_blames_the_address():
    fault = sdk_fault(openai.NotFoundError("no", response=response(404), body=None))
    assert type(fault) is errors.ProviderInvalidRequest
    assert "base_url" in fault.detail


def test_retry_after_is_carried():
    error = openai.RateLimitError("no", response=response(429, {"retry-after": "7"}), body={})
    assert sdk_fault(error).retry_after == 7.0


def test_the_key_is_taken_out_of_a_message_that_repeats_it():
    body = {"message": "bad key sk-secret-123"}
    fault = sdk_fault(openai.AuthenticationError("no", response=response(401), body=body), "sk-secret-123")
    assert "sk-secret" not in fault.detail
    assert "providers.openai.api_key" in fault.detail


def test_a_refused_connection_is_no_timeout_whatever_the_sdk_calls_it():
    error = openai.APITimeoutError(REQUEST)
    error.__cause__ = httpx2.ConnectTimeout("x")
    error.__cause__.__cause__ = aiohttp.ServerDisconnectedError()
    assert type(sdk_fault(error)) is errors.ProviderConnectionFailed


@pytest.mark.parametrize("error", [KeyError("a"), ZeroDivisionError()])
def test_a_bug_is_not_dressed_as_a_fault(error: Exception):
    assert sdk_fault(error) is None


def test_malformed_json_is_a_protocol_error():
    assert isinstance(sdk_fault(json.JSONDecodeError("x", "", 0)), ProviderError)
