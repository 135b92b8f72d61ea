"""What is kept of a person's login at an MCP server, one record for each tenant and server, and where it lies.

    tenants/{t}/mcp_logins/{hash of the server's name}     LoginRecord

Written by `goagents mcp login`, and by the one instance that holds the claim when a token is renewed.
"""

import hashlib
from datetime import datetime
from typing import Any

from pydantic import Field

from goagents.records import Paths, Record


class LoginContent(Record):
    """The tokens, and what it takes to renew them: the client (as registered, or its id alone where the configuration
    has it), and the metadata of the authorization server and of the MCP server, as they were at the login."""

    access_token: str | None = None
    refresh_token: str | None = None
    scope: str | None = None
    client: dict[str, Any]
    authority: dict[str, Any] | None = None
    resource: dict[str, Any] | None = None


class LoginRecord(Record):
    """A login at `url`: its tokens are sent nowhere else. `expires_at` is when the access token is over.

    `claim` names who is renewing it, until `claimed_until_at`. `ended` says why it is over. `wanting` are scopes that a
    call was found to lack.
    """

    server: str
    url: str
    content: LoginContent = Field(repr=False)
    signed_in_at: datetime
    expires_at: datetime | None = None
    claim: str | None = None
    claimed_until_at: datetime | None = None
    ended: str | None = None
    wanting: str | None = None


def login_path(paths: Paths, server: str) -> str:
    """The name may be any text: its hash is an id."""
    return f"{paths.root}/mcp_logins/{hashlib.sha256(server.encode()).hexdigest()[:32]}"
