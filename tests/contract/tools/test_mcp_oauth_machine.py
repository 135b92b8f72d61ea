"""Servers that a machine signs in to: `grant: client_credentials`."""

import asyncio
import logging
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.support.http_tools import Serve, text_of
from tests.support.mcp_oauth import AuthServer
from tests.support.mcp_tools import McpOpener, call, eventually, named

from goagents.errors import ToolFailed, ToolUnavailable
from goagents.net.guarded import GuardedSession
from goagents.tools.mcp_oauth_http import MAX_ANSWER, OAuthTransport
from goagents.tools.mcp_session import Terms

SECRET = "s3cret/of the client"


def entry(url: str, **oauth: Any) -> dict[str, Any]:
    settings = {"grant": "client_credentials", "client_id": "me", "client_secret": SECRET, "issuer": url, **oauth}
    return {"team": {"url": f"{url}/mcp", "oauth": {name: value for name, value in settings.items() if value}}}


async def served(serve: Serve, **knobs: Any) -> tuple[AuthServer, str]:
    server = AuthServer(secrets={"me": SECRET}, **knobs)
    return server, await serve(server.routes())


async def asked(server: AuthServer, times: int) -> bool:
    return len(server.asked) >= times


async def test_the_toolsets_of_a_process_share_a_token_and_the_last_one_closes_it(mcp: McpOpener, serve: Serve):
    server, url = await served(serve)
    first, second = (mcp.toolset("team", servers=entry(url)) for _ in range(2))
    await first.open()
    tools = named(await second.open())
    assert len(server.asked) == 1
    await first.aclose()
    await first.aclose()
    server.revoke()
    assert text_of(await call(tools["kb_say"])) == "you sent Bearer [redacted]"
    await second.aclose()
    third = await mcp.tools("team", servers=entry(url))
    assert text_of(await call(third["kb_say"])) == "you sent Bearer [redacted]"
    assert len(server.asked) == 3


@pytest.mark.parametrize("token_auth", ["client_secret_basic", "client_secret_post"])
async def test_a_machine_signs_in_once_for_all_its_calls(mcp: McpOpener, serve: Serve, token_auth: str):
    server, url = await served(serve)
    tools = await mcp.tools("team", servers=entry(url, token_auth=token_auth), trusted=False, allowed=())
    results = await asyncio.gather(*(call(tools["kb_say"]) for _ in range(10)))
    assert {text_of(result) for result in results} == {"you sent Bearer [redacted]"}
    assert len(server.asked) == 1
    assert server.asked[0]["resource"] == f"{url}/mcp"
    assert server.refused == 1  # the very first request, by which the server is asked what it wants


async def test_a_key_signs_instead_of_a_secret(mcp: McpOpener, serve: Serve):
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    server, url = await served(serve, keys={"me": public})
    servers = entry(url, client_secret=None, private_key=pem, algorithm="ES256")
    tools = await mcp.tools("team", servers=servers)
    assert text_of(await call(tools["kb_say"])) == "you sent Bearer [redacted]"
    assert "client_secret" not in server.asked[0]


async def test_a_key_that_cannot_sign_is_told_and_not_shown(mcp: McpOpener, serve: Serve):
    server, url = await served(serve)
    servers = entry(url, client_secret=None, private_key="-----BEGIN no key", algorithm="ES256")
    with pytest.raises(ToolUnavailable, match=r"signing in: `private_key` cannot sign with ES256: \w+$"):
        await mcp.toolset("team", servers=servers).open()
    assert server.asked == []


@pytest.mark.parametrize("place", ["http://[no-address", "ftp://x.example/", "file:///etc/passwd", "not a place"])
async def test_a_place_that_is_none_fails_the_opening_alone(mcp: McpOpener, serve: Serve, place: str):
    server, url = await served(serve)
    server.metadata_at = place
    with pytest.raises(ToolUnavailable, match="kb: signing in: "):
        await mcp.toolset("team", servers=entry(url)).open()
    server.metadata_at = None
    assert (await mcp.tools("team", servers=entry(url))).keys() == {"kb_say"}


async def test_a_token_that_counts_no_more_is_replaced_once_for_all_calls(mcp: McpOpener, serve: Serve):
    server, url = await served(serve)
    tools = await mcp.tools("team", servers=entry(url), effect="unsafe")
    server.revoke()
    results = await asyncio.gather(*(call(tools["kb_say"]) for _ in range(5)))
    assert {text_of(result) for result in results} == {"you sent Bearer [redacted]"}
    assert len(server.asked) == 2
    assert server.calls == 5  # none was done twice


async def test_one_that_is_over_is_not_sent(mcp: McpOpener, serve: Serve):
    server, url = await served(serve, lifetime=1)
    tools = await mcp.tools("team", servers=entry(url))
    await asyncio.sleep(1.1)
    assert text_of(await call(tools["kb_say"])) == "you sent Bearer [redacted]"
    assert len(server.asked) == 2


async def test_the_configured_scopes_are_asked_for_and_more_where_a_call_needs_more(mcp: McpOpener, serve: Serve):
    server, url = await served(serve, scopes=["read", "write", "admin"], needs={"tools/call": "write"})
    tools = await mcp.tools("team", servers=entry(url, scopes=["read"]))
    assert text_of(await call(tools["kb_say"])) == "you sent Bearer [redacted]"
    assert [form["scope"] for form in server.asked] == ["read", "read write"]


