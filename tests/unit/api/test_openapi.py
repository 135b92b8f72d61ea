"""The OpenAPI document is what is made from the code, valid, and of the routes that are there."""

import json
from typing import Any

import pytest
from openapi_spec_validator import validate
from tests.support.api import ROUTES, Api

from goagents import resources
from goagents.api import openapi
from goagents.api.metrics import _RUN_AGENTS
from goagents.api.operations import OPERATIONS

DOCUMENT: dict[str, Any] = json.loads(openapi.PATH.read_text(encoding="utf-8"))


def test_the_file_is_what_the_code_makes():
    assert openapi.PATH.read_text(encoding="utf-8") == openapi.text(), "run: python -m goagents.api.openapi"


def test_the_document_is_valid():
    validate(DOCUMENT)


def test_every_route_is_an_operation_and_the_other_way_round():
    routes = {(method, route.path) for route in ROUTES for method in route.methods or () if method != "HEAD"}
    assert routes == {(operation.method, operation.path) for operation in OPERATIONS}
    assert {path for _, path in routes} >= _RUN_AGENTS


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_error_is_a_problem(operation: Any):
    responses = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
    for status, response in responses.items():
        if int(status) >= 400 and (operation.path, status) != ("/ready", "503"):
            assert "application/problem+json" in response["content"]


async def test_it_is_served_as_it_is(api: Api):
    response = await api.call("GET", "/openapi.json")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == DOCUMENT


async def test_health_and_readiness_are_as_the_models_say(api: Api):
    resources.Health.model_validate((await api.call("GET", "/health")).json(), extra="forbid")
    resources.Readiness.model_validate((await api.call("GET", "/ready")).json(), extra="forbid")
