"""An MCP server that wants OAuth, and its authorization server, on one origin; `serve` of `http_tools` serves both."""

import asyncio
import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

import aiohttp
import jwt
from aiohttp import web
from tests.support.mcp_scripted import rpc, said, scripted
from tests.support.stores import UnreliableStore

from goagents.engine.logins import StoredLogins
from goagents.logins import LoginRecord
from goagents.spec.config import McpServerConfig
from goagents.tools.base import ToolEnvironment
from goagents.tools.mcp_login import Browse, sign_in

Answer = dict[str, Any]


@dataclass
class Grant:
    """What one login came to: all refresh tokens it had, the one that counts last."""

    client: str
    scopes: list[str]
    refresh: list[str] = field(default_factory=list)
    over: bool = False


@dataclass
class AuthServer:
    """`secrets` are clients and their secrets; `keys` their public keys. A refresh token is used once, and what is used
    twice ends its login, as OAuth 2.1 advises. `lifetime` of access tokens in seconds. `needs` are scopes by method."""

    secrets: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    lifetime: int = 3600
    needs: dict[str, str] = field(default_factory=dict)
    rotates: bool = True
    issuer: str | None = None
    metadata_at: str | None = None
    scopes: list[str] | None = None
    offers: dict[str, Any] = field(default_factory=dict)
    slow: float = 0.0
    broken: int = 0
    huge: bool = False
    on_call: Callable[[], None] = lambda: None
    access: dict[str, tuple[Grant, float]] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)  # at the token endpoint
    authorized: list[dict[str, str]] = field(default_factory=list)  # at the authorization endpoint
    registered: list[Any] = field(default_factory=list)
    calls: int = 0
    refused: int = 0

    def routes(self) -> dict[str, Any]:
        (mcp,) = scripted(tools_call=self._called).values()

        async def guarded(request: web.Request) -> web.StreamResponse:
            response = await self._refusal(request)
            if response is None:
                answered: web.StreamResponse = await mcp(request)
                return answered
            self.refused += 1
            return response

        return {
            "/mcp": guarded,
            "/.well-known/oauth-protected-resource/mcp": self._resource,
            "/.well-known/oauth-authorization-server": self._metadata,
            "/register": self._register,
            "/authorize": self._authorize,
            "/token": self._token,
        }

    def revoke(self) -> None:
        """No access token counts any more."""
        self.access.clear()

    def end(self) -> None:
        """No login counts any more."""
        self.revoke()
        for grant in self.grants:
            grant.over = True

    def asked_for(self, grant: str) -> int:
        return sum(form["grant_type"] == grant for form in self.asked)

    async def _called(self, request: web.Request, message: Any) -> web.Response:
        self.calls += 1
        self.on_call()
        return rpc(message, said(f"you sent {request.headers['Authorization']}"))

    async def _refusal(self, request: web.Request) -> web.Response | None:
        resource = self.metadata_at or f"{request.url.origin()}/.well-known/oauth-protected-resource/mcp"
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        grant, until = self.access.get(token, (None, 0.0))
        if scheme != "Bearer" or grant is None or until < time.time():
            said = f'Bearer resource_metadata="{resource}"'
            return web.json_response({"error": "invalid_token"}, status=401, headers={"WWW-Authenticate": said})
        if request.method == "POST":
            need = self.needs.get((await request.json()).get("method", ""))
            if need is not None and need not in grant.scopes:
                said = f'Bearer error="insufficient_scope", scope="{need}", resource_metadata="{resource}"'
                return web.json_response({"error": "no"}, status=403, headers={"WWW-Authenticate": said})
        return None

    async def _resource(self, request: web.Request) -> web.StreamResponse:
        if self.huge:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            while True:
                await response.write(b" " * (1 << 16))
        origin = str(request.url.origin())
        scopes = {} if self.scopes is None else {"scopes_supported": self.scopes}
        return web.json_response({"resource": f"{origin}/mcp", "authorization_servers": [origin], **scopes})

    async def _metadata(self, request: web.Request) -> web.Response:
        origin = str(request.url.origin())
        return web.json_response(
            {
                "issuer": self.issuer or origin,
                "authorization_endpoint": f"{origin}/authorize",
                "token_endpoint": f"{origin}/token",
                "registration_endpoint": f"{origin}/register",
                "code_challenge_methods_supported": ["S256"],
                "response_types_supported": ["code"],
                "authorization_response_iss_parameter_supported": True,
                **self.offers,
            }
        )

    async def _register(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.registered.append(body)
        client = f"client-{len(self.registered)}"
        self.secrets[client] = f"registered-secret-{client}"
        return web.json_response(
            {
                **body,
                "client_id": client,
                "client_secret": self.secrets[client],
                "token_endpoint_auth_method": "client_secret_post",
            },
            status=201,
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        """The person agrees at once."""
        query = dict(request.query)
        self.authorized.append(query)
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        back = {"code": code, "state": query["state"], "iss": self.issuer or str(request.url.origin())}
        raise web.HTTPFound(f"{query['redirect_uri']}?{urlencode(back)}")

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: values[0] for name, values in parse_qs(await request.text()).items()}
        self.asked.append(form)
        await asyncio.sleep(self.slow)
        if self.broken:
            return web.Response(status=self.broken, text="down")
        client = self._client(request, form)
        if client is None:
            return web.json_response({"error": "invalid_client"}, status=401)
        made = getattr(self, f"_by_{form['grant_type']}")(client, form)
        if made is None:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response(made)

    def _client(self, request: web.Request, form: dict[str, str]) -> str | None:
        if "client_assertion" in form:
            unverified = jwt.decode(form["client_assertion"], options={"verify_signature": False})
            client = str(unverified["sub"])
            issuer = str(request.url.origin())
            jwt.decode(form["client_assertion"], self.keys[client], algorithms=["ES256"], audience=issuer)
            return client
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        client, _, secret = (
            base64.b64decode(encoded).decode().partition(":")
            if scheme == "Basic"
            else (form.get("client_id", ""), "", form.get("client_secret", ""))
        )
        known = self.secrets.get(unquote(client))
        if known is None:
            return unquote(client) if client.startswith("https://") else None  # a metadata document: no secret
        return unquote(client) if known == unquote(secret) else None

    def _by_client_credentials(self, client: str, form: dict[str, str]) -> Answer:
        return self._tokens(Grant(client, form.get("scope", "").split()), with_refresh=False)

    def _by_authorization_code(self, client: str, form: dict[str, str]) -> Answer | None:
        query = self.codes.pop(form["code"], None)
        digest = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        if query is None or digest != query["code_challenge"] or query["redirect_uri"] != form["redirect_uri"]:
            return None
        grant = Grant(client, query.get("scope", "").split())
        self.grants.append(grant)
        return self._tokens(grant)

    def _by_refresh_token(self, client: str, form: dict[str, str]) -> Answer | None:
        token = form["refresh_token"]
        grant = next((each for each in self.grants if token in each.refresh), None)
        if grant is None or grant.over or grant.client != client:
            return None
        if token != grant.refresh[-1]:
            grant.over = True  # used twice: somebody stole it
            self.access = {name: held for name, held in self.access.items() if held[0] is not grant}
            return None
        return self._tokens(grant)

    def _tokens(self, grant: Grant, *, with_refresh: bool = True) -> Answer:
        access = f"access-{secrets.token_urlsafe(12)}"
        self.access[access] = (grant, time.time() + self.lifetime)
        made: Answer = {"access_token": access, "token_type": "Bearer", "expires_in": self.lifetime}
        if grant.scopes:
            made["scope"] = " ".join(grant.scopes)
        if with_refresh and (self.rotates or not grant.refresh):
            grant.refresh.append(f"refresh-{secrets.token_urlsafe(12)}")
            made["refresh_token"] = grant.refresh[-1]
        return made


async def agreeing(url: str) -> None:
    """A browser whose person agrees: follows the authorization server's redirect back to this machine."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        await response.read()


@dataclass
class People:
    """The logins of a tenant in a store, and what a person does."""

    store: UnreliableStore

    def __post_init__(self) -> None:
        self.logins = StoredLogins(self.store, "default")

    async def sign_in(self, url: str, browse: Browse = agreeing, *, patience: float = 5.0, **oauth: Any) -> LoginRecord:
        """Sign in to the server at `url`, and keep it."""
        server = McpServerConfig.model_validate({"url": f"{url}/mcp", "oauth": oauth})
        environment = ToolEnvironment(lambda text: text, mcp_servers={"team": server})
        kept = await self.logins.read("team")
        wanting = None if kept is None else kept.record.wanting
        found = await sign_in("team", server, environment, browse, wanting=wanting, patience=patience)
        await self.logins.replace(found.record)
        return found.record

    async def record(self) -> LoginRecord:
        kept = await self.logins.read("team")
        assert kept is not None
        return kept.record
