"""Signing in to a server over HTTP: a token for each of its requests, got by the SDK's own providers.

Given to the HTTP client, a provider lets one request through at a time until its answer begins, and an error of its
flow would end the SDK's task group. So the transport sends the token by itself, and a provider is driven only when one
is needed: it is told how the server answered, says what to ask whom, and ends with the request that carries the token.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.client.auth.utils import extract_scope_from_www_auth, union_scopes
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from goagents.errors import ToolError, ToolFailed, ToolUnavailable
from goagents.net.guarded import GuardedSession
from goagents.spec.mcp_oauth import McpOAuthConfig
from goagents.tools.mcp_oauth_http import OAuthTransport
from goagents.tools.redaction import Redactor

Send = Callable[[httpx2.Request], Awaitable[httpx2.Response]]
MAX_SENT = 8  # tokens remembered as secrets: calls in progress may have been sent with an older one
_MAX_REASON = 300  # characters of what an authorization server says


class SignInFailed(ToolFailed):
    """There is no token for this server. Trying again changes nothing."""


class Authorization(Protocol):
    """What the transport needs of a login. Raises ToolError; SignInFailed where somebody has to do something."""

    async def token(self) -> str | None:
        """Return the token to send; None where the server has to be asked first what it wants."""
        ...

    async def challenged(self, challenge: httpx2.Response, refused: str | None) -> str:
        """Return another token than `refused`. `challenge` is the answer that asked for it: 401, or 403 for want of a
        scope."""
        ...

    def secrets(self) -> tuple[str, ...]:
        """Return what must not be seen."""
        ...

    async def aclose(self) -> None: ...


class Memory:
    """The storage a provider wants, for as long as the provider lives."""

    def __init__(self, tokens: OAuthToken | None = None, client: OAuthClientInformationFull | None = None) -> None:
        self.tokens = tokens
        self.client = client

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Scoped(OAuthClientProvider):
    """A provider that asks for the scopes of the configuration instead of those that the server names, and for those
    that were found wanting since."""

    asked: str | None = None
    wanting: str | None = None

    async def _perform_authorization(self) -> httpx2.Request:
        metadata = self.context.client_metadata
        metadata.scope = union_scopes(self.asked or metadata.scope, self.wanting)
        return await super()._perform_authorization()


class _WithSecret(Scoped, ClientCredentialsOAuthProvider):
    pass


class _WithKey(Scoped, PrivateKeyJWTOAuthProvider):
    pass


class MachineLogin:
    """`grant: client_credentials`. The token lives here; whoever needs one while it is being fetched waits for it.

    `seconds` is the time of one request, `pause` that until a fetch that failed is tried again.
    """

    def __init__(self, url: str, oauth: McpOAuthConfig, session: GuardedSession, seconds: float, pause: float) -> None:
        self._oauth = oauth
        self._session = session
        self._http = client_over(session, seconds, url)
        self._provider = _machine_provider(url, oauth)
        self._fetching = Single(pause)
        self._sent: deque[str] = deque(maxlen=MAX_SENT)

    async def token(self) -> str | None:
        context = self._provider.context
        return context.current_tokens.access_token if context.current_tokens and context.is_token_valid() else None

    async def challenged(self, challenge: httpx2.Response, refused: str | None) -> str:
        token = await self.token()
        if token is None or token == refused:
            await self._fetching.do(lambda: self._fetch(challenge, refused))
            token = await self.token()
        if token is None:
            raise SignInFailed("signing in: the authorization server gave no token that is valid")
        return token

    def secrets(self) -> tuple[str, ...]:
        return (*configured_secrets(self._oauth), *self._sent)

    async def aclose(self) -> None:
        try:
            await self._fetching.over()
        finally:
            await self._http.aclose()
            await self._session.aclose()

    async def _fetch(self, challenge: httpx2.Response, refused: str | None) -> None:
        if challenge.status_code == 403:
            self._provider.wanting = union_scopes(self._provider.wanting, extract_scope_from_www_auth(challenge))
        try:
            await drive(self._provider, challenge, refused, self._http.send)
        except OAUTH_ERRORS as error:
            raise failed(error, self.secrets()) from None
        finally:
            self._sent.extend(token_secrets(self._provider.context.current_tokens))


class Single:
    """One piece of work at a time: whoever comes meanwhile waits for the same. Who leaves does not end it: what an
    authorization server hands out once must not be lost. What failed is not tried again for `pause` seconds."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._task: asyncio.Task[None] | None = None
        self._failure: ToolError | None = None
        self._until = 0.0

    async def do(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._task is None or self._task.done():
            if self._failure is not None and asyncio.get_running_loop().time() < self._until:
                raise self._failure.saying(self._failure.detail)
            self._task = asyncio.create_task(work())
            self._task.add_done_callback(self._done)
        await asyncio.shield(self._task)

    def _done(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()  # nobody may be waiting for it
        self._failure = error if isinstance(error, ToolError) else None
        self._until = task.get_loop().time() + self._pause

    async def over(self) -> None:
        """Wait for what is under way; each of its requests has its time."""
        if self._task is not None:
            await asyncio.wait({self._task})


# What a provider's flow raises: its own errors, and those of reading and following what servers answered.
OAUTH_ERRORS = (OAuthFlowError, ValueError, httpx2.HTTPError, httpx2.InvalidURL)


async def drive(provider: OAuthClientProvider, challenge: httpx2.Response, refused: str | None, send: Send) -> None:
    """Have the provider get a token other than `refused`, answering its own request with `challenge`.

    Raises OAUTH_ERRORS, and what `send` raises.
    """
    request, answered = challenge.request, False
    flow = provider.async_auth_flow(request)
    try:
        outgoing = await anext(flow)
        while outgoing is not request or not (answered or _renewed(provider, refused)):
            if outgoing is request:
                answered, answer = True, challenge
            else:
                answer = await send(outgoing)
            outgoing = await flow.asend(answer)
    except StopAsyncIteration:
        pass  # the challenge was none that it answers
    finally:
        await flow.aclose()


def _renewed(provider: OAuthClientProvider, refused: str | None) -> bool:
    context = provider.context
    return bool(context.is_token_valid() and context.current_tokens and context.current_tokens.access_token != refused)


def challenge_of(status: int, headers: list[tuple[str, str]], url: str, version: str | None) -> httpx2.Response:
    """Return the answer of a server as `drive` takes it: of the request, the provider sees URL and protocol version."""
    request = httpx2.Request("POST", url, headers={} if version is None else {"mcp-protocol-version": version})
    return httpx2.Response(status, headers=headers, request=request)


def client_over(session: GuardedSession, seconds: float, url: str) -> httpx2.AsyncClient:
    """Return the client that signs in to the server at `url`."""
    transport = OAuthTransport(session, seconds, secure=url.startswith("https://"))
    return httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False)


def failed(error: Exception, secrets: tuple[str, ...]) -> SignInFailed:
    """Return the error of a flow in its first line: those below it may quote what a server sent."""
    said = str(error).partition("\n")[0] or type(error).__name__
    return SignInFailed(f"signing in: {Redactor(secrets).redact(said)[:_MAX_REASON]}")


def configured_client(oauth: McpOAuthConfig) -> OAuthClientInformationFull | None:
    """Return the client that the configuration names, if it does."""
    if oauth.client_id is None:
        return None
    secret = None if oauth.client_secret is None else oauth.client_secret.get_secret_value()
    return OAuthClientInformationFull(
        client_id=oauth.client_id,
        client_secret=secret,
        token_endpoint_auth_method="none" if secret is None else oauth.token_auth,
        issuer=oauth.issuer,
    )


def configured_secrets(oauth: McpOAuthConfig) -> tuple[str, ...]:
    return tuple(secret.get_secret_value() for secret in (oauth.client_secret, oauth.private_key) if secret is not None)


def token_secrets(tokens: OAuthToken | None) -> tuple[str, ...]:
    return () if tokens is None else tuple(filter(None, (tokens.access_token, tokens.refresh_token)))


def _signing(key: SignedJWTParameters) -> Callable[[str], Awaitable[str]]:
    sign = key.create_assertion_provider()

    async def signed(audience: str) -> str:
        try:
            return await sign(audience)
        except Exception as error:  # noqa: BLE001 - of two libraries, and their messages may quote the key
            name = type(error).__name__
            raise OAuthFlowError(f"`private_key` cannot sign with {key.signing_algorithm}: {name}") from None

    return signed


def _machine_provider(url: str, oauth: McpOAuthConfig) -> Scoped:
    """Raises ToolUnavailable for want of a secret."""
    client = oauth.client_id or ""
    provider: Scoped | None = None
    if oauth.client_secret is not None:
        secret = oauth.client_secret.get_secret_value()
        provider = _WithSecret(url, Memory(), client, secret, oauth.token_auth, issuer=oauth.issuer)
    elif oauth.private_key is not None:
        key = SignedJWTParameters(
            issuer=client,
            subject=client,
            signing_key=oauth.private_key.get_secret_value(),
            signing_algorithm=oauth.algorithm,
        )
        provider = _WithKey(url, Memory(), client, _signing(key), issuer=oauth.issuer)
    if provider is None:
        raise ToolUnavailable("`oauth` of its entry in `mcp_servers` has neither `client_secret` nor `private_key`")
    provider.asked = " ".join(oauth.scopes) or None
    return provider
