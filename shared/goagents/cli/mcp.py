"""`mcp`: sign in to the servers of `mcp_servers` that want a person's OAuth login, and out; see which are signed in."""

import asyncio
import os
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from goagents.app import ResolverFactory, load_by_name, load_config, open_store
from goagents.engine.logins import StoredLogins
from goagents.errors import ConfigurationError
from goagents.logins import LoginRecord
from goagents.settings import Settings, store_url
from goagents.spec.config import Config, McpServerConfig
from goagents.spec.models import nearest
from goagents.tools.base import ToolEnvironment

from .main import command
from .options import output_option
from .tables import print_table
from .terminal import note, say, say_json


@click.group()
def mcp() -> None:
    """Sign in to MCP servers, and out.

    The servers are those of `mcp_servers` in the configuration. A login is kept in the configuration's store, where all
    instances find it; they renew it by themselves.
    """


def logins_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--config` and `--tenant`."""
    for option in (
        click.option("--tenant", default="default", show_default=True, help="Tenant whose login it is."),
        click.option(
            "--config",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Configuration file, with `mcp_servers` and `store`; else GOAGENTS_CONFIG. May be repeated.",
        ),
    ):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class Place:
    """Where logins are kept, and the configuration that says so."""

    config: Config
    logins: StoredLogins

    def server(self, name: str) -> McpServerConfig:
        """Raises ConfigurationError for a server that is not there, or that nobody signs in to."""
        server = self.config.mcp_servers.get(name)
        if server is None:
            known = sorted(self.config.mcp_servers)
            guess = nearest(name, known)
            hint = f"did you mean {guess!r}?" if guess else f"there are: {', '.join(known) or 'none'}"
            raise ConfigurationError(f"mcp_servers has no {name!r}; {hint}")
        unset = self.config.unset_below(f"mcp_servers.{name}")
        if unset:
            named = ", ".join(f"{place} needs {variable}" for place, variable in unset.items())
            raise ConfigurationError(f"not set in the environment: {named}")
        if server.oauth is None or server.oauth.grant != "authorization_code":
            raise ConfigurationError(f"mcp_servers.{name}: nobody signs in to it: {_without_person(server)}")
        return server


@command()
@click.argument("name")
@logins_options
@click.option("--no-browser", is_flag=True, help="Print the address to open; open nothing.")
def login(name: str, config: tuple[Path, ...], tenant: str, no_browser: bool) -> None:
    """Sign in to the server NAME, in a browser.

    The browser comes back to this machine, so it has to run here. The login is kept once the server has shown tools.
    """
    asyncio.run(_login(name, config, tenant, no_browser=no_browser))


async def _login(name: str, files: tuple[Path, ...], tenant: str, *, no_browser: bool) -> None:
    async with _place(files, tenant) as place:
        server, config = place.server(name), place.config
        kept = await place.logins.read(name)

        async def browse(url: str) -> None:
            note("Sign in at this address:")
            say(url)
            if not no_browser and not await asyncio.to_thread(webbrowser.open, url):
                note("No browser could be started: open the address on this machine.")

        resolve = ResolverFactory(config, os.environ)(trusted=True).resolve
        environment = ToolEnvironment(
            resolve, config.allow.addresses, config.ca_bundle, trusted=True, mcp_servers=config.mcp_servers
        )
        sign_in = await asyncio.to_thread(load_by_name, "goagents.tools.mcp_login:sign_in")
        wanting = kept.record.wanting if kept is not None else None
        found = await sign_in(name, server, environment, browse, wanting=wanting)
        await place.logins.replace(found.record)
    tools = "1 tool" if found.tools == 1 else f"{found.tools} tools"
    note(f"Signed in to {name}, which offers {tools}; {_outlook(found.record)}.")


@command()
@click.argument("name")
@logins_options
def logout(name: str, config: tuple[Path, ...], tenant: str) -> None:
    """Forget the login at the server NAME.

    Instances stop using its token within a minute. The authorization server is not told.
    """
    asyncio.run(_logout(name, config, tenant))


async def _logout(name: str, files: tuple[Path, ...], tenant: str) -> None:
    async with _place(files, tenant) as place:
        if await place.logins.read(name) is None:
            place.server(name)  # a name that is none is told
            note(f"Nobody was signed in to {name}.")
            return
        await place.logins.delete(name)
    note(f"Signed out of {name}.")


@command(name="list")
@logins_options
@output_option
def list_servers(config: tuple[Path, ...], tenant: str, output: str) -> None:
    """Show the servers, and which are signed in until when."""
    asyncio.run(_list(config, tenant, output))


async def _list(files: tuple[Path, ...], tenant: str, output: str) -> None:
    async with _place(files, tenant) as place:
        servers = place.config.mcp_servers
        found = await place.logins.read_many(list(servers))
    rows = [row_of(name, server, found.get(name), datetime.now(UTC)) for name, server in servers.items()]
    if output == "json":
        say_json({"items": rows})
        return
    if not rows:
        note("the configuration has no mcp_servers")
        return
    print_table(
        ("SERVER", "ADDRESS", "LOGIN", "UNTIL", "SCOPES"),
        ((row["name"], row["address"], row["login"], row["until"], row["scopes"]) for row in rows),
    )


def row_of(name: str, server: McpServerConfig, record: LoginRecord | None, now: datetime) -> dict[str, Any]:
    """Return what is told of a server, and of the login there. No token is part of it."""
    row: dict[str, Any] = {"name": name, "address": server.url or server.command, "until": None, "scopes": None}
    if server.oauth is None or server.oauth.grant != "authorization_code":
        return row | {"login": _without_person(server)}
    if record is None:
        return row | {"login": f"nobody; run goagents mcp login {name}"}
    if record.url != server.url:
        return row | {"login": f"for another address, {record.url}; run goagents mcp login {name}"}
    if record.ended is not None:
        return row | {"login": f"over, {record.ended}; run goagents mcp login {name}"}
    wanting = f", lacks {record.wanting}; run goagents mcp login {name}" if record.wanting else ""
    return row | {
        "login": f"signed in{wanting}",
        "until": _until(record, now),
        "scopes": record.content.scope,
    }


def _until(record: LoginRecord, now: datetime) -> str:
    if record.content.refresh_token is not None:
        return "renewed"
    if record.expires_at is None:
        return "revoked"
    shown = record.expires_at.isoformat(timespec="seconds")
    return shown if record.expires_at > now else f"over since {shown}"


def _outlook(record: LoginRecord) -> str:
    if record.content.refresh_token is not None:
        return "the login is renewed without you"
    if record.expires_at is None:
        return "the login holds until it is revoked"
    return f"the login holds until {record.expires_at.isoformat(timespec='seconds')}, and cannot be renewed"


def _without_person(server: McpServerConfig) -> str:
    if server.oauth is not None:
        return "the server signs in as itself"
    return "a program" if server.url is None else "it has no `oauth`"


@asynccontextmanager
async def _place(files: tuple[Path, ...], tenant: str) -> AsyncIterator[Place]:
    """Read the configuration and open its store. Raises ConfigurationError."""
    settings = Settings.from_environ()
    if files:
        settings = replace(settings, config_paths=tuple(str(file) for file in files))
    if not settings.config_paths:
        raise ConfigurationError("name the configuration: --config FILE, or GOAGENTS_CONFIG")
    config = load_config(settings)
    store = open_store(store_url(config, settings))
    try:
        yield Place(config, StoredLogins(store, tenant))
    finally:
        await store.aclose()


for _each in (login, logout, list_servers):
    mcp.add_command(_each)
