"""The services of one process, made of parts whose calls a test can look at: for tests of what wraps them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goagents.app import ResolverFactory
from goagents.clock import Clock, SystemClock
from goagents.engine.services import Services
from goagents.providers.base import Provider
from goagents.settings import Settings
from goagents.spec.config import Config
from goagents.spec.tools import McpToolSpec
from goagents.store.base import Store
from goagents.store.sqlite import SQLiteStore
from goagents.telemetry.base import Telemetry
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.models import ScriptedModel
from goagents.testing.tools import StaticToolset, StaticToolsets
from goagents.testing.webhooks import RecordingWebhooks
from goagents.tools.base import Tool

ENTRY = McpToolSpec(type="mcp", name="tools", server="tools")


@dataclass
class OneProvider:
    provider: Provider

    async def get(self, name: str) -> Provider:
        return self.provider

    def check(self, name: str) -> None:
        """Any name will do."""

    async def aclose(self) -> None:
        await self.provider.aclose()


@dataclass
class Parts:
    store: Store
    providers: OneProvider
    toolset: StaticToolset
    services: Services
    dispatch: RecordingDispatch
    webhooks: RecordingWebhooks

    def says(self, *steps: str | Mapping[str, Any]) -> ScriptedModel:
        """Have the model answer this, from now on."""
        self.providers.provider = made = ScriptedModel(*steps)
        return made

    def offers(self, *tools: Tool) -> None:
        self.toolset.tools = tools

    async def opened(self, services: Services) -> Sequence[Tool]:
        return await services.toolsets.build(ENTRY, trusted=True).open()


@asynccontextmanager
async def process_parts(folder: Path, clock: Clock | None = None) -> AsyncIterator[Parts]:
    config = Config()
    store = SQLiteStore(str(folder / "parts.db"))
    toolset, dispatch, webhooks = StaticToolset(()), RecordingDispatch(), RecordingWebhooks()
    providers = OneProvider(ScriptedModel())
    services = Services(
        store=store,
        clock=clock or SystemClock(),
        config=config,
        settings=Settings(),
        telemetry=Telemetry([]),
        providers=providers,
        toolsets=StaticToolsets({ENTRY.name: toolset}),
        resolvers=ResolverFactory(config, {}),
        dispatch=dispatch,
        webhooks=webhooks,
    )
    yield Parts(store, providers, toolset, services, dispatch, webhooks)
    await store.aclose()
