"""Which login a server over HTTP has. Those of the machine itself are shared by all toolsets of a process."""

import asyncio
from collections.abc import Hashable

import httpx2

from goagents.errors import ToolUnavailable
from goagents.net.guarded import GuardedSession, Lookup
from goagents.tools.base import ToolEnvironment
from goagents.tools.mcp_oauth import Authorization, MachineLogin
from goagents.tools.mcp_oauth_person import PersonLogin
from goagents.tools.mcp_session import Terms
from goagents.tools.mcp_target import Site

_shared: "dict[Hashable, _Shared]" = {}


class _Shared:
    """A login with the number of those who use it; the last one closes it."""

    def __init__(self, key: Hashable, login: Authorization) -> None:
        self.key = key
        self.login = login
        self.users = 0


class _Use:
    """One toolset's use of a shared login."""

    def __init__(self, shared: _Shared) -> None:
        self._shared: _Shared | None = shared
        self._login = shared.login
        shared.users += 1

    async def token(self) -> str | None:
        return await self._login.token()

    async def challenged(self, challenge: httpx2.Response, refused: str | None) -> str:
        return await self._login.challenged(challenge, refused)

    def secrets(self) -> tuple[str, ...]:
        return self._login.secrets()

    async def aclose(self) -> None:
        shared, self._shared = self._shared, None
        if shared is None:
            return
        shared.users -= 1
        if not shared.users:
            del _shared[shared.key]
            await shared.login.aclose()


def authorization_of(site: Site, environment: ToolEnvironment, lookup: Lookup, terms: Terms) -> Authorization | None:
    """Return how `site` is signed in to, if it is. Raises ToolUnavailable where the configuration lacks something."""
    if site.oauth is None:
        return None
    if site.oauth.grant == "client_credentials":
        # Authorization servers count, and some charge for, the tokens they give.
        loop = asyncio.get_running_loop()
        key = (loop, str(site.url), site.oauth, site.allowed, environment.ca_bundle, lookup, terms)
        if key not in _shared:
            session = oauth_session(site, environment, lookup)
            _shared[key] = _Shared(key, MachineLogin(str(site.url), site.oauth, session, terms.sign_in, terms.again))
        return _Use(_shared[key])
    if environment.logins is None:
        raise ToolUnavailable("`grant: authorization_code` needs a store, which nobody lends here")
    session = oauth_session(site, environment, lookup)
    return PersonLogin(site.name, str(site.url), site.oauth, environment.logins, session, terms)


def oauth_session(site: Site, environment: ToolEnvironment, lookup: Lookup) -> GuardedSession:
    """An agent's `allowed_hosts` say where its data may go; signing in is the server's own affair and carries none."""
    return GuardedSession(site.allowed, environment.ca_bundle, lookup)
