"""What the engine works with, handed to each of its functions; `app.py` builds it."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from goagents.clock import Clock
from goagents.dispatch.base import Dispatch
from goagents.ids import new_id
from goagents.providers.base import Provider
from goagents.settings import Settings
from goagents.spec.config import Config, RunsConfig
from goagents.spec.interpolation import Resolver
from goagents.spec.tools import ToolSpec
from goagents.store.base import Store
from goagents.telemetry.base import Telemetry
from goagents.tools.base import Toolset
from goagents.webhooks.base import Webhooks

from .admission.capacity import Capacity
from .calling.state import CallState
from .loaded import LoadedCluster

if TYPE_CHECKING:
    from .execution.handle import RunHandle


class Providers(Protocol):
    """The configured model providers, by name."""

    async def get(self, name: str) -> Provider:
        """Return the adapter, loaded and configured on first use. Raises Invalid as `check` does."""
        ...

    def check(self, name: str) -> None:
        """Return if `name` is a provider this server can use; raise Invalid with the remedy otherwise."""
        ...

    async def aclose(self) -> None: ...


class Toolsets(Protocol):
    """Makes the toolset of one entry under `tools:`."""

    def check(self, spec: ToolSpec) -> None:
        """Return if this version has tools of this kind; raise ToolUnavailable otherwise."""
        ...

    def build(
        self,
        spec: ToolSpec,
        *,
        trusted: bool,
        allowed_hosts: tuple[str, ...] | None = None,
        tenant: str = "default",
    ) -> Toolset:
        """`allowed_hosts` are the only ones its tools may connect to; None for all. Raises ToolUnavailable as `check`
        does."""
        ...


class Resolvers(Protocol):
    def __call__(self, *, trusted: bool) -> Resolver: ...


@dataclass
class Services:
    """One per process and configuration. `owner` names this process in leases.

    `specs` and `capacity` are caches and hints: what they hold is checked against the store at each admission. `calls`
    is what the process knows of the servers behind tools.
    `ending`: the process was asked to end, so nobody waits here for what goes on elsewhere.
    """

    store: Store
    clock: Clock
    config: Config
    settings: Settings
    telemetry: Telemetry
    providers: Providers
    toolsets: Toolsets
    resolvers: Resolvers
    dispatch: Dispatch
    webhooks: Webhooks
    owner: str = field(default_factory=lambda: new_id("proc"))
    ending: bool = False
    specs: OrderedDict[str, LoadedCluster] = field(default_factory=OrderedDict)
    capacity: Capacity = field(default_factory=Capacity)
    calls: CallState = field(default_factory=CallState)
    handles: dict[str, "RunHandle"] = field(default_factory=dict)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    beginning: set["asyncio.Task[RunHandle | None]"] = field(default_factory=set)
    closing: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def runs(self) -> RunsConfig:
        return self.config.runs

    @property
    def background(self) -> bool:
        """Whether this process keeps its CPU when no request is open."""
        configured = self.config.server.background
        return not self.settings.on_cloud_run if configured is None else configured
