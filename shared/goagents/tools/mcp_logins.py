"""Which login a server over HTTP has."""

from goagents.errors import ToolUnavailable
from goagents.net.guarded import GuardedSession, Lookup
from goagents.tools.base import ToolEnvironment
from goagents.tools.mcp_oauth import Authorization, MachineLogin
from goagents.tools.mcp_target import Site


def authorization_of(site: Site, environment: ToolEnvironment, lookup: Lookup, seconds: float) -> Authorization | None:
    """Return how `site` is signed in to, if it is. `seconds` is the time of each request that takes.

    Raises ToolUnavailable where the configuration lacks something.
    """
    if site.oauth is None:
        return None
    if site.oauth.grant == "client_credentials":
        return MachineLogin(str(site.url), site.oauth, oauth_session(site, environment, lookup), seconds)
    raise ToolUnavailable("`grant: authorization_code` is not in this version: use `client_credentials`")


def oauth_session(site: Site, environment: ToolEnvironment, lookup: Lookup) -> GuardedSession:
    """An agent's `allowed_hosts` say where its data may go; signing in is the server's own affair and carries none."""
    return GuardedSession(site.allowed, environment.ca_bundle, lookup)
