"""Every error class of Anthropic's SDK, and every error of its API, is one of ours."""

import importlib
import pkgutil
from collections.abc import Iterator

import anthropic
import httpx2
import pytest

from goagents import errors
from goagents.providers.anthropic_faults import body_fault, sdk_fault

KEY = "sk-ant-secret"
REQUEST = httpx2.Request("POST", "https://api.anthropic.com/v1/messages")

# The nearest of these in a class's ancestry says its status and what it means.
STATUS = {
    anthropic.BadRequestError: (400, errors.ProviderInvalidRequest),
    anthropic.AuthenticationError: (401, errors.ProviderAuthenticationFailed),
    anthropic.PaymentRequiredError: (402, errors.ProviderPermissionDenied),
    anthropic.PermissionDeniedError: (403, errors.ProviderPermissionDenied),
    anthropic.NotFoundError: (404, errors.ProviderModelNotFound),
    anthropic.RequestTimeoutError: (408, errors.ProviderTimedOut),
    anthropic.ConflictError: (409, errors.ProviderUnavailable),
    anthropic.PreconditionFailedError: (412, errors.ProviderInvalidRequest),
    anthropic.ContentTooLargeError: (413, errors.ProviderContextTooLong),
    anthropic.UnprocessableEntityError: (422, errors.ProviderInvalidRequest),
    anthropic.RateLimitError: (429, errors.ProviderRateLimited),
    anthropic.RequestHeaderFieldsTooLargeError: (431, errors.ProviderInvalidRequest),
    anthropic.ClientClosedRequestError: (499, errors.ProviderInvalidRequest),
    anthropic.HTTPNotImplementedError: (501, errors.ProviderUnavailable),
    anthropic.ServiceUnavailableError: (503, errors.ProviderOverloaded),
    anthropic.GatewayTimeoutError: (504, errors.ProviderTimedOut),
    anthropic.OverloadedError: (529, errors.ProviderOverloaded),
    anthropic.InternalServerError: (500, errors.ProviderUnavailable),
    anthropic.APIStatusError: (418, errors.ProviderInvalidRequest),
}
OTHERS = {
    anthropic.APITimeoutError: errors.ProviderTimedOut,
    anthropic.APIConnectionError: errors.ProviderConnectionFailed,
    anthropic.RetryableError: errors.ProviderConnectionFailed,
    anthropic.CredentialsError: errors.ProviderAuthenticationFailed,
    anthropic.AnthropicError: errors.ProviderProtocolError,
}


def sdk_classes() -> list[type[anthropic.AnthropicError]]:
    for module in pkgutil.walk_packages(anthropic.types.__path__, "anthropic.types."):
        if module.name.endswith("_error"):  # most classes are imported on demand only
            importlib.import_module(module.name)
    return sorted({anthropic.AnthropicError, *_below(anthropic.AnthropicError)}, key=lambda kind: kind.__name__)


def _below(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


CLASSES = sdk_classes()


def test_the_classes_were_found():
    assert len(CLASSES) > 50


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_of_the_sdk_is_one_of_ours(kind: type[anthropic.AnthropicError]):
    if issubclass(kind, anthropic.APIStatusError):
        status, expected = next(STATUS[base] for base in kind.__mro__ if base in STATUS)
        response = httpx2.Response(status, request=REQUEST, headers={"retry-after": "7"})
        body = {"error": {"message": f"no, not with {KEY}"}}
        error: anthropic.AnthropicError = kind(f"no, not with {KEY}", response=response, body=body)
    else:
        expected = next(OTHERS[base] for base in kind.__mro__ if base in OTHERS)
        error = kind.__new__(kind)  # each has other arguments, and none of them matters here
    fault = sdk_fault(error, KEY)
    assert type(fault) is expected
    assert type(fault) is not errors.ProviderError
    assert KEY not in fault.detail
    if isinstance(error, anthropic.APIStatusError):
        assert fault.retry_after == 7


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("invalid_request_error", errors.ProviderInvalidRequest),
        ("authentication_error", errors.ProviderAuthenticationFailed),
        ("billing_error", errors.ProviderPermissionDenied),
        ("permission_error", errors.ProviderPermissionDenied),
        ("not_found_error", errors.ProviderModelNotFound),
        ("request_too_large", errors.ProviderContextTooLong),
        ("rate_limit_error", errors.ProviderRateLimited),
        ("timeout_error", errors.ProviderTimedOut),
        ("api_error", errors.ProviderUnavailable),
        ("overloaded_error", errors.ProviderOverloaded),
        ("something_new", errors.ProviderUnavailable),
    ],
)
def test_an_error_event_is_classified_by_its_type(kind: str, expected: type[errors.ProviderError]):
    fault = body_fault({"type": "error", "error": {"type": kind, "message": f"no {KEY}"}}, KEY)
    assert type(fault) is expected
    assert KEY not in fault.detail


def test_a_prompt_that_is_too_long_is_told_apart():
    body = {"error": {"type": "invalid_request_error", "message": "prompt is too long: 300000 tokens > 200000"}}
    assert type(body_fault(body, KEY, status=400)) is errors.ProviderContextTooLong


@pytest.mark.parametrize("body", [{}, {"error": None}, {"error": "no"}, {"error": {"type": 3, "message": None}}])
def test_a_body_that_is_not_the_vendors_counts_by_its_status(body: dict[str, object]):
    assert type(body_fault(body, KEY, status=502)) is errors.ProviderUnavailable


def test_faults_of_the_wire_and_bugs_of_ours():
    assert type(sdk_fault(httpx2.RemoteProtocolError("cut"), KEY)) is errors.ProviderConnectionFailed
    assert sdk_fault(KeyError("ours"), KEY) is None
