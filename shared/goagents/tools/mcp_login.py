"""A person signs in to a server: the connection is opened as for a run, with a browser where a token is wanted."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx2
from mcp.client.auth import AuthorizationCodeResult
from mcp.client.auth.exceptions import OAuthFlowError
from mcp.client.auth.utils import extract_scope_from_www_auth, issuers_match, union_scopes
from mcp.shared.auth import OAuthClientMetadata

from goagents.errors import ConfigurationError, ToolError, ToolFailed
from goagents.logins import LoginContent, LoginRecord
from goagents.net.guarded import GuardedSession, Lookup, system_lookup
from goagents.spec.config import McpServerConfig
from goagents.spec.mcp_oauth import McpOAuthConfig
from goagents.spec.tools import McpToolSpec
from goagents.tools.base import ToolEnvironment
from goagents.tools.mcp_logins import oauth_session
from goagents.tools.mcp_loopback import DEFAULT, Loopback, loopback
from goagents.tools.mcp_oauth import (
    OAUTH_ERRORS,
    Memory,
    Scoped,
    SignInFailed,
    client_over,
    configured_client,
    configured_secrets,
    drive,
    failed,
    token_secrets,
)
from goagents.tools.mcp_oauth_person import expiry
from goagents.tools.mcp_session import Connection, Terms
from goagents.tools.mcp_stdio import Output
from goagents.tools.mcp_target import Site, find_target

Browse = Callable[[str], Awaitable[None]]
PATIENCE = 300.0  # seconds for a person
_MAX_ROUNDS = 3  # times that one login sends a person to the browser
_SETUP = 60.0


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`tools` is how many the server offers."""

    record: LoginRecord
    tools: int


class _Provider(Scoped):
    """Refuses another authorization server than that of the configured client, before a person is asked."""

    issuer: str | None = None

    def _select_authorization_server(self, advertised: list[str]) -> str:
        if self.issuer is None:
            return super()._select_authorization_server(advertised)
        for server in advertised:
            if issuers_match(server, self.issuer):
                return server
        raise OAuthFlowError(f"the server names other authorization servers than `issuer`: {', '.join(advertised)}")

    async def _perform_authorization(self) -> httpx2.Request:
        found = self._expected_issuer()
        if self.issuer is not None and not issuers_match(found, self.issuer):
            raise OAuthFlowError(f"the server names another authorization server than `issuer`: {found}")
        return await super()._perform_authorization()


class _Asking:
    """The authorization of a login: sends the person to the browser, a few times at most."""

    def __init__(self, provider: _Provider, oauth: McpOAuthConfig, http: httpx2.AsyncClient) -> None:
        self.provider = provider
        self._oauth = oauth
        self._http = http
        self._one = asyncio.Lock()
        self._rounds = 0
        self._failure: ToolError | None = None

    async def token(self) -> str | None:
        context = self.provider.context
        return context.current_tokens.access_token if context.current_tokens and context.is_token_valid() else None

    async def challenged(self, challenge: httpx2.Response, refused: str | None) -> str:
        async with self._one:
            token = await self.token()
            if token is not None and token != refused:
                return token
            if self._failure is not None:
                raise self._failure  # the SDK tries again with an older protocol: nobody is asked twice for that
            self._rounds += 1
            if self._rounds > _MAX_ROUNDS:
                raise SignInFailed(f"the server is not content after {_MAX_ROUNDS} logins")
            if challenge.status_code == 403:
                self.provider.wanting = union_scopes(self.provider.wanting, extract_scope_from_www_auth(challenge))
            try:
                await drive(self.provider, challenge, refused, self._http.send)
            except OAUTH_ERRORS as error:
                self._failure = failed(error, self.secrets())
                raise self._failure from None
            except ToolError as error:
                self._failure = error
                raise
            token = await self.token()
        if token is None:
            raise SignInFailed("signing in: the authorization server gave no token that is valid")
        return token

    def secrets(self) -> tuple[str, ...]:
        client = self.provider.context.client_info
        registered = () if client is None or client.client_secret is None else (client.client_secret,)
        tokens = token_secrets(self.provider.context.current_tokens)
        return (*configured_secrets(self._oauth), *registered, *tokens)

    async def aclose(self) -> None:
        await self._http.aclose()