async def test_a_scope_that_is_not_given_fails_the_call_after_one_attempt(mcp: McpOpener, serve: Serve):
    server, url = await served(serve, needs={"tools/call": "admin"})
    tools = await mcp.tools("team", servers=entry(url))
    server.needs["tools/call"] = "no one ever"
    with pytest.raises(ToolFailed, match=r"answered HTTP 403; it wants another credential: see `oauth`"):
        await call(tools["kb_say"])
    assert server.calls == 0
    assert len(server.asked) == 2


async def test_a_wrong_secret_costs_the_tools_and_is_shown_nowhere(
    mcp: McpOpener, serve: Serve, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    _, url = await served(serve)
    with pytest.raises(
        ToolUnavailable, match=r"kb: signing in: Token exchange failed \(401\).*invalid_client"
    ) as raised:
        await mcp.toolset("team", servers=entry(url, client_secret="not-the-secret")).open()
    assert "not-the-secret" not in str(raised.value) + caplog.text
    assert "not-the-secret" not in repr(mcp.toolsets[0]._environment)


async def test_the_secret_goes_to_the_issuer_of_the_configuration_only(mcp: McpOpener, serve: Serve):
    server, url = await served(serve)
    with pytest.raises(ToolUnavailable, match=r"issuer mismatch: http://127\.0\.0\.1:\d+ != https://auth\.example"):
        await mcp.toolset("team", servers=entry(url, issuer="https://auth.example")).open()
    server.issuer = "https://evil.example"
    with pytest.raises(ToolUnavailable, match=r"metadata issuer mismatch: https://evil\.example"):
        await mcp.toolset("team", servers=entry(url)).open()
    assert server.asked == []


async def test_an_authorization_server_passes_the_address_guard(mcp: McpOpener, serve: Serve):
    server, url = await served(serve)
    server.offers["token_endpoint"] = "http://169.254.169.254/token"
    with pytest.raises(ToolUnavailable, match=r"signing in: 169\.254\.169\.254 .*allow\.addresses"):
        await mcp.toolset("team", servers=entry(url), allowed=()).open()


async def test_nothing_of_a_login_goes_without_tls_where_the_server_has_it():
    session = GuardedSession()
    transport = OAuthTransport(session, 1.0, secure=True)
    for place in ("http://auth.example/token", "ftp://auth.example/"):
        with pytest.raises(ToolFailed, match=r"signing in: auth\.example would be asked without TLS"):
            await transport.handle_async_request(httpx2.Request("POST", place))
    with pytest.raises(ToolFailed, match=r"allow\.addresses"):
        await transport.handle_async_request(httpx2.Request("POST", "https://127.0.0.1/token"))
    await session.aclose()


async def test_metadata_without_end_is_cut(mcp: McpOpener, serve: Serve):
    _, url = await served(serve, huge=True)
    with pytest.raises(ToolUnavailable, match=f"signing in: 127.0.0.1 answered with more than {MAX_ANSWER >> 20} MiB"):
        await mcp.toolset("team", servers=entry(url)).open()


async def test_a_token_endpoint_that_does_not_answer_is_not_waited_for(mcp: McpOpener, serve: Serve):
    server, url = await served(serve, slow=30.0)
    toolset = mcp.toolset("team", servers=entry(url), terms=Terms(sign_in=0.2))
    with pytest.raises(ToolUnavailable, match=r"signing in: 127\.0\.0\.1 did not answer within 0\.2 s"):
        await toolset.open()
    server.slow = 0.0
    assert named(await toolset.open()).keys() == {"kb_say"}


async def test_one_that_fails_is_asked_again_by_the_next_call(mcp: McpOpener, serve: Serve):
    server, url = await served(serve)
    tools = await mcp.tools("team", servers=entry(url), terms=Terms(again=0.0))
    server.revoke()
    server.broken = 503
    with pytest.raises(ToolFailed, match=r"signing in: 127\.0\.0\.1 answered HTTP 503") as raised:
        await call(tools["kb_say"])
    assert (raised.value.fault, raised.value.sent) == ("server", False)
    server.broken = 0
    assert text_of(await call(tools["kb_say"])) == "you sent Bearer [redacted]"


async def test_one_that_fails_is_not_asked_by_every_call(mcp: McpOpener, serve: Serve):
    server, url = await served(serve)
    tools = await mcp.tools("team", servers=entry(url))
    server.revoke()
    server.broken = 503
    for _ in range(5):
        with pytest.raises(ToolFailed, match=r"answered HTTP 503"):
            await call(tools["kb_say"])
    assert len(server.asked) == 2


async def test_a_call_that_leaves_does_not_take_the_token_with_it(mcp: McpOpener, serve: Serve):
    server, url = await served(serve)
    tools = await mcp.tools("team", servers=entry(url))
    server.revoke()
    server.slow = 0.2
    leaving = asyncio.create_task(call(tools["kb_say"]))
    staying = asyncio.create_task(call(tools["kb_say"]))
    await eventually(lambda: asked(server, 2), "the token is asked for")
    leaving.cancel()
    assert text_of(await staying) == "you sent Bearer [redacted]"
    assert len(server.asked) == 2


async def test_an_entry_may_not_send_an_authorization_of_its_own(mcp: McpOpener, serve: Serve):
    _, url = await served(serve)
    with pytest.raises(ToolUnavailable, match=r"headers: Authorization is what `oauth` of 'team' sends"):
        await mcp.toolset("team", servers=entry(url), headers={"authorization": "Bearer x"}).open()


async def test_without_a_secret_it_says_so(mcp: McpOpener, serve: Serve):
    _, url = await served(serve)
    with pytest.raises(ToolUnavailable, match="has neither `client_secret` nor `private_key`"):
        await mcp.toolset("team", servers=entry(url, client_secret=None)).open()
