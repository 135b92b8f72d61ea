"""Names and addresses: what was checked is what is connected to."""

import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web
from tests.support.http_tools import Opener, Serve, call, text_of
from tests.support.outbound import FakeNames

from goagents.errors import AddressRefused, ToolFailed
from goagents.net.guarded import system_lookup


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"hello {request.headers['Host']}")


async def test_a_name_is_looked_up_once_and_that_answer_is_connected_to(opener: Opener, serve: Serve):
    base = await serve({"/": hello})
    port = int(base.rpartition(":")[2])
    # The second answer would be refused: it must never be asked for, neither to connect nor while kept alive.
    names = FakeNames(["127.0.0.1"], ["10.0.0.1"])
    tool = await opener.tool(url=f"http://rebind.example:{port}/", allowed=("127.0.0.1",), lookup=names)
    for _ in range(3):
        assert f"hello rebind.example:{port}" in text_of(await call(tool))
    assert names.asked == [("rebind.example", port)]


async def test_rebinding_to_a_private_address_is_refused(opener: Opener, serve: Serve):
    reached = []

    async def handler(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response()

    base = await serve({"/{rest:.*}": handler})
    url = f"http://rebind.example:{base.rpartition(':')[2]}/"
    # The first answer stands for a public address (nobody listens there), the second is where a server does.
    names = FakeNames(["127.0.0.2"], ["127.0.0.1"])
    first = await opener.tool(url=url, allowed=("127.0.0.2",), lookup=names)
    with pytest.raises(ToolFailed, match=r"cannot connect to rebind.example"):
        await call(first)
    second = await opener.tool(url=url, allowed=("127.0.0.2",), lookup=names)  # its own client: nothing is cached
    with pytest.raises(AddressRefused, match=r"rebind.example leads to a loopback address"):
        await call(second)
    assert reached == []


@pytest.mark.parametrize(
    "answers",
    [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["64:ff9b::a00:1"], ["::1"]],
)
async def test_one_private_answer_is_enough_to_refuse(opener: Opener, answers: list[str]):
    tool = await opener.tool(url="http://inside.example:1/", allowed=(), lookup=FakeNames(answers))
    with pytest.raises(AddressRefused, match=r"inside.example leads to") as caught:
        await call(tool)
    assert not any(answer in str(caught.value) for answer in answers)


async def test_a_redirect_to_a_name_is_checked_after_its_own_look_up(opener: Opener, serve: Serve):
    async def away(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": f"http://inside.example:{port}/"})

    base = await serve({"/a": away, "/": hello})
    port = int(base.rpartition(":")[2])
    names = FakeNames(["10.1.1.1"])
    tool = await opener.tool(
        url=f"{base}/a",
        method="GET",
        parameters={"type": "object"},
        lookup=names,
    )
    with pytest.raises(AddressRefused, match=r"inside.example leads to a private address"):
        await call(tool)
    assert names.asked == [("inside.example", port)]


async def test_a_name_that_is_allowed_may_lead_inside(opener: Opener, serve: Serve):
    base = await serve({"/": hello})
    port = int(base.rpartition(":")[2])
    tool = await opener.tool(
        url=f"http://orders.internal:{port}/", allowed=(f"orders.internal:{port}",), lookup=FakeNames(["127.0.0.1"])
    )
    assert "hello orders.internal" in text_of(await call(tool))


async def test_an_unknown_name_is_a_failure(opener: Opener):
    async def nobody(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    tool = await opener.tool(url="http://nobody.example/", lookup=nobody)
    with pytest.raises(ToolFailed, match=r"nobody.example cannot be resolved"):
        await call(tool)
    tool = await opener.tool(url="http://empty.example/", lookup=FakeNames([]))
    with pytest.raises(ToolFailed, match=r"empty.example cannot be resolved"):
        await call(tool)


async def test_the_systems_own_look_up_is_guarded_too(opener: Opener, serve: Serve):
    base = await serve({"/": hello})
    assert "127.0.0.1" in await system_lookup("localhost", 80)
    tool = await opener.tool(url=base.replace("127.0.0.1", "localhost"), allowed=("localhost",))
    assert "hello localhost" in text_of(await call(tool))


async def test_cookies_are_not_kept(opener: Opener, serve: Serve):
    async def handler(request: web.Request) -> web.Response:
        response = web.Response(text=f"cookies: {len(request.cookies)}")
        response.set_cookie("session", "of-another-run")
        return response

    port = (await serve({"/": handler})).rpartition(":")[2]
    tool = await opener.tool(url=f"http://cookies.example:{port}/", lookup=FakeNames(["127.0.0.1"]))
    for _ in range(2):
        assert text_of(await call(tool)).endswith("cookies: 0")


async def test_proxies_of_the_environment_are_not_used(opener: Opener, serve: Serve, monkeypatch: pytest.MonkeyPatch):
    base = await serve({"/": hello})
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert "hello" in text_of(await call(await opener.tool(url=base)))


async def test_certificates_are_verified_against_the_name(
    opener: Opener, serve: Serve, authority: tuple[Path, ssl.SSLContext]
):
    ca_file, context = authority
    port = (await serve({"/": hello}, ssl=context)).rpartition(":")[2]
    common = {"lookup": FakeNames(["127.0.0.1"]), "allowed": ("127.0.0.1",)}
    trusted = await opener.tool(url=f"https://tls.example:{port}/", ca_bundle=str(ca_file), **common)
    assert "hello tls.example" in text_of(await call(trusted))
    untrusted = await opener.tool(url=f"https://tls.example:{port}/", **common)
    with pytest.raises(ToolFailed, match=r"certificate of tls.example is refused.*`ca_bundle`"):
        await call(untrusted)
    other = await opener.tool(url=f"https://other.example:{port}/", ca_bundle=str(ca_file), **common)
    with pytest.raises(ToolFailed, match=r"certificate of other.example is refused"):
        await call(other)


async def test_https_never_redirects_to_http(opener: Opener, serve: Serve, authority: tuple[Path, ssl.SSLContext]):
    ca_file, context = authority
    plain = await serve({"/": hello})

    async def down(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": f"{plain}/"})

    base = await serve({"/": down}, ssl=context)
    tool = await opener.tool(url=base, method="GET", parameters={"type": "object"}, ca_bundle=str(ca_file))
    with pytest.raises(AddressRefused, match="from https to http"):
        await call(tool)


async def test_an_unreadable_ca_bundle_is_named(opener: Opener, tmp_path: Path):
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for path in (str(empty), str(tmp_path / "absent.pem")):
        tool = await opener.tool(url="https://127.0.0.1:1/", ca_bundle=path)
        with pytest.raises(ToolFailed, match=r"ca_bundle: .* holds no certificates"):
            await call(tool)
