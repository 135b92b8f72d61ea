"""Which login a server over HTTP has."""

from goagents.errors import ToolUnavailable
from goagents.net.guarded import GuardedSession, Lookup
from goagents.tools.base import ToolEnvironment
from goagents.tools.mcp_oauth import Authorization, MachineLogin
from goagents.tools.mcp_oauth_person import PersonLogin
from goagents.tools.mcp_session import Terms
from goagents.tools.mcp_target import Site


def authorization_of(site: Site, environment: ToolEnvironment, lookup: Lookup, terms: Terms) -> Authorization | None:
    """Return how `site` is signed in to, if it is. Raises ToolUnavailable where the configuration lacks something."""
    if site.oauth is None:
        return None
    if site.oauth.grant == "client_credentials":
        return MachineLogin(str(site.url), site.oauth, oauth_session(site, environment, lookup), terms.sign_in)
    if environment.logins is None:
        raise ToolUnavailable("`grant: authorization_code` needs a store, which nobody lends here")
    session = oauth_session(site, environment, lookup)
    return PersonLogin(site.name, str(site.url), site.oauth, environment.logins, session, terms)


def oauth_session(site: Site, environment: ToolEnvironment, lookup: Lookup) -> GuardedSession:
    """An agent's `allowed_hosts` say where its data may go; signing in is the server's own affair and carries none."""
    return GuardedSession(site.allowed, environment.ca_bundle, lookup)
