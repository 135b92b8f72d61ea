"""Pages that others publish (data/README.md says whose), each operation called on a server that echoes."""

import json
import logging
from base64 import b64encode
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from aiohttp import web
from tests.contract.tools.data.reduce import reduced, without_examples
from tests.support.http_tools import CONTEXT, Opener, Serve, call, text_of

from goagents.tools.base import Tool

DATA = Path(__file__).parent / "data"
PETSTORE = Path(__file__).parents[3] / "examples" / "openapi" / "petstore.yaml"
UPLOAD, CBOR = "its body is multipart/form-data", "its body is application/cbor"
# How many tools each page becomes, and what of it is left out, with the reason.
EXPECTED = {
    "blockfrost": (14, {"ipfs_add": UPLOAD, "post /utils/txs/evaluate": CBOR}),
    "figma": (18, {}),
    "readme": (34, {"uploadAPISpecification": UPLOAD, "updateAPISpecification": UPLOAD}),
}
SECURITY = {
    "blockfrost": ("project_id", "project_id", "mainnet-key"),
    "figma": ("PersonalAccessToken", "X-Figma-Token", "figd-key"),
    "readme": ("apiKey", "Authorization", "Basic " + b64encode(b"rdme-key:").decode()),
}
VALUES = {"string": "a b/ü", "integer": 7, "number": 7, "boolean": True, "array": [], "object": {}}


async def echo(request: web.Request) -> web.Response:
    text = (await request.read()).decode()
    seen = {"method": request.method, "path": request.rel_url.raw_path_qs, "headers": dict(request.headers)}
    return web.json_response({**seen, "body": json.loads(text) if text else None})


async def published(
    opener: Opener, name: str, base: str = "https://api.example.com/v1", **fields: Any
) -> dict[str, Tool]:
    return await opener.tools(openapi=str(DATA / f"{name}.json"), url=base, name="api", **fields)


async def sent(tool: Tool, **arguments: Any) -> dict[str, Any]:
    """Return what the server saw of a call whose arguments fit the tool's schema."""
    jsonschema_rs.validate(tool.definition.parameters, arguments)
    found: dict[str, Any] = json.loads(text_of(await call(tool, **arguments)).partition("\n")[2])
    return found


def example(schema: dict[str, Any]) -> Any:
    """Return a value that fits the schema: the first choice, required properties only."""
    for key in ("enum", "anyOf", "oneOf"):
        if choices := schema.get(key):
            return choices[0] if key == "enum" else example(choices[0])
    parts = [schema, *schema.get("allOf", ())]
    required = {name for part in parts for name in part.get("required", ())}
    properties = {name: each for part in parts for name, each in part.get("properties", {}).items()}
    if required:
        return {name: example(properties.get(name, {})) for name in required}
    kinds = [part["type"] for part in parts if "type" in part] or ["string"]
    return VALUES[kinds[0] if isinstance(kinds[0], str) else kinds[0][0]]


