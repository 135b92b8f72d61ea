"""Every error class of Google's SDK, and every error of its API, is one of ours."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from google.genai import _api_client
from google.genai import errors as sdk

from goagents import errors
from goagents.providers.gemini_faults import body_fault, sdk_fault

KEY = "AIza-secret"
BODY = {"error": {"message": f"no, not with {KEY}"}}

MEANING: dict[type[Exception], tuple[Callable[[], Exception], type[errors.ProviderError]]] = {
    sdk.APIError: (lambda: sdk.APIError(302, BODY), errors.ProviderProtocolError),
    sdk.ClientError: (lambda: sdk.ClientError(400, BODY), errors.ProviderInvalidRequest),
    sdk.ServerError: (lambda: sdk.ServerError(500, BODY), errors.ProviderUnavailable),
    sdk.UnknownApiResponseError: (lambda: sdk.UnknownApiResponseError(KEY), errors.ProviderProtocolError),
    sdk.UnknownFunctionCallArgumentError: (
        lambda: sdk.UnknownFunctionCallArgumentError(KEY),
        errors.ProviderProtocolError,
    ),
    sdk.UnsupportedFunctionError: (lambda: sdk.UnsupportedFunctionError(KEY), errors.ProviderProtocolError),
    sdk.FunctionInvocationError: (lambda: sdk.FunctionInvocationError(KEY), errors.ProviderProtocolError),
    sdk.ContinuationInterruptedError: (lambda: sdk.ContinuationInterruptedError(KEY), errors.ProviderProtocolError),
    _api_client.EphemeralTokenAPIKeyError: (
        lambda: _api_client.EphemeralTokenAPIKeyError(KEY),
        errors.ProviderAuthenticationFailed,
    ),
}


def sdk_classes() -> list[type[Exception]]:
    modules = [module for name, module in sys.modules.items() if name.startswith("google.genai")]
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__.startswith("google.genai")
    }
    return sorted((kind for kind in found if not issubclass(kind, Warning)), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", sdk_classes(), ids=lambda kind: kind.__name__)
def test_every_class_of_the_sdk_is_one_of_ours(kind: type[Exception]):
    make, expected = MEANING[kind]  # a KeyError here: the SDK has a new error class, say what it means
    fault = sdk_fault(make(), KEY)
    assert type(fault) is expected
    assert KEY not in fault.detail


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, errors.ProviderAuthenticationFailed),
        (402, errors.ProviderPermissionDenied),
        (404, errors.ProviderModelNotFound),
        (408, errors.ProviderTimedOut),
        (422, errors.ProviderInvalidRequest),
        (429, errors.ProviderRateLimited),
        (502, errors.ProviderUnavailable),
        (503, errors.ProviderOverloaded),
        (504, errors.ProviderTimedOut),
    ],
)
@pytest.mark.parametrize("body", [{}, {"error": None}, [], "no", {"error": {"status": 3, "details": ["x"]}}])
def test_a_body_that_is_not_the_vendors_counts_by_its_status(
    status: int, body: Any, expected: type[errors.ProviderError]
):
    assert type(body_fault(body, KEY, status=status)) is expected


@pytest.mark.parametrize(
    ("message", "details", "expected"),
    [
        ("API key not valid. Please pass a valid API key.", [], errors.ProviderAuthenticationFailed),
        ("bad", [{"reason": "API_KEY_INVALID"}], errors.ProviderAuthenticationFailed),
        (
            "The input token count (2000000) exceeds the maximum number of tokens allowed (1048575).",
            [],
            errors.ProviderContextTooLong,
        ),
        ("bad", [], errors.ProviderInvalidRequest),
    ],
)
def test_invalid_argument_has_several_meanings(message: str, details: list[Any], expected: type[errors.ProviderError]):
    body = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": message, "details": details}}
    assert type(body_fault(body, KEY, status=400)) is expected
    assert type(body_fault([body], KEY)) is expected


def test_a_chunk_with_an_error_but_no_meaning_may_be_repeated():
    assert type(body_fault({"error": {}}, KEY)) is errors.ProviderUnavailable
    assert type(body_fault({"error": {"code": 429}}, KEY)) is errors.ProviderRateLimited


def test_faults_of_the_wire_and_bugs_of_ours():
    assert type(sdk_fault(aiohttp.ClientPayloadError("cut"), KEY)) is errors.ProviderConnectionFailed
    assert sdk_fault(KeyError("ours"), KEY) is None
