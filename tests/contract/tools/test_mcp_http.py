"""Servers over HTTP: where they may be, what they are sent, and what they may do wrong."""

import json
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.support.http_tools import Serve, text_of
from tests.support.mcp_scripted import rpc, said, scripted
from tests.support.mcp_tools import McpOpener, McpServer, call, named, running
from tests.support.outbound import FakeNames

from goagents.errors import ToolFailed, ToolUnavailable


@pytest.fixture(scope="module")
def guarded() -> Iterator[McpServer]:
    with running("token=s3cr3t-token") as server:
        yield server


async def test_headers_are_resolved_at_each_request(mcp: McpOpener, guarded: McpServer):
    mcp.lent.variables["TOKEN"] = "s3cr3t-token"
    tools = await mcp.tools(guarded.url, headers={"Authorization": "Bearer ${TOKEN}", "X-Team": "red"})
    assert text_of(await call(tools["kb_add"], a=1, b=1)) == "2"
    sent = guarded.headers()[-1]
    assert sent["x-team"] == "red"
    assert sent["user-agent"].startswith("goagents/")
    mcp.lent.variables["TOKEN"] = "another-token"
    with pytest.raises(ToolFailed, match=r"127\.0\.0\.1 answered HTTP 401; it wants another credential: see `headers`"):
        await call(tools["kb_add"], a=1, b=1)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong-token"}])
async def test_a_missing_or_wrong_credential_makes_the_toolset_unavailable(
    mcp: McpOpener, guarded: McpServer, headers: dict[str, str]
):
    with pytest.raises(ToolUnavailable, match="answered HTTP 401; it wants another credential") as raised:
        await mcp.toolset(guarded.url, headers=headers).open()
    assert "wrong-token" not in str(raised.value)


async def test_an_unset_variable_is_named(mcp: McpOpener, guarded: McpServer):
    with pytest.raises(ToolUnavailable, match="kb: the variable MISSING is not set"):
        await mcp.toolset(guarded.url, headers={"Authorization": "Bearer ${MISSING}"}).open()


async def test_headers_of_the_configuration_go_along_and_are_never_shown(mcp: McpOpener, serve: Serve):
    async def echo(request: web.Request, message: Any) -> web.Response:
        return rpc(message, said(f"you sent {request.headers['Authorization']} and {request.headers['X-Own']}"))

    url = await serve(scripted(tools_call=echo))
    servers = {"team": {"url": f"{url}/mcp", "headers": {"authorization": "Bearer abc-secret-def", "X-Own": "theirs"}}}
    tools = await mcp.tools("team", servers=servers, headers={"x-own": "mine!"})
    assert text_of(await call(tools["kb_say"])) == "you sent [redacted] and mine!"
    assert "abc-secret-def" not in repr(mcp.toolsets[0]._environment) + repr(mcp.toolsets[0]._target)


async def test_a_token_repeated_without_its_scheme_is_redacted_too(mcp: McpOpener, serve: Serve):
    async def refuse(request: web.Request, message: Any) -> web.Response:
        token = request.headers["Authorization"].split()[1]
        error = {"code": -32603, "message": f"{token} may not do this"}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error})

    url = await serve(scripted(tools_call=refuse))
    mcp.lent.variables["TOKEN"] = "tok-1234567"
    tools = await mcp.tools(f"{url}/mcp", headers={"Authorization": "Bearer ${TOKEN}"})
    with pytest.raises(ToolFailed, match=r"^\[redacted\] may not do this \(-32603\)$"):
        await call(tools["kb_say"])


@pytest.mark.parametrize("name", ["Host", "content-type", "Mcp-Session-Id", "MCP-Protocol-Version"])
async def test_the_protocols_own_headers_cannot_be_set(mcp: McpOpener, name: str):
    with pytest.raises(ToolUnavailable, match=f"headers: {name} is the protocol's own"):
        await mcp.toolset("http://127.0.0.1:1/mcp", headers={name: "x"}).open()


async def test_the_guard_refuses_private_addresses_and_names_that_lead_there(mcp: McpOpener):
    for server in ("http://127.0.0.1:9/mcp", "http://localhost:9/mcp", "http://169.254.169.254/mcp"):
        with pytest.raises(ToolUnavailable, match=r"allow\.addresses"):
            await mcp.toolset(server, allowed=()).open()
    names = FakeNames(["10.1.2.3"])
    with pytest.raises(ToolUnavailable, match=r"evil\.example leads to a private address"):
        await mcp.toolset("http://evil.example/mcp", allowed=(), lookup=names).open()
    assert set(names.asked) == {("evil.example", 80)}


async def test_a_private_address_that_the_configuration_names_is_reached(mcp: McpOpener, serve: Serve):
    url = await serve(scripted(tools_call=said("hello")))
    servers = {"team": {"url": f"{url}/mcp"}}
    tools = await mcp.tools("team", allowed=(), servers=servers, trusted=False)
    assert text_of(await call(tools["kb_say"])) == "hello"
    with pytest.raises(ToolUnavailable, match=r"allow\.addresses"):  # the same address by its URL is not named there
        await mcp.toolset(f"{url}/mcp", allowed=(), servers=servers).open()