@pytest.mark.parametrize("name", EXPECTED)
async def test_its_operations_become_tools(opener: Opener, name: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    count, left_out = EXPECTED[name]
    tools = await published(opener, name, security={SECURITY[name][0]: "key:"})
    assert len(tools) == count
    assert len(caplog.records) == len(left_out)
    for operation, reason in left_out.items():
        assert f"the operation {operation} is left out: {reason}" in caplog.text
    for tool in tools.values():
        assert "$ref" not in json.dumps(tool.definition.parameters)
        assert 0 < len(tool.definition.description) <= 1024


@pytest.mark.parametrize("name", EXPECTED)
async def test_each_of_them_can_be_called_and_sends_the_key(opener: Opener, serve: Serve, name: str):
    received: list[web.Request] = []

    async def note(request: web.Request) -> web.Response:
        received.append(request)
        return await echo(request)

    base = await serve({"/{rest:.*}": note})
    scheme, header, shown = SECURITY[name]
    opener.lent.variables["KEY"] = {"readme": "rdme-key:"}.get(name, shown)
    tools = await published(opener, name, base, security={scheme: "${KEY}"})
    for tool in tools.values():
        seen = await sent(tool, **example(tool.definition.parameters))
        assert "{" not in seen["path"]
        assert (seen["method"] == "GET") is (tool.definition.effect == "read")
        assert shown not in json.dumps(seen)  # what answers repeat of it is redacted
    assert [request.headers[header] for request in received] == [shown] * len(tools)


async def test_a_header_parameter_is_an_argument_and_allof_in_a_body_is_held(opener: Opener, serve: Serve):
    base = await serve({"/{rest:.*}": echo})
    tools = await published(opener, "readme", f"{base}/api/v1", security={"apiKey": "rdme-key:"})
    create = tools["api_createCategory"]
    seen = await sent(create, **{"x-readme-version": "v3.0", "body": {"title": "Guides", "type": "guide"}})
    assert (seen["method"], seen["path"]) == ("POST", "/api/v1/categories")
    assert seen["headers"]["x-readme-version"] == "v3.0"
    assert seen["headers"]["Idempotency-Key"] == CONTEXT.idempotency_key
    assert seen["body"] == {"title": "Guides", "type": "guide"}
    validator = jsonschema_rs.validator_for(create.definition.parameters)
    assert not validator.is_valid({"body": {"type": "guide"}})  # `required` of the second part
    assert not validator.is_valid({"body": {"title": "Guides", "type": "novel"}})  # `enum` of the first, a reference


async def test_header_parameters_that_openapi_reserves_are_not_asked_for(opener: Opener, serve: Serve):
    base = await serve({"/{rest:.*}": echo})
    tools = await published(
        opener, "blockfrost", base, include=["Cardano » Utilities"], security={"project_id": "key-1"}
    )
    evaluate = tools["api_post_utils_txs_evaluate_utxos"]
    assert set(evaluate.definition.parameters["properties"]) == {"version", "body"}
    seen = await sent(
        evaluate, version=6, body={"cbor": "84a4", "additionalUtxoSet": [[{"txId": "a"}, {"address": "b"}]]}
    )
    assert seen["path"] == "/utils/txs/evaluate/utxos?version=6"
    assert seen["headers"]["Content-Type"] == "application/json"


async def test_any_one_of_several_schemes_will_do(opener: Opener, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    await published(opener, "figma")
    (told,) = caplog.messages
    assert "18 operations ask for the scheme `PersonalAccessToken` (apiKey)" in told
    caplog.clear()
    await published(opener, "figma", security={"OAuth2": "token"})
    (told,) = caplog.messages  # payments take a personal token only
    assert "1 operation asks for the scheme `PersonalAccessToken`" in told
    caplog.clear()
    await published(opener, "figma", security={"OAuth2": "token"}, exclude=["Payments"])
    assert caplog.messages == []


async def test_a_parameter_that_is_the_key_of_a_scheme_is_not_asked_for(
    opener: Opener, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    common = {"openapi": str(PETSTORE), "url": "https://api.example.com/v2"}
    keyless = await opener.tools(**common, security={"petstore_auth": "token"})
    assert (len(keyless), set(keyless["api_deletePet"].definition.parameters["properties"])) == (
        19,
        {"api_key", "petId"},
    )
    assert "2 operations ask for the scheme `api_key` (apiKey)" in caplog.text
    caplog.clear()
    tools = await opener.tools(**common, security={"petstore_auth": "token", "api_key": "special-key"})
    assert set(tools["api_deletePet"].definition.parameters["properties"]) == {"petId"}
    assert ["uploadFile is left out" in message for message in caplog.messages] == [True]


def test_what_is_reduced_keeps_what_its_operations_refer_to():
    schemas = {"A": {"$ref": "#/components/schemas/B"}, "B": {"example": 1, "properties": {"example": {}}}, "C": {}}
    operations = {"get": {"tags": ["x"], "$ref": "#/components/schemas/A"}, "put": {"tags": ["y"]}}
    document = {"openapi": "3.0.0", "tags": [], "components": {"schemas": schemas, "securitySchemes": {"k": {}}},
                "paths": {"/a": operations, "/b": {"put": {"tags": ["y"]}}}}  # fmt: skip
    made = without_examples(reduced(document, {"x"}))
    assert made["paths"] == {"/a": {"get": operations["get"]}}
    kept = {"A": schemas["A"], "B": {"properties": {"example": {}}}}
    assert made["components"] == {"securitySchemes": {"k": {}}, "schemas": kept}
