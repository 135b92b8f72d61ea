"""A login that a person made by `goagents mcp login`: its tokens lie in the store, where all instances find them.

A refresh token counts once at most servers, and one that is used twice ends the login. So whoever renews it claims the
record first, by a conditional write, and the others wait for what comes of it. A person is never asked here.
"""

import asyncio
import logging
import re
from collections import deque
from datetime import UTC, datetime, timedelta

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.utils import extract_scope_from_www_auth, union_scopes
from mcp.shared.auth import (
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)

from goagents.errors import OutcomeUnknown, StoreConflict, StoreError, StoreUnavailable, ToolFailed
from goagents.ids import new_id
from goagents.logins import LoginContent, LoginRecord
from goagents.net.guarded import GuardedSession
from goagents.spec.mcp_oauth import McpOAuthConfig
from goagents.tools.base import KeptLogin, Logins
from goagents.tools.mcp_oauth import (
    MAX_SENT,
    OAUTH_ERRORS,
    Memory,
    SignInFailed,
    Single,
    challenge_of,
    client_over,
    configured_client,
    configured_secrets,
    drive,
    failed,
    token_secrets,
)
from goagents.tools.mcp_session import Terms

_log = logging.getLogger(__name__)
EARLY = timedelta(seconds=10)  # before its end a token is renewed
RENEWING = 20.0  # seconds that renewing may take
CLAIM = timedelta(seconds=30)  # that others wait for it, if it is never heard of again
_PAUSE = 0.2
_ROUNDS = 300  # looks at the record within one attempt: more than a claim lasts
_WRITES = 5
_MAX_WANTING = 4096  # characters of scopes
# Said where the login is over; the last one is GitHub's own.
_OVER = frozenset({"invalid_grant", "invalid_client", "unauthorized_client", "bad_refresh_token"})
_REDIRECT = "http://127.0.0.1/callback"


