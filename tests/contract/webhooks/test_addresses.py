"""A webhook's URL is somebody else's word: it leads to no private address, and to nobody with a false certificate."""

import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web
from tests.support.http_tools import Serve
from tests.support.outbound import FakeNames
from tests.support.webhooks import Receiver, Send, hook


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/hook",
        "http://10.0.0.1/hook",
        "http://[::ffff:10.0.0.1]/hook",
        "http://169.254.169.254/latest",
        "http://metadata.google.internal/",
        "http://localhost/hook",
        "http://2130706433/hook",
    ],
)
async def test_a_refused_address_is_not_called(send: Send, url: str):
    receipt = await send(url, allowed=())
    assert receipt.outcome == "retry"
    assert receipt.detail.startswith("webhook.url: ")
    assert "\n" not in receipt.detail


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["8.8.8.8", "10.0.0.7"], ["::ffff:10.0.0.7"], ["169.254.169.254"]])
async def test_a_name_that_leads_to_a_private_address_is_not_called(send: Send, answers: list[str]):
    receipt = await send("http://inside.example:9/hook", allowed=(), lookup=FakeNames(answers))
    assert receipt.outcome == "retry"
    assert receipt.detail.startswith("inside.example leads to a")
    assert not any(answer in receipt.detail for answer in answers)


async def test_what_the_configuration_allows_is_called(send: Send, serve: Serve):
    receiver = Receiver()
    port = (await hook(serve, receiver)).removesuffix("/hook").rpartition(":")[2]
    names = FakeNames(["127.0.0.1"])
    url = f"http://hooks.internal:{port}/hook"
    assert (await send(url, allowed=(f"hooks.internal:{port}",), lookup=names)).outcome == "delivered"
    assert (await send(url, allowed=("other.internal",), lookup=names)).outcome == "retry"
    assert len(receiver.requests) == 1


async def test_what_was_checked_is_what_is_connected_to(send: Send, serve: Serve):
    receiver = Receiver()
    port = (await hook(serve, receiver)).removesuffix("/hook").rpartition(":")[2]
    # The second answer would be refused: it must never be asked for, neither to connect nor while kept alive.
    names = FakeNames(["127.0.0.1"], ["10.0.0.1"])
    for _ in range(3):
        assert (await send(f"http://rebind.example:{port}/hook", lookup=names)).outcome == "delivered"
    assert names.asked == [("rebind.example", int(port))]


async def test_a_name_that_nobody_knows_is_tried_again(send: Send):
    async def nobody(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    receipt = await send("https://nobody.example/hook", lookup=nobody)
    assert receipt.outcome == "retry"
    assert receipt.detail == "nobody.example cannot be resolved: no such host name, or no answer"


async def test_certificates_are_verified_against_the_name(
    send: Send, serve: Serve, authority: tuple[Path, ssl.SSLContext]
):
    ca_file, context = authority
    receiver = Receiver()
    port = (await hook(serve, receiver, ssl=context)).removesuffix("/hook").rpartition(":")[2]
    names = FakeNames(["127.0.0.1"])
    trusted = await send(f"https://tls.example:{port}/hook", lookup=names, ca_bundle=str(ca_file))
    untrusted = await send(f"https://tls.example:{port}/hook", lookup=names)
    other = await send(f"https://other.example:{port}/hook", lookup=names, ca_bundle=str(ca_file))
    plain = await send(f"http://tls.example:{port}/hook", lookup=names)
    assert [r.outcome for r in (trusted, untrusted, other, plain)] == ["delivered", "retry", "retry", "retry"]
    assert untrusted.detail.startswith("the certificate of tls.example is refused")
    assert other.detail.startswith("the certificate of other.example is refused")
    assert len(receiver.requests) == 1


async def test_an_unreadable_ca_bundle_is_named(send: Send, tmp_path: Path):
    path = str(tmp_path / "absent.pem")
    receipt = await send("https://127.0.0.1:9/hook", ca_bundle=path)
    assert (receipt.outcome, receipt.detail) == (
        "retry",
        f"ca_bundle: {path} holds no certificates that can be read",
    )


async def test_neither_cookies_nor_proxies_are_used(send: Send, serve: Serve, monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    cookies = []

    async def handler(request: web.Request) -> web.Response:
        cookies.append(dict(request.cookies))
        response = web.Response()
        response.set_cookie("session", "of-another-run")
        return response

    port = (await hook(serve, handler)).removesuffix("/hook").rpartition(":")[2]
    for _ in range(2):
        url = f"http://cookies.example:{port}/hook"
        assert (await send(url, lookup=FakeNames(["127.0.0.1"]))).outcome == "delivered"
    assert cookies == [{}, {}]