async def test_redirects_elsewhere_are_refused_and_within_the_server_followed(mcp: McpOpener, serve: Serve):
    url = await serve(
        {**scripted(tools_call=said("here")), "/here": redirect("/mcp"), "/away": redirect("http://localhost/x")}
    )
    tools = await mcp.tools(f"{url}/here")
    assert text_of(await call(tools["kb_say"])) == "here"
    with pytest.raises(ToolUnavailable, match="Redirect to http://localhost/x not followed"):
        await mcp.toolset(f"{url}/away").open()


def redirect(location: str) -> Any:
    async def handle(_request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": location})

    return handle


async def test_certificates_are_verified(mcp: McpOpener, serve: Serve, authority: tuple[Path, ssl.SSLContext]):
    url = await serve(scripted(), ssl=authority[1])
    with pytest.raises(ToolUnavailable, match=r"the certificate of 127\.0\.0\.1 is refused"):
        await mcp.toolset(f"{url}/mcp").open()


async def garbage(_request: web.Request, _message: Any) -> web.Response:
    return web.Response(text="{not json", content_type="application/json")


async def page(_request: web.Request, _message: Any) -> web.Response:
    return web.Response(text="<html>", content_type="text/html")


async def broken(_request: web.Request, _message: Any) -> web.Response:
    return web.Response(status=503, text="down for maintenance")


async def cut(request: web.Request, _message: Any) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"event: message\ndata: {")
    assert request.transport is not None
    request.transport.abort()
    return response


async def endless(request: web.Request, _message: Any) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" " * (1 << 20))


async def bomb(_request: web.Request, _message: Any) -> web.Response:
    return web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})


async def hangs_up(request: web.Request, _message: Any) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def other_id(_request: web.Request, message: Any) -> web.Response:
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "input_required"}})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (garbage, "Failed to parse JSON response|not valid"),
        (page, "Unexpected content type: text/html"),
        (broken, "127.0.0.1 answered HTTP 503; whether it acted is unknown"),
        (cut, "closed the connection before it answered; whether it acted is unknown"),
        (endless, "answered with more than 16 MiB"),
        (bomb, "answered in an encoding that it was not asked for"),
        (hangs_up, "whether it acted is unknown"),
        ({"content": "text"}, "the server's answer is not valid"),
        (other_id, "asks back for input|not valid"),
    ],
)
async def test_a_wrong_answer_fails_its_call_and_no_other(mcp: McpOpener, serve: Serve, answer: Any, reason: str):
    async def handle(request: web.Request, message: Any) -> web.StreamResponse:
        if message["params"].get("arguments", {}).get("well"):
            return rpc(message, said("well"))
        if not callable(answer):
            return rpc(message, answer)
        answered: web.StreamResponse = await answer(request, message)
        return answered

    url = await serve(scripted(tools_call=handle))
    tools = await mcp.tools(f"{url}/mcp", effect="unsafe")
    with pytest.raises(ToolFailed, match=reason):
        await call(tools["kb_say"])
    assert text_of(await call(tools["kb_say"], well=True)) == "well"


async def test_a_reading_call_is_repeated_once_where_the_connection_broke(mcp: McpOpener, serve: Serve):
    seen: list[Any] = []

    async def once(request: web.Request, message: Any) -> web.StreamResponse:
        seen.append(message["params"])
        return await hangs_up(request, message) if len(seen) == 1 else rpc(message, said("second"))

    url = await serve(scripted(tools_call=once))
    tools = await mcp.tools(f"{url}/mcp")
    assert text_of(await call(tools["kb_say"])) == "second"
    assert len(seen) == 2


async def test_a_call_that_may_act_carries_its_key(mcp: McpOpener, serve: Serve):
    seen: list[Any] = []

    async def keep(_request: web.Request, message: Any) -> web.Response:
        seen.append(message["params"]["_meta"].get("dev.goagents/idempotencyKey"))
        return rpc(message, said("ok"))

    url = await serve(scripted(tools_call=keep))
    await call((await mcp.tools(f"{url}/mcp", effect="idempotent"))["kb_say"])
    await call((await mcp.tools(f"{url}/mcp"))["kb_say"])
    assert seen == ["run_1/3/call_1", None]


async def test_a_url_that_is_no_mcp_server_says_so(mcp: McpOpener, serve: Serve):
    async def absent(_request: web.Request) -> web.Response:
        return web.Response(status=404, text="nothing here")

    url = await serve({"/mcp": absent})
    with pytest.raises(ToolUnavailable, match=r"kb: 127\.0\.0\.1 answered HTTP 404"):
        await mcp.toolset(f"{url}/mcp").open()


async def test_credentials_in_the_url_are_refused(mcp: McpOpener):
    with pytest.raises(ToolUnavailable, match="credentials belong into `headers`"):
        await mcp.toolset("http://user:pass@127.0.0.1:1/mcp").open()


async def test_a_secret_in_the_url_is_in_no_error_and_no_log(
    mcp: McpOpener, serve: Serve, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    url = await serve(scripted(tools_call=broken))
    mcp.lent.variables["KEY"] = "url-secret-key"
    toolset = mcp.toolset(f"{url}/mcp?key=${{KEY}}")
    tools = named(await toolset.open())
    with pytest.raises(ToolFailed) as raised:
        await call(tools["kb_say"])
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("goagents", "mcp", "httpx"))]
    assert "url-secret-key" not in str(raised.value) + json.dumps(ours) + repr(toolset._target)