async def sign_in(
    name: str,
    server: McpServerConfig,
    environment: ToolEnvironment,
    browse: Browse,
    *,
    wanting: str | None = None,
    patience: float = PATIENCE,
    terms: Terms | None = None,
    lookup: Lookup = system_lookup,
) -> SignedIn:
    """Have a person sign in to the server `name`, and list its tools to see that it will do. Nothing is kept yet.

    `browse` is given the address to open; `wanting` are scopes that calls were found to lack. Raises ToolError, and
    ConfigurationError where the browser cannot come back.
    """
    terms = terms or Terms(setup=_SETUP + _MAX_ROUNDS * patience)
    site = find_target(McpToolSpec(type="mcp", name=name, server=name), environment)
    oauth = server.oauth
    if not isinstance(site, Site) or oauth is None or oauth.grant != "authorization_code":
        raise ConfigurationError(f"mcp_servers.{name}: nobody signs in to it: it has no `oauth` for a person")
    session = GuardedSession(site.allowed, environment.ca_bundle, lookup)
    asking: _Asking | None = None
    signing = oauth_session(site, environment, lookup)
    try:
        session.check(site.url)
        async with loopback(oauth.redirect_url or DEFAULT) as back:
            provider = _provider(site, oauth, back, browse, patience)
            provider.wanting = wanting
            asking = _Asking(provider, oauth, client_over(signing, terms.sign_in, str(site.url)))
            tools = await _tools(name, site, session, asking, terms)
            return SignedIn(_record(name, site, oauth, provider), tools)
    finally:
        if asking is not None:
            await asking.aclose()
        await signing.aclose()
        await session.aclose()


async def _tools(name: str, site: Site, session: GuardedSession, asking: _Asking, terms: Terms) -> int:
    """Open a connection and return the number of tools. Raises ToolUnavailable."""
    output = Output(name, lambda text: text)
    connection = Connection(name, site, session, asking, output, lambda: None, terms)
    try:
        await connection.ready()
        return len(connection.offer.tools)
    finally:
        await connection.aclose()


def _provider(site: Site, oauth: McpOAuthConfig, back: Loopback, browse: Browse, patience: float) -> _Provider:
    async def redirect(url: str) -> None:
        if not url.startswith("https://") and site.url.scheme == "https":
            raise ToolFailed("the authorization server would be visited without TLS, and the server itself has it")
        back.expect(url)
        await browse(url)

    async def callback() -> AuthorizationCodeResult:
        answer = await back.answer(patience)
        return AuthorizationCodeResult(code=answer["code"], state=answer.get("state"), iss=answer.get("iss"))

    client = configured_client(oauth)
    metadata = OAuthClientMetadata(
        redirect_uris=[back.url],
        client_name="GoAgents",
        token_endpoint_auth_method=None if client is None else client.token_endpoint_auth_method,
        scope=" ".join(oauth.scopes) or None,
    )
    memory = Memory(client=client)
    provider = _Provider(str(site.url), metadata, memory, redirect, callback, oauth.client_metadata_url)
    provider.asked = metadata.scope
    provider.issuer = oauth.issuer
    return provider


def _record(name: str, site: Site, oauth: McpOAuthConfig, provider: _Provider) -> LoginRecord:
    context = provider.context
    tokens, client = context.current_tokens, context.client_info
    if tokens is None or client is None:
        raise ToolFailed("the server asked for no login: it needs no `oauth`, or wants another one")
    leave_out = {"client_secret"} if oauth.client_id is not None else set()  # the configuration has it
    metadata, resource = context.oauth_metadata, context.protected_resource_metadata
    content = LoginContent(
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        scope=tokens.scope,
        client=client.model_dump(mode="json", exclude_none=True, exclude=leave_out),
        authority=None if metadata is None else metadata.model_dump(mode="json", exclude_none=True),
        resource=None if resource is None else resource.model_dump(mode="json", exclude_none=True),
    )
    return LoginRecord(
        server=name,
        url=str(site.url),
        content=content,
        signed_in_at=datetime.now(UTC),
        expires_at=expiry(tokens),
    )
