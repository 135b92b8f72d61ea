"""What `oauth` of a server in `mcp_servers` may say."""

from typing import Any

import pytest

from goagents.errors import ConfigurationError
from goagents.spec.load import Loaded, load_text

MACHINE = {"grant": "client_credentials", "client_id": "me", "client_secret": "x", "issuer": "https://auth.example"}


def loaded(server: Any, **environ: str) -> Loaded:
    return load_text(f"mcp_servers: {{team: {server}}}", environ=environ)


def oauth(**fields: Any) -> str:
    return f'{{url: "https://team.example/mcp", oauth: {fields}}}'


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"scopes": ["read", "files:write"]},
        {"client_id": "me"},
        {"client_id": "me", "client_secret": "x", "issuer": "https://auth.example"},
        {"client_metadata_url": "https://me.example/client.json"},
        {"redirect_url": "http://127.0.0.1:8765/callback"},
        {"redirect_url": "http://localhost:8765/callback"},
        {"redirect_url": "http://[::1]:8765/"},
        MACHINE,
        {**MACHINE, "token_auth": "client_secret_post"},
    ],
)
def test_what_fits(fields: dict[str, Any]):
    found = loaded(oauth(**fields)).config.mcp_servers["team"].oauth
    assert found is not None
    assert found.grant == fields.get("grant", "authorization_code")


def test_a_secret_comes_from_the_environment_and_is_shown_nowhere():
    fields = {**MACHINE, "client_secret": "${TEAM_SECRET}"}
    config = loaded(oauth(**fields), TEAM_SECRET="the-secret").config
    found = config.mcp_servers["team"].oauth
    assert found is not None
    assert found.client_secret is not None
    assert found.client_secret.get_secret_value() == "the-secret"
    assert "the-secret" not in repr(config)
    assert loaded(oauth(**fields)).config.unset_below("mcp_servers.team") == {
        "mcp_servers.team.oauth.client_secret": "TEAM_SECRET"
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"grant": "client_credentials", "issuer": "https://auth.example"},
            "grant: `client_credentials` needs `client_id`",
        ),
        ({**MACHINE, "private_key": "pem"}, "private_key: `client_secret` and this exclude each other"),
        ({**MACHINE, "redirect_url": "http://127.0.0.1:1/"}, "redirect_url: goes with `grant: authorization_code`"),
        ({"private_key": "pem"}, "private_key: goes with `grant: client_credentials`"),
        ({"client_secret": "x"}, "client_secret: needs `client_id`"),
        (
            {"client_id": "me", "client_secret": "x"},
            "client_secret: a secret or key needs `issuer`, the authorization server",
        ),
        (
            {"client_id": "me", "client_metadata_url": "https://me.example/c"},
            "client_metadata_url: `client_id` and this exclude each other",
        ),
        ({"client_metadata_url": "http://me.example/c"}, "is the https address of a document, with a path"),
        ({"client_metadata_url": "https://me.example/"}, "is the https address of a document, with a path"),
        ({"redirect_url": "http://me.example:1/"}, "is an address of this machine with a port"),
        ({"redirect_url": "http://127.0.0.1/"}, "is an address of this machine with a port"),
        ({"redirect_url": "https://127.0.0.1:1/"}, "is an address of this machine with a port"),
        ({"scopes": ["two words"]}, "scopes"),
        ({**MACHINE, "algorithm": "none"}, "algorithm"),
        ({"grant": "password"}, "grant"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(fields: dict[str, Any], message: str):
    with pytest.raises(ConfigurationError) as raised:
        loaded(oauth(**fields))
    assert "mcp_servers.team.oauth" in str(raised.value)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (
            "{command: kb, oauth: {}}",
            "mcp_servers.team.oauth: goes with `url`; a program gets its credentials by `env`",
        ),
        (
            '{url: "https://x.example/", headers: {authorization: t}, oauth: {}}',
            "mcp_servers.team.headers: `oauth` and the header `Authorization` exclude each other",
        ),
    ],
)
def test_it_goes_with_a_url_and_without_a_header_of_its_own(server: str, message: str):
    with pytest.raises(ConfigurationError) as raised:
        loaded(server)
    assert message in str(raised.value)
