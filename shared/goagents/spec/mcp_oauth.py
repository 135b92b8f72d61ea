"""How a server of `mcp_servers` is signed in to: OAuth, for the machine itself or for a person."""

from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, ValidationError, model_validator

from .types import HttpUrl, Model, ShortText, wrong_at

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
# As RFC 6749 has it: printable ASCII without blanks, quotes and backslashes.
Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,256}$")]


def _metadata_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" or parts.path in ("", "/"):
        raise ValueError("is the https address of a document, with a path: https://example.com/goagents.json")
    return value


def _loopback(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "http" or not parts.port or parts.query or not _is_this_machine(parts.hostname or ""):
        raise ValueError("is an address of this machine with a port: http://127.0.0.1:8765/callback")
    return value


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class McpOAuthConfig(Model):
    """`client_credentials`: the server signs in as itself. `authorization_code`: a person signs in once, by
    `goagents mcp login`."""

    grant: Literal["authorization_code", "client_credentials"] = Field(
        "authorization_code",
        description="`authorization_code`: a person signs in once, by `goagents mcp login NAME`. `client_credentials`: "
        "the server signs in as itself, with `client_id` and `client_secret` or `private_key`.",
    )
    client_id: ShortText | None = Field(
        None,
        description="Id of the client, as the authorization server knows it. Without it, and for `authorization_code` "
        "only, a client is registered at the first login (or `client_metadata_url` stands for one).",
    )
    client_secret: SecretStr | None = Field(
        None, min_length=1, max_length=8192, description="Secret of the client: `${VARIABLE}`."
    )
    token_auth: Literal["client_secret_basic", "client_secret_post"] = Field(
        "client_secret_basic", description="How the secret is sent to the token endpoint: as a header, or in the body."
    )
    private_key: SecretStr | None = Field(
        None,
        min_length=1,
        max_length=16_384,
        description="Instead of a secret, and for `client_credentials` only: key (PEM) that signs assertions "
        "(`private_key_jwt`): `${VARIABLE}`.",
    )
    algorithm: Algorithm = Field("RS256", description="How `private_key` signs.")
    issuer: HttpUrl | None = Field(
        None,
        description="The authorization server that `client_id` is of, as its metadata names it. Required with a secret "
        "or a key: it keeps an MCP server from having them sent elsewhere. Its host may be a private one.",
    )
    scopes: tuple[Scope, ...] = Field(
        (), max_length=64, description="Scopes to ask for. By default those that the MCP server names."
    )
    client_metadata_url: Annotated[HttpUrl, AfterValidator(_metadata_url)] | None = Field(
        None,
        description="Address of a client metadata document, which is the client's id where the authorization server "
        "takes such (`authorization_code` only).",
    )
    redirect_url: Annotated[HttpUrl, AfterValidator(_loopback)] | None = Field(
        None,
        description="Where the browser is sent back to at a login, if the client is registered with a fixed address of "
        "this machine (`http://127.0.0.1:8765/callback`). By default a free port of 127.0.0.1.",
    )

    @model_validator(mode="after")
    def _fits_grant(self) -> Self:
        if self.grant == "client_credentials":
            self._for_a_machine()
        elif self.private_key is not None:
            raise _wrong("private_key", "goes with `grant: client_credentials`; a person's login takes `client_secret`")
        if self.client_secret is not None and self.client_id is None:
            raise _wrong("client_secret", "needs `client_id`")
        if self.client_id is not None and self.client_metadata_url is not None:
            raise _wrong("client_metadata_url", "`client_id` and this exclude each other")
        if (self.client_secret is not None or self.private_key is not None) and self.issuer is None:
            message = (
                "a secret or key needs `issuer`, the authorization server that the client is of; an MCP server names "
                "it in its /.well-known/oauth-protected-resource"
            )
            raise _wrong("client_secret" if self.private_key is None else "private_key", message)
        return self

    def _for_a_machine(self) -> None:
        if self.client_id is None:
            raise _wrong("grant", "`client_credentials` needs `client_id`")
        if self.client_secret is not None and self.private_key is not None:
            raise _wrong("private_key", "`client_secret` and this exclude each other")
        if self.client_metadata_url is not None or self.redirect_url is not None:
            place = "redirect_url" if self.client_metadata_url is None else "client_metadata_url"
            raise _wrong(place, "goes with `grant: authorization_code`")


def _wrong(place: str, message: str) -> ValidationError:
    return wrong_at((place,), "mcp_oauth", message)
