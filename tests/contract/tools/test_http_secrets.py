"""Headers with `${…}`: resolved at each use, and seen by nobody but the server."""

import json
import logging

import pytest
from aiohttp import web
from tests.support.http_tools import Opener, Serve, call, text_of
from tests.support.ports import free_port

from goagents.errors import ToolError, ToolFailed, ToolUnavailable

SECRET = 'pa"ss/w+ord-1234'


async def echo(request: web.Request) -> web.Response:
    return web.json_response({"headers": dict(request.headers), "url": str(request.url)})


async def test_an_echoed_secret_is_redacted_in_every_spelling(
    opener: Opener, serve: Serve, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    opener.lent.variables["TOKEN"] = SECRET

    async def everywhere(request: web.Request) -> web.Response:
        value = request.headers["Authorization"].removeprefix("Bearer ")
        assert value == SECRET
        body = {"plain": value, "whole": f"Bearer {value}", "twice": json.dumps(value)}
        body["query"] = str(request.url.with_query(t=value))
        return web.json_response(body, status=401, headers={"Location": f"/x?t={value}"})

    tool = await opener.tool(url=await serve({"/": everywhere}), headers={"Authorization": "Bearer ${TOKEN}"})
    result = await call(tool)
    assert result.is_error
    for form in (SECRET, json.dumps(SECRET)[1:-1], "w+ord-1234", "w%2Bord"):
        assert form not in text_of(result)
    assert "[redacted]" in text_of(result)
    assert SECRET not in caplog.text
    assert SECRET not in repr(tool)


async def test_a_secret_is_resolved_at_each_use(opener: Opener, serve: Serve):
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers["X-Key"])
        return web.Response(text=request.headers["X-Key"])

    opener.lent.variables["KEY"] = "first-value"
    tool = await opener.tool(url=await serve({"/": handler}), headers={"X-Key": "${KEY}"})
    await call(tool)
    opener.lent.variables["KEY"] = "second-value"
    assert "second-value" not in text_of(await call(tool))
    assert seen == ["first-value", "second-value"]


async def test_a_secret_torn_by_the_bound_is_not_half_shown(opener: Opener, serve: Serve):
    opener.lent.variables["KEY"] = "abcdefghijklmnopqrstuvwxyz" * 3

    async def handler(request: web.Request) -> web.Response:
        key = request.headers["X-Key"]
        offset = int(request.query["offset"])
        return web.Response(text="#" * offset + key * 1000)

    tool = await opener.tool(url=await serve({"/": handler}), headers={"X-Key": "${KEY}"}, max_output=512)
    for offset in range(80):
        text = text_of(await call(tool, query={"offset": offset}))
        assert "abc" not in text.replace("[redacted]", "")


async def test_what_is_no_secret_is_shown(opener: Opener, serve: Serve):
    tool = await opener.tool(
        url=await serve({"/": echo}), headers={"X-Plain": "visible", "X-Default": "${UNSET:-visible-default}"}
    )
    text = text_of(await call(tool))
    assert '"X-Plain":"visible"' in text
    assert '"[redacted]"' not in text.replace('"X-Default":"[redacted]"', "")


async def test_a_secret_in_the_urls_query_is_sent_and_redacted(opener: Opener, serve: Serve):
    opener.lent.variables |= {"KEY": "query-secret-1", "BASE": await serve({"/": echo})}
    tool = await opener.tool(url="${BASE}/?key=${KEY}")
    assert "query-secret-1" not in tool.definition.description
    text = text_of(await call(tool, query={"a": 1}))
    assert "key=[redacted]&a=1" in text
    assert "127.0.0.1" in text  # the host is no secret


async def test_an_unset_variable_is_named(opener: Opener, serve: Serve):
    base = await serve({"/": echo})
    with pytest.raises(ToolUnavailable, match="MISSING is not set"):
        await opener.tool(url=base, headers={"X": "${MISSING}"})
    with pytest.raises(ToolUnavailable, match="MISSING is not set"):
        await opener.tool(url="${MISSING}/")
    opener.lent.variables["KEY"] = "value-1"
    tool = await opener.tool(url=base, headers={"X": "${KEY}"})
    del opener.lent.variables["KEY"]
    with pytest.raises(ToolFailed, match="KEY is not set"):
        await call(tool)


async def test_no_error_holds_a_secret(opener: Opener):
    opener.lent.variables["KEY"] = "query-secret-1"
    tool = await opener.tool(
        url=f"http://127.0.0.1:{free_port()}/x?key=${{KEY}}", headers={"X": "${KEY}"}, methods=["GET", "POST"]
    )
    for arguments in ({}, {"path": ".."}, {"query": {"key": "mine"}}, {"query": {"query-secret-1": "\ud800"}}):
        with pytest.raises(ToolError) as caught:
            await call(tool, **arguments)
        assert "query-secret-1" not in str(caught.value)
        assert "query-secret-1" not in str(caught.value.problem())


async def test_a_secret_that_cannot_be_a_header_is_not_told(opener: Opener, serve: Serve):
    opener.lent.variables["KEY"] = "line\r\nInjected: yes"
    tool = await opener.tool(url=await serve({"/": echo}), headers={"X": "${KEY}"})
    with pytest.raises(ToolFailed) as caught:
        await call(tool)
    assert "Injected" not in str(caught.value)


async def test_a_declared_header_replaces_ours_in_any_spelling(opener: Opener, serve: Serve):
    async def handler(request: web.Request) -> web.Response:
        names = ("User-Agent", "Accept", "Idempotency-Key", "Content-Type")
        return web.json_response({name: request.headers.getall(name) for name in names})

    headers = {
        "user-agent": "mine",
        "ACCEPT": "text/x",
        "idempotency-key": "fixed",
        "content-type": "application/x+json",
    }
    tool = await opener.tool(url=await serve({"/": handler}), methods=["POST"], headers=headers)
    assert json.loads(text_of(await call(tool, body={})).partition("\n")[2]) == {
        "User-Agent": ["mine"],
        "Accept": ["text/x"],
        "Idempotency-Key": ["fixed"],
        "Content-Type": ["application/x+json"],
    }