class PersonLogin:
    """`grant: authorization_code`, of the server `name` at `url`."""

    def __init__(
        self, name: str, url: str, oauth: McpOAuthConfig, logins: Logins, session: GuardedSession, terms: Terms
    ) -> None:
        self._name = name
        self._url = url
        self._oauth = oauth
        self._logins = logins
        self._session = session
        self._http = client_over(session, terms.sign_in, url)
        self._terms = terms
        self._looking = Single(terms.again)
        self._record: LoginRecord | None = None
        self._looked = 0.0
        self._sent: deque[str] = deque(maxlen=MAX_SENT)

    async def token(self) -> str | None:
        late = asyncio.get_running_loop().time() - self._looked > self._terms.look
        if self._record is None or late or not _lasts(self._record, EARLY):
            try:
                await self._looking.do(lambda: self._look(None))
            except ToolFailed as error:
                if self._held() is None:
                    raise
                _log.warning("mcp server %s: its token is not renewed yet: %s", self._name, error)
        return self._held()

    async def challenged(self, challenge: httpx2.Response, refused: str | None) -> str:
        if challenge.status_code == 403:
            raise await self._wanting(extract_scope_from_www_auth(challenge))
        for _ in range(2):  # the first may be a look that began before, for another reason
            if (held := self._held()) is not None and held != refused:
                return held
            await self._looking.do(lambda: self._look(refused))
        held = self._held()
        if held is None or held == refused:
            raise self._over("the server takes its token no more")
        return held

    def secrets(self) -> tuple[str, ...]:
        return (*configured_secrets(self._oauth), *self._sent)

    async def aclose(self) -> None:
        try:
            await self._looking.over()
        finally:
            await self._http.aclose()
            await self._session.aclose()

    def _held(self) -> str | None:
        return None if self._record is None or not _lasts(self._record) else self._record.content.access_token

    def _adopt(self, record: LoginRecord) -> None:
        self._record, self._looked = record, asyncio.get_running_loop().time()
        tokens = (record.content.access_token, record.content.refresh_token, record.content.client.get("client_secret"))
        self._sent.extend(token for token in tokens if token and token not in self._sent)

    async def _look(self, refused: str | None) -> None:
        """Take the token of the record, renewed if it is about to end or `refused`. Raises ToolError."""
        claim = new_id("claim")
        for _ in range(_ROUNDS):
            kept = await self._read(refused)
            if kept is None:
                return  # the store does not answer; the token in use still counts
            record, content = kept.record, kept.record.content
            if content.access_token is not None and content.access_token != refused and _lasts(record, EARLY):
                self._adopt(record)
                return
            if content.refresh_token is None:
                raise self._over("it has ended and cannot be renewed, for want of a refresh token")
            version: str | None = kept.version
            if record.claim != claim:
                if record.claimed_until_at is not None and record.claimed_until_at > kept.read_at:
                    await asyncio.sleep(_PAUSE)
                    continue
                record = record.model_copy(update={"claim": claim, "claimed_until_at": kept.read_at + CLAIM})
                version = await self._claimed(record, kept.version)
            if version is not None and (renewed := await self._renew(record, version)) is not None:
                self._adopt(renewed)
                return
        raise ToolFailed("signing in: other instances are renewing the login all the time").because("busy", sent=False)

    async def _claimed(self, record: LoginRecord, version: str) -> str | None:
        """Write the claim; return None where somebody was faster, or that is not known."""
        try:
            return await self._logins.write(record, version)
        except (StoreConflict, OutcomeUnknown):
            return None
        except StoreError as error:
            raise _unreachable(error) from error

    async def _read(self, refused: str | None) -> KeptLogin | None:
        """Return the record, checked; None where the store does not answer and the token in use still counts."""
        try:
            kept = await self._logins.read(self._name)
        except StoreUnavailable as error:
            if self._held() not in (None, refused):
                return None
            raise _unreachable(error) from error
        if kept is None or kept.record.ended is not None:
            self._record = None
            why = "nobody is signed in" if kept is None else f"the login is over ({kept.record.ended})"
            raise SignInFailed(f"{why}: run `goagents mcp login {self._name}`")
        if kept.record.url != self._url or self._oauth.client_id not in (None, kept.record.content.client["client_id"]):
            self._record = None
            raise SignInFailed(
                f"the login was made for another address or client: run `goagents mcp login {self._name}`"
            )
        return kept

    async def _renew(self, claimed: LoginRecord, version: str) -> LoginRecord | None:
        """Renew what was claimed, and keep what came of it; return None where the login is over.

        Raises ToolError where it cannot be renewed now.
        """
        free = claimed.model_copy(update={"claim": None, "claimed_until_at": None})
        try:
            async with asyncio.timeout(RENEWING):
                tokens, refusal = await self._refreshed(claimed.content)
        except (ToolFailed, TimeoutError) as error:
            await self._keep(free, version, claimed.claim)
            if isinstance(error, TimeoutError):
                raise ToolFailed(f"signing in: no token within {RENEWING:g} s").because("server") from error
            raise
        if tokens is not None:
            fresh = {"access_token": tokens.access_token, "refresh_token": tokens.refresh_token, "scope": tokens.scope}
            content = claimed.content.model_copy(update=fresh)
            renewed = free.model_copy(update={"content": content, "expires_at": expiry(tokens)})
            await self._keep(renewed, version, claimed.claim)
            return renewed
        if refusal.partition(" ")[2] not in _OVER:
            await self._keep(free, version, claimed.claim)
            raise SignInFailed(f"signing in: the authorization server answered a refresh token with HTTP {refusal}")
        content = claimed.content.model_copy(update=dict.fromkeys(("access_token", "refresh_token")))
        ended = f"the authorization server refused to renew it, HTTP {refusal}"
        await self._keep(free.model_copy(update={"content": content, "ended": ended}), version, claimed.claim)
        return None

    async def _refreshed(self, content: LoginContent) -> tuple[OAuthToken | None, str]:
        """Return what the refresh token brings, and how its endpoint refused it. Raises ToolFailed."""
        refusal = ""

        async def send(request: httpx2.Request) -> httpx2.Response:
            nonlocal refusal
            response = await self._http.send(request)
            refusal = _refusal(response)
            return response

        memory = Memory(_tokens(content), _client(content, self._oauth))
        metadata = OAuthClientMetadata(redirect_uris=[_REDIRECT])
        provider = OAuthClientProvider(self._url, metadata, memory)
        context = provider.context
        if content.authority is not None:
            context.oauth_metadata = OAuthMetadata.model_validate(content.authority)
        if content.resource is not None:
            context.protected_resource_metadata = ProtectedResourceMetadata.model_validate(content.resource)
        context.token_expiry_time = 1.0  # long ago: it is to be renewed, whatever is left of it
        try:
            # An answer that asks for nothing: the flow ends with it, whether the token could be renewed or not.
            await drive(provider, challenge_of(200, [], self._url, None), content.access_token, send)
        except OAUTH_ERRORS as error:
            raise failed(error, (*self.secrets(), *token_secrets(context.current_tokens))) from None
        return context.current_tokens, refusal

    async def _keep(self, record: LoginRecord, version: str, claim: str | None) -> None:
        """Write the record in the place of what was claimed, unless somebody has signed in anew or out meanwhile."""
        for attempt in range(_WRITES):
            try:
                if attempt:
                    kept = await self._logins.read(self._name)
                    if kept is None or kept.record.claim != claim:
                        return
                    version = kept.version
                    record = record.model_copy(update={"wanting": kept.record.wanting})
                await self._logins.write(record, version)
            except StoreConflict:
                continue
            except StoreError as error:
                _log.warning("mcp server %s: what came of renewing its login is not kept yet: %s", self._name, error)
                await asyncio.sleep(_PAUSE * 2**attempt)
            else:
                return
        _log.error(
            "mcp server %s: what came of renewing its login could not be kept; if its tools fail, run `goagents mcp "
            "login %s`",
            *(self._name, self._name),
        )

    async def _wanting(self, scope: str | None) -> SignInFailed:
        """Note what the next login has to ask for, and return what is told of it."""
        try:
            kept = await self._logins.read(self._name)
            wanting = union_scopes(kept.record.wanting, scope) if kept is not None else None
            if kept is not None and wanting != kept.record.wanting and len(wanting or "") <= _MAX_WANTING:
                await self._logins.write(kept.record.model_copy(update={"wanting": wanting}), kept.version)
        except StoreError as error:  # it is told below all the same
            _log.warning("mcp server %s: the scopes it wants are not noted: %s", self._name, error)
        named = f" for {scope[:200]!r}" if scope else ""
        return self._over(f"its scopes do not suffice{named}")

    def _over(self, why: str) -> SignInFailed:
        return SignInFailed(f"the login does not do, {why}: run `goagents mcp login {self._name}`")


def expiry(tokens: OAuthToken) -> datetime | None:
    return None if tokens.expires_in is None else datetime.now(UTC) + timedelta(seconds=tokens.expires_in)


def _lasts(record: LoginRecord, early: timedelta = timedelta()) -> bool:
    return record.expires_at is None or record.expires_at - early > datetime.now(UTC)


def _tokens(content: LoginContent) -> OAuthToken:
    return OAuthToken(access_token=content.access_token or "", refresh_token=content.refresh_token, scope=content.scope)


def _client(content: LoginContent, oauth: McpOAuthConfig) -> OAuthClientInformationFull:
    return configured_client(oauth) or OAuthClientInformationFull.model_validate(content.client)


def _refusal(response: httpx2.Response) -> str:
    """Return status and error code (RFC 6749, 5.2), as far as there is one."""
    try:
        code = response.json().get("error")
    except (ValueError, AttributeError):
        code = None
    known = isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code)
    return f"{response.status_code} {code}" if known else str(response.status_code)


def _unreachable(error: StoreError) -> ToolFailed:
    return ToolFailed(f"signing in: the store of the logins does not answer: {error}").because("server", sent=False)
