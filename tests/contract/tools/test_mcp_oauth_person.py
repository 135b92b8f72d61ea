"""Servers that a person signed in to: the tokens of the store, and how they are renewed."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.http_tools import Serve, text_of
from tests.support.mcp_oauth import AuthServer, People
from tests.support.mcp_tools import McpOpener, call, eventually
from tests.support.stores import UnreliableStore

from goagents.errors import ToolFailed, ToolUnavailable
from goagents.store.sqlite import SQLiteStore
from goagents.tools.mcp_session import Terms

AT_ONCE = Terms(again=0.0, look=0.0)
SENT = "you sent Bearer [redacted]"


@pytest.fixture
async def people(tmp_path: Path) -> AsyncIterator[People]:
    store = UnreliableStore(SQLiteStore(str(tmp_path / "store.db")))
    yield People(store)
    await store.aclose()


def entry(url: str, **oauth: Any) -> dict[str, Any]:
    return {"team": {"url": f"{url}/mcp", "oauth": oauth}}


async def signed_in(serve: Serve, people: People, oauth: dict[str, Any] | None = None, **knobs: Any) -> Any:
    server = AuthServer(**knobs)
    url = await serve(server.routes())
    await people.sign_in(url, **(oauth or {}))
    return server, url


async def test_a_login_serves_every_toolset_and_no_person_is_asked(mcp: McpOpener, serve: Serve, people: People):
    server, url = await signed_in(serve, people)
    for _ in range(2):
        tools = await mcp.tools("team", servers=entry(url), allowed=(), trusted=False, logins=people.logins)
        assert text_of(await call(tools["kb_say"])) == SENT
    assert len(server.asked) == len(server.authorized) == 1
    assert server.refused == 1  # at the login; its token is sent along from the start


async def test_without_a_login_only_its_tools_are_missing(mcp: McpOpener, serve: Serve, people: People):
    url = await serve(AuthServer().routes())
    with pytest.raises(ToolUnavailable, match=r"^kb: nobody is signed in: run `goagents mcp login team`$"):
        await mcp.toolset("team", servers=entry(url), logins=people.logins).open()


@pytest.mark.parametrize("rotates", [True, False])
async def test_a_token_is_renewed_once_for_all_calls(mcp: McpOpener, serve: Serve, people: People, rotates: bool):
    server, url = await signed_in(serve, people, rotates=rotates)
    tools = await mcp.tools("team", servers=entry(url), logins=people.logins, effect="unsafe")
    server.revoke()
    results = await asyncio.gather(*(call(tools["kb_say"]) for _ in range(8)))
    assert {text_of(result) for result in results} == {SENT}
    assert server.asked_for("refresh_token") == 1
    assert server.asked[-1]["resource"] == f"{url}/mcp"
    record = await people.record()
    assert record.content.refresh_token == server.grants[0].refresh[-1]
    assert (record.claim, record.claimed_until_at) == (None, None)


async def test_a_token_that_is_about_to_end_is_renewed_before(mcp: McpOpener, serve: Serve, people: People):
    server, url = await signed_in(serve, people, lifetime=5)
    server.lifetime = 3600
    tools = await mcp.tools("team", servers=entry(url), logins=people.logins)
    assert server.asked_for("refresh_token") == 1
    assert server.refused == 1
    assert text_of(await call(tools["kb_say"])) == SENT


async def test_a_toolset_takes_what_another_one_renewed(mcp: McpOpener, serve: Serve, people: People):
    server, url = await signed_in(serve, people)
    first = await mcp.tools("team", servers=entry(url), logins=people.logins)
    second = await mcp.tools("team", servers=entry(url), logins=people.logins)
    server.revoke()
    assert text_of(await call(first["kb_say"])) == SENT
    assert text_of(await call(second["kb_say"])) == SENT
    assert server.asked_for("refresh_token") == 1


async def test_many_that_renew_at_once_use_the_refresh_token_once(mcp: McpOpener, serve: Serve, people: People):
    server, url = await signed_in(serve, people)
    many = [await mcp.tools("team", servers=entry(url), logins=people.logins) for _ in range(6)]
    server.revoke()
    server.slow = 0.3
    results = await asyncio.gather(*(call(tools["kb_say"]) for tools in many))
    assert {text_of(result) for result in results} == {SENT}
    assert server.asked_for("refresh_token") == 1
    assert not server.grants[0].over


async def test_a_login_that_was_ended_says_what_to_do_and_is_not_tried_again(
    mcp: McpOpener, serve: Serve, people: People
):
    server, url = await signed_in(serve, people)
    tools = await mcp.tools("team", servers=entry(url), logins=people.logins, terms=AT_ONCE)
    server.end()
    told = r"the login is over \(the authorization server refused to renew it, HTTP 400 invalid_grant\): run"
    for _ in range(2):
        with pytest.raises(ToolFailed, match=told) as raised:
            await call(tools["kb_say"])
        assert raised.value.fault is None  # another attempt would come to the same
    assert server.asked_for("refresh_token") == 1
    record = await people.record()
    assert (record.content.access_token, record.content.refresh_token) == (None, None)
    await people.sign_in(url)
    assert text_of(await call(tools["kb_say"])) == SENT


async def test_signing_out_is_noticed(mcp: McpOpener, serve: Serve, people: People):
    _, url = await signed_in(serve, people)
    tools = await mcp.tools("team", servers=entry(url), logins=people.logins)
    soon = await mcp.tools("team", servers=entry(url), logins=people.logins, terms=AT_ONCE)
    await people.logins.delete("team")
    assert text_of(await call(tools["kb_say"])) == SENT  # within a minute
    with pytest.raises(ToolFailed, match="nobody is signed in"):
        await call(soon["kb_say"])


async def test_a_token_endpoint_that_fails_ends_no_login(mcp: McpOpener, serve: Serve, people: People):
    server, url = await signed_in(serve, people)
    tools = await mcp.tools("team", servers=entry(url), logins=people.logins, terms=AT_ONCE)
    server.revoke()
    server.broken = 500
    with pytest.raises(ToolFailed, match=r"signing in: 127\.0\.0\.1 answered HTTP 500") as raised:
        await call(tools["kb_say"])
    assert (raised.value.fault, raised.value.sent) == ("server", False)
    server.broken = 403
    with pytest.raises(ToolFailed, match=r"answered a refresh token with HTTP 403$"):
        await call(tools["kb_say"])
    server.broken = 0
    assert text_of(await call(tools["kb_say"])) == SENT


async def test_a_scope_that_is_wanting_is_asked_for_at_the_next_login(mcp: McpOpener, serve: Serve, people: People):
    server, url = await signed_in(serve, people, {"scopes": ["read"]}, needs={"tools/call": "write"})
    tools = await mcp.tools("team", servers=entry(url, scopes=["read"]), logins=people.logins)
    with pytest.raises(ToolFailed, match=r"its scopes do not suffice for 'write': run `goagents mcp login team`"):
        await call(tools["kb_say"])
    assert len(server.authorized) == 1
    await people.sign_in(url, scopes=["read"])
    assert [query["scope"] for query in server.authorized] == ["read", "read write"]
    again = await mcp.tools("team", servers=entry(url, scopes=["read"]), logins=people.logins)
    assert text_of(await call(again["kb_say"])) == SENT


async def test_tokens_go_to_the_address_they_were_made_for_only(mcp: McpOpener, serve: Serve, people: People):
    await signed_in(serve, people)
    other = AuthServer()
    elsewhere = await serve(other.routes())
    with pytest.raises(ToolUnavailable, match="made for another address or client: run `goagents mcp login team`"):
        await mcp.toolset("team", servers=entry(elsewhere), logins=people.logins).open()
    assert other.refused == 0


async def test_the_login_of_another_client_is_not_used(mcp: McpOpener, serve: Serve, people: People):
    _, url = await signed_in(serve, people)
    with pytest.raises(ToolUnavailable, match="made for another address or client"):
        await mcp.toolset("team", servers=entry(url, client_id="another"), logins=people.logins).open()


async def test_a_claim_of_an_instance_that_died_is_waited_for_and_then_taken(
    mcp: McpOpener, serve: Serve, people: People
):
    server, url = await signed_in(serve, people)
    tools = await mcp.tools("team", servers=entry(url), logins=people.logins)
    server.revoke()
    until = datetime.now(UTC) + timedelta(seconds=1)
    record = await people.record()
    await people.logins.replace(record.model_copy(update={"claim": "dead", "claimed_until_at": until}))
    assert text_of(await call(tools["kb_say"])) == SENT
    assert datetime.now(UTC) >= until
    assert server.asked_for("refresh_token") == 1


async def test_answers_of_the_store_that_are_lost_lose_no_login(mcp: McpOpener, serve: Serve, people: People):
    server, url = await signed_in(serve, people)
    tools = await mcp.tools("team", servers=entry(url), logins=people.logins)
    server.revoke()
    people.store.lose_answers = 2  # of the claim, and of what came of it
    assert text_of(await call(tools["kb_say"])) == SENT
    assert server.asked_for("refresh_token") == 1
    record = await people.record()
    assert record.content.refresh_token == server.grants[0].refresh[-1]
    assert record.claim is None


async def test_a_store_that_is_away_does_not_take_a_token_that_counts(mcp: McpOpener, serve: Serve, people: People):
    server, url = await signed_in(serve, people)
    tools = await mcp.tools("team", servers=entry(url), logins=people.logins, terms=AT_ONCE)
    people.store.unplugged = True
    assert text_of(await call(tools["kb_say"])) == SENT
    server.revoke()
    with pytest.raises(ToolFailed, match="the store of the logins does not answer") as raised:
        await call(tools["kb_say"])
    assert (raised.value.fault, raised.value.sent) == ("server", False)


async def test_what_is_renewed_while_the_store_is_away_is_kept_when_it_is_back(
    mcp: McpOpener, serve: Serve, people: People
):
    server, url = await signed_in(serve, people)
    tools = await mcp.tools("team", servers=entry(url), logins=people.logins)
    server.revoke()
    server.slow = 0.2
    calling = asyncio.create_task(call(tools["kb_say"]))
    await eventually(lambda: _asked(server), "a refresh token is used")
    people.store.unplugged = True
    await asyncio.sleep(0.4)
    people.store.unplugged = False
    assert text_of(await calling) == SENT
    assert (await people.record()).content.refresh_token == server.grants[0].refresh[-1]


async def _asked(server: AuthServer) -> bool:
    return server.asked_for("refresh_token") == 1


async def test_tokens_are_in_no_result_log_error_or_repr(
    mcp: McpOpener, serve: Serve, people: People, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    server, url = await signed_in(serve, people)
    tools = await mcp.tools("team", servers=entry(url), logins=people.logins)
    before = await people.record()
    server.revoke()
    assert text_of(await call(tools["kb_say"])) == SENT
    after = await people.record()
    server.end()
    with pytest.raises(ToolFailed) as raised:
        await call(tools["kb_say"])
    shown = caplog.text + str(raised.value) + repr(before) + repr(mcp.toolsets[0]._target)
    for content in (before.content, after.content):
        assert content.access_token not in shown
        assert content.refresh_token not in shown
        assert content.client["client_secret"] not in shown
