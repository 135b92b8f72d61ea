"""An http tool with `parameters` and `method`."""

import json
from typing import Any

import pytest
from aiohttp import web
from tests.support.http_tools import Opener, Serve, call, text_of

from goagents.errors import ToolInvalidArguments, ToolUnavailable
from goagents.tools.base import ToolResult

PARAMETERS = {
    "type": "object",
    "properties": {"id": {"type": ["string", "integer"]}, "note": {"type": "string"}, "tags": {"type": "array"}},
    "required": ["id"],
}


def echoed(result: ToolResult) -> dict:
    return json.loads(text_of(result).partition("\n")[2])


async def test_arguments_of_a_get_go_to_path_and_query(opener: Opener, httpbin: str):
    tool = await opener.tool(url=f"{httpbin}/anything?id={{id}}&v=1", method="GET", parameters=PARAMETERS)
    assert tool.definition.effect == "read"
    assert echoed(await call(tool, id="a&v=2/..", note="x y", tags=["p", "q"]))["args"] == {
        "id": "a&v=2/..",
        "v": "1",
        "note": "x y",
        "tags": ["p", "q"],
    }


async def test_arguments_of_a_post_go_to_path_and_body(opener: Opener, serve: Serve):
    from_server = {}

    async def handler(request: web.Request):
        from_server.update(path=request.rel_url.raw_path, body=await request.json(), headers=dict(request.headers))
        return web.json_response({"ok": True}, status=201, headers={"Location": "/things/9"})

    base = await serve({"/things/{rest:.*}": handler})
    tool = await opener.tool(url=f"{base}/things/{{id}}/notes", method="post", parameters=PARAMETERS)
    assert tool.definition.effect == "unsafe"
    result = await call(tool, id="a/b c", note="n")
    assert from_server["path"] == "/things/a%2Fb%20c/notes"
    assert from_server["body"] == {"note": "n"}
    assert from_server["headers"]["Idempotency-Key"] == "run_1/3/call_1"
    assert text_of(result) == 'HTTP 201 Created\nLocation: /things/9\n{"ok":true}'


@pytest.mark.parametrize("value", ["..", ".", "", "../x", "%2e%2e", "a\\b", {"a": 1}, None, []])
async def test_a_value_that_would_change_the_path_is_refused(opener: Opener, value: Any):
    tool = await opener.tool(url="http://127.0.0.1:1/v1/{id}/x", method="GET", parameters=PARAMETERS)
    with pytest.raises(ToolInvalidArguments, match=r"id|path"):
        await call(tool, id=value)


async def test_a_placeholder_must_be_declared_and_becomes_required(opener: Opener):
    with pytest.raises(ToolUnavailable, match=r"`{other}` is no property"):
        await opener.tool(url="http://127.0.0.1:1/{other}", method="GET", parameters=PARAMETERS)
    parameters = {"type": "object", "properties": {"id": {"type": "string"}}}
    tool = await opener.tool(url="http://127.0.0.1:1/{id}", method="GET", parameters=parameters)
    assert tool.definition.parameters["required"] == ["id"]
    assert "required" not in parameters


async def test_the_model_never_chooses_the_host(opener: Opener):
    with pytest.raises(ToolUnavailable):
        await opener.tool(
            url="http://{id}.example.com/", method="GET", parameters=PARAMETERS, allowed=(), name="hosted"
        )
