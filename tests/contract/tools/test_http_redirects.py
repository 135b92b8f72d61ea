"""Redirects: checked one by one, and never with the headers of another."""

import pytest
from aiohttp import web
from tests.support.http_tools import Opener, Serve, call, text_of

from goagents.errors import AddressRefused, ToolFailed

TYPED = {"method": "GET", "parameters": {"type": "object", "properties": {}}}


def to(location: str, status: int = 302):
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": location})

    return handler


def recording(seen: list[dict[str, str]]):
    async def handler(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(text=f"reached {request.path_qs}")

    return handler


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_within_the_url_is_followed(opener: Opener, serve: Serve, status: int):
    seen: list[dict[str, str]] = []
    base = await serve({"/v1/a": to("/v1/b?x=1", status), "/v1/b": recording(seen)})
    tool = await opener.tool(url=f"{base}/v1", headers={"X-Token": "t0ken"})
    assert "reached /v1/b?x=1" in text_of(await call(tool, path="a"))
    assert seen[0]["X-Token"] == "t0ken"


async def test_five_redirects_are_followed_and_no_sixth(opener: Opener, serve: Serve):
    routes = {f"/v1/{n}": to(f"/v1/{n - 1}") for n in range(1, 8)}
    base = await serve({**routes, "/v1/0": recording([])})
    tool = await opener.tool(url=f"{base}/v1")
    assert "reached /v1/0" in text_of(await call(tool, path="5"))
    with pytest.raises(ToolFailed, match="more than 5 times"):
        await call(tool, path="6")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_other_methods_follow_nothing(opener: Opener, serve: Serve, method: str):
    base = await serve({"/v1/a": to("/v1/b", 307), "/v1/b": recording([])})
    tool = await opener.tool(url=f"{base}/v1", methods=[method])
    text = text_of(await call(tool, path="a"))
    assert text.startswith("HTTP 307 Temporary Redirect\nLocation: /v1/b")


@pytest.mark.parametrize("location", ["/admin", "/v1/../admin", "/v1x", "//127.0.0.2/v1", "http://127.0.0.1:1/v1/b",
                                      "https://127.0.0.1/v1", "/v1/%2e%2e/admin", "/v1/..;/admin"])  # fmt: skip
async def test_a_tool_with_only_a_url_stays_within_it(opener: Opener, serve: Serve, location: str):
    base = await serve({"/v1/a": to(location), "/{rest:.*}": recording([])})
    tool = await opener.tool(url=f"{base}/v1")
    with pytest.raises(AddressRefused, match="outside the tool's url"):
        await call(tool, path="a")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://example.com/", "http://u:p@127.0.0.1/", "http://",
                                      "http://169.254.169.254/latest", "http://10.0.0.1/", "http://2130706433/",
                                      "http://[::ffff:10.0.0.1]/", "http://metadata.google.internal/"])  # fmt: skip
async def test_the_guard_checks_every_hop(opener: Opener, serve: Serve, location: str):
    base = await serve({"/a": to("/b"), "/b": to(location)})
    tool = await opener.tool(url=f"{base}/a", **TYPED)
    with pytest.raises((AddressRefused, ToolFailed), match=r"allow\.addresses|redirects|four plain"):
        await call(tool)


async def test_declared_headers_never_reach_another_origin_and_do_not_come_back(opener: Opener, serve: Serve):
    there: list[dict[str, str]] = []
    back: list[dict[str, str]] = []
    first: dict[str, str] = {}

    async def bounce(request: web.Request) -> web.Response:
        there.append(dict(request.headers))
        return web.Response(status=302, headers={"Location": f"{first['base']}/secret"})

    other = await serve({"/": bounce})
    first["base"] = await serve({"/a": to(f"{other}/"), "/secret": recording(back)})
    tool = await opener.tool(url=f"{first['base']}/a", headers={"Authorization": "Bearer t0ken"}, **TYPED)
    assert "reached /secret" in text_of(await call(tool))
    assert "Authorization" not in there[0]
    assert "Authorization" not in back[0]


async def test_a_redirect_without_a_location_is_an_answer(opener: Opener, serve: Serve):
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=304)

    tool = await opener.tool(url=await serve({"/": handler}))
    assert text_of(await call(tool)).startswith("HTTP 304 Not Modified")
