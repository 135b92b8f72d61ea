"""Logins at MCP servers as both stores keep them, and whose login the tools of a tenant get."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from tests.support.engine import engine, manifest

from goagents.access.principal import Principal
from goagents.app import ResolverFactory
from goagents.engine import clusters, runs
from goagents.engine.logins import StoredLogins
from goagents.errors import StoreConflict
from goagents.logins import LoginContent, LoginRecord
from goagents.resources import ChatRequest
from goagents.spec.tools import ToolSpec
from goagents.store.base import Store
from goagents.testing.models import ScriptedModel
from goagents.testing.tools import StaticToolset
from goagents.tools.base import ToolEnvironment
from goagents.tools.registry import ToolsetRegistry

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAME = "the team's server: https://x/…"  # any text is a name


def login(name: str = "t1") -> LoginRecord:
    content = LoginContent(access_token=name, client={"client_id": "me", "redirect_uris": ["http://127.0.0.1:1/"]})
    return LoginRecord(
        server=NAME, url="https://x/mcp", content=content, signed_in_at=NOW, expires_at=NOW + timedelta(hours=1)
    )


async def test_a_login_is_kept_changed_and_deleted(store: Store):
    logins = StoredLogins(store, "default")
    assert await logins.read(NAME) is None
    version = await logins.write(login(), None)
    kept = await logins.read(NAME)
    assert kept is not None
    assert (kept.record, kept.version) == (login(), version)
    assert abs(kept.read_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert await logins.write(login("t2"), version) != version
    for stale in (version, None):
        with pytest.raises(StoreConflict):
            await logins.write(login("t3"), stale)
    await logins.replace(login("t4"))
    kept = await logins.read(NAME)
    assert kept is not None
    assert kept.record.content.access_token == "t4"
    assert await StoredLogins(store, "other").read(NAME) is None
    await logins.delete(NAME)
    with pytest.raises(StoreConflict):
        await logins.write(login("t5"), kept.version)
    assert await logins.read(NAME) is None


def test_a_records_repr_shows_no_token():
    assert "t1" not in repr(login())
    assert "https://x/mcp" in repr(login())


async def test_the_tools_of_a_tenant_get_its_own_logins(store: Store):
    await StoredLogins(store, "acme").replace(login())
    services = engine(store, ScriptedModel("hello", "hello"))
    lent: dict[str, Any] = {}

    def build(spec: ToolSpec, environment: ToolEnvironment) -> StaticToolset:
        lent[spec.name] = environment.logins
        return StaticToolset([])

    services.toolsets = ToolsetRegistry(
        services.config,
        ResolverFactory(services.config, {}),
        {"mcp": "mcp", "http": "http"},
        lambda _name: build,
        partial(StoredLogins, store),
    )
    found = []
    for tenant in ("acme", "other"):
        alice = Principal("alice", tenant)
        tools = [
            {"type": "mcp", "name": "kb", "server": "x"},
            {"type": "http", "name": "web", "url": "https://x.example"},
        ]
        await clusters.apply(services, alice, manifest({"tools": tools}), trusted=True)
        handle = await runs.start(services, alice, "support.helper", ChatRequest(message="hi"), kind="chat")
        await handle.result()
        found.append(await lent["kb"].read(NAME))
        assert lent["web"] is None
    assert [None if kept is None else kept.record for kept in found] == [login(), None]
