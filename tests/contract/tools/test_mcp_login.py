"""A person signs in: where the browser goes and comes back to, what is refused, what is kept."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import aiohttp
import pytest
from tests.support.http_tools import Serve
from tests.support.mcp_oauth import AuthServer, Browse, People, agreeing
from tests.support.mcp_scripted import scripted
from tests.support.ports import free_port
from tests.support.stores import UnreliableStore

from goagents.errors import ConfigurationError, ToolFailed, ToolUnavailable
from goagents.store.sqlite import SQLiteStore

METADATA = "https://me.example/client.json"


@pytest.fixture
async def people(tmp_path: Path) -> AsyncIterator[People]:
    store = UnreliableStore(SQLiteStore(str(tmp_path / "store.db")))
    yield People(store)
    await store.aclose()


async def served(serve: Serve, server: AuthServer | None = None) -> tuple[AuthServer, str]:
    server = server or AuthServer()
    return server, await serve(server.routes())


def returning(**changes: str) -> Browse:
    """A browser that comes back with other parameters than the authorization server sent; "" leaves one out."""

    async def browse(url: str) -> None:
        async with aiohttp.ClientSession() as session:
            async with session.get(url, allow_redirects=False) as response:
                place, _, query = response.headers["Location"].partition("?")
            given = {name: value for name, value in (dict(parse_qsl(query)) | changes).items() if value}
            async with session.get(f"{place}?{urlencode(given)}") as answer:
                assert answer.headers["Content-Security-Policy"] == "default-src 'none'"

    return browse


async def test_a_client_is_registered_and_asks_as_the_protocol_says(serve: Serve, people: People):
    server, url = await served(
        serve, AuthServer(scopes=["read", "write"], offers={"scopes_supported": ["offline_access"]})
    )
    record = await people.sign_in(url)
    (query,), (registered,) = server.authorized, server.registered
    assert (query["code_challenge_method"], query["resource"]) == ("S256", f"{url}/mcp")
    assert query["scope"] == "read write offline_access"
    assert urlsplit(query["redirect_uri"]).hostname == "127.0.0.1"
    assert registered["redirect_uris"] == [query["redirect_uri"]]
    assert (registered["client_name"], registered["application_type"]) == ("GoAgents", "native")
    assert record.content.client["client_secret"] == server.secrets["client-1"]
    assert record.expires_at is not None


async def test_a_client_of_the_configuration_is_not_registered_and_its_secret_not_kept(serve: Serve, people: People):
    server, url = await served(serve, AuthServer(secrets={"me": "the-secret"}))
    redirect = f"http://localhost:{free_port()}/back"
    record = await people.sign_in(url, client_id="me", client_secret="the-secret", issuer=url, redirect_url=redirect)
    assert server.registered == []
    assert server.authorized[0]["redirect_uri"] == redirect
    assert "the-secret" not in record.model_dump_json()


async def test_a_metadata_document_stands_for_a_client_where_it_is_taken(serve: Serve, people: People):
    server, url = await served(serve, AuthServer(offers={"client_id_metadata_document_supported": True}))
    record = await people.sign_in(url, client_metadata_url=METADATA)
    assert server.registered == []
    assert server.authorized[0]["client_id"] == record.content.client["client_id"] == METADATA


async def test_a_client_goes_to_its_own_issuer_only(serve: Serve, people: People):
    server, url = await served(serve, AuthServer(secrets={"me": "the-secret"}))
    with pytest.raises(ToolUnavailable, match="the server names other authorization servers than `issuer`: http"):
        await people.sign_in(url, client_id="me", client_secret="the-secret", issuer="https://auth.example")
    assert (server.registered, server.authorized, server.asked) == ([], [], [])


async def test_metadata_of_another_issuer_is_refused_before_anybody_is_asked(serve: Serve, people: People):
    server, url = await served(serve, AuthServer(issuer="https://evil.example"))
    with pytest.raises(ToolUnavailable, match=r"metadata issuer mismatch: https://evil\.example"):
        await people.sign_in(url)
    assert (server.registered, server.authorized) == ([], [])


@pytest.mark.parametrize(
    ("browse", "reason"),
    [
        (returning(iss="https://evil.example"), "Authorization response iss mismatch"),
        (returning(iss=""), "Authorization response missing iss parameter"),
        (returning(code="stolen"), r"Token exchange failed \(400\).*invalid_grant"),
        (
            returning(code="", error="access_denied", error_description="not you"),
            "the authorization server refused the login: access_denied not you",
        ),
        (returning(code=""), "the authorization server refused the login: no code"),
    ],
)
async def test_a_way_back_that_is_not_right_ends_the_login(serve: Serve, people: People, browse: Browse, reason: str):
    server, url = await served(serve)
    with pytest.raises(ToolUnavailable, match=reason):
        await people.sign_in(url, browse)
    assert len(server.authorized) == 1
    assert await people.logins.read("team") is None


async def test_answers_to_another_login_are_ignored(serve: Serve, people: People):
    server, url = await served(serve)
    statuses = []

    async def browse(address: str) -> None:
        (back,) = parse_qs(urlsplit(address).query)["redirect_uri"]
        async with aiohttp.ClientSession() as session:
            for query in ("code=x&state=wrong", "code=x", "", "code=x&state=a&state=b"):
                async with session.get(f"{back}?{query}") as response:
                    statuses.append(response.status)
        await agreeing(address)

    await people.sign_in(url, browse)
    assert statuses == [400] * 4
    assert len(server.grants) == 1


async def test_nobody_is_waited_for_without_end(serve: Serve, people: People):
    _, url = await served(serve)

    async def browse(_url: str) -> None:
        """Nobody comes."""

    with pytest.raises(ToolUnavailable, match=r"nobody signed in within 0\.2 s"):
        await people.sign_in(url, browse, patience=0.2)


async def test_a_port_that_is_taken_is_told(serve: Serve, people: People):
    _, url = await served(serve)
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port} cannot be listened at .*`oauth.redirect_url`"):
        await people.sign_in(url, client_id="me", redirect_url=f"http://127.0.0.1:{port}/")
    taken.close()
    await taken.wait_closed()


async def test_a_server_that_wants_no_login_says_so(serve: Serve, people: People):
    url = await serve(scripted())
    with pytest.raises(ToolFailed, match="the server asked for no login"):
        await people.sign_in(url)


async def test_more_scopes_are_asked_for_within_the_login_where_listing_needs_them(serve: Serve, people: People):
    server, url = await served(serve, AuthServer(needs={"tools/list": "list"}))
    record = await people.sign_in(url, scopes=["read"])
    assert [query["scope"] for query in server.authorized] == ["read", "read list"]
    assert record.content.scope == "read list"


async def test_a_person_is_sent_to_the_browser_a_few_times_at_most(serve: Serve, people: People):
    server, url = await served(serve, AuthServer(lifetime=-10))
    with pytest.raises(ToolUnavailable):
        await people.sign_in(url)
    assert 1 <= len(server.authorized) <= 3


async def test_a_login_that_fails_leaves_the_one_before(serve: Serve, people: People):
    server, url = await served(serve)
    before = await people.sign_in(url)
    server.broken = 500
    with pytest.raises(ToolUnavailable, match=r"signing in: 127\.0\.0\.1 answered HTTP 500"):
        await people.sign_in(url)
    assert await people.record() == before
