"""What `server:` of an `mcp` entry means."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.http_tools import Lent

from goagents.errors import ConfigurationError, ToolUnavailable
from goagents.spec.config import McpServerConfig
from goagents.spec.tools import McpToolSpec
from goagents.tools.base import ToolEnvironment
from goagents.tools.mcp_target import Program, Secrets, Site, Target, find_target

SERVERS = {
    "kb-server": McpServerConfig(
        url="http://kb.internal:8000/mcp", headers={"Authorization": "Bearer the-teams-token"}
    ),
    "six": McpServerConfig(url="https://[fd00::7]/mcp"),
    "local": McpServerConfig(command="kb", args=("--all",), env={"KEY": "the-programs-key"}),
}
VARIABLES = {"URL": "https://kb.example/mcp", "WORD": "two words; rm -rf /", "TOKEN": "my-own-token"}


def target(server: str, *, trusted: bool = True, headers: Mapping[str, str] | None = None) -> Target:
    return find_target(spec(server, headers), environment(trusted=trusted))


def spec(server: str, headers: Mapping[str, str] | None = None) -> McpToolSpec:
    return McpToolSpec(type="mcp", name="kb", server=server, headers=dict(headers or {}))


def environment(*, trusted: bool = True) -> ToolEnvironment:
    return ToolEnvironment(Lent(dict(VARIABLES)).resolve, ("10.0.0.0/8",), None, trusted, SERVERS)


@pytest.mark.parametrize("trusted", [True, False])
def test_a_name_goes_before_all_else_and_its_address_may_be_private(trusted: bool):
    found = target("kb-server", trusted=trusted)
    assert isinstance(found, Site)
    assert str(found.url) == "http://kb.internal:8000/mcp"
    assert found.allowed == ("10.0.0.0/8", "kb.internal:8000")
    assert found.headers() == {"Authorization": "Bearer the-teams-token"}
    assert target("local", trusted=trusted) == Program("kb", ("--all",), {"KEY": "the-programs-key"})


def test_an_ipv6_address_is_allowed_as_it_is_written_there():
    found = target("six")
    assert isinstance(found, Site)
    assert found.allowed[-1] == "[fd00::7]:443"


def test_an_entrys_headers_replace_those_of_the_configuration():
    found = target("kb-server", headers={"authorization": "Bearer ${TOKEN}", "X-More": "1"})
    assert isinstance(found, Site)
    assert found.headers() == {"authorization": "Bearer my-own-token", "X-More": "1"}


@pytest.mark.parametrize("server", ["https://kb.example/mcp", "${URL}"])
def test_a_url_gets_no_exception_from_the_guard(server: str):
    found = target(server)
    assert isinstance(found, Site)
    assert str(found.url) == "https://kb.example/mcp"
    assert found.allowed == ("10.0.0.0/8",)


def test_a_command_line_is_split_before_it_is_resolved():
    assert target("npx -y 'kb server' ${WORD} --x=${WORD}") == Program(
        "npx", ("-y", "kb server", VARIABLES["WORD"], f"--x={VARIABLES['WORD']}")
    )


@pytest.mark.parametrize("server", ["npx kb", "kb", "file:///etc/passwd", "/bin/sh"])
def test_what_is_sent_over_http_starts_nothing(server: str):
    with pytest.raises(ToolUnavailable, match="starts no command"):
        target(server, trusted=False)


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ("https:///mcp", "names no host|is no URL"),
        ("http://me:pw@kb.example/mcp", "credentials belong into `headers`"),
        ("''", "names no program"),
        ("'a", "cannot be read"),
    ],
)
def test_what_cannot_be_used_says_why(server: str, reason: str):
    with pytest.raises(ToolUnavailable, match=reason):
        target(server)


def test_an_unset_variable_is_named():
    with pytest.raises(ConfigurationError, match="NOWHERE"):
        target("npx ${NOWHERE}")


def test_no_secret_is_in_a_repr():
    shown = f"{target('kb-server')!r} {target('local')!r} {environment()!r} {SERVERS!r}"
    assert not re.search("the-teams-token|the-programs-key", shown)


def test_secrets_of_headers_and_references_are_redacted_everywhere_and_a_programs_variables_in_the_log():
    secrets = Secrets(spec("kb-server", {"X-Key": "Key ${TOKEN}"}), environment())
    assert secrets.shown().redact("the-teams-token, my-own-token") == "[redacted], [redacted]"
    secrets = Secrets(spec("local"), environment())
    assert secrets.shown().redact("the-programs-key") == "the-programs-key"
    assert secrets.logged().redact("the-programs-key") == "[redacted]"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "needs `command`, for a program to start, or `url`"),
        ({"command": "a", "url": "https://x"}, "stands beside `command`, and a server has one of them"),
        ({"url": "https://x", "env": {"A": "b"}}, "`args`, `env` and `cwd` go with `command`"),
        ({"command": "a", "headers": {"A": "b"}}, "`headers` go with `url`"),
        ({"url": "https://x", "headers": {"A": "b\r\nc"}}, "pattern"),
    ],
)
def test_a_server_of_the_configuration_is_a_program_or_a_url(fields: dict[str, Any], reason: str):
    with pytest.raises(ValidationError, match=reason):
        McpServerConfig.model_validate(fields)
