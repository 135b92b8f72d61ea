"""The engine as tests set it up: real stores, scripted models, Python tools."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from goagents.access.principal import Principal
from goagents.app import ResolverFactory
from goagents.clock import SystemClock
from goagents.dispatch.base import Dispatch
from goagents.dispatch.local import LocalDispatch
from goagents.engine import clusters
from goagents.engine.recovery.worker import perform
from goagents.engine.services import Services
from goagents.errors import Invalid
from goagents.providers.base import Provider
from goagents.providers.scripted import ScriptedProvider
from goagents.settings import Settings
from goagents.spec.cluster import AgentCluster
from goagents.spec.config import Config
from goagents.store.base import Store
from goagents.telemetry.base import Event, Telemetry
from goagents.testing.tools import StaticToolsets
from goagents.testing.webhooks import RecordingWebhooks
from goagents.tools.base import Toolset

ALICE = Principal("alice")
BOB = Principal("bob")


class Providers:
    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self.providers = dict(providers)

    async def get(self, name: str) -> Provider:
        self.check(name)
        return self.providers[name]

    def check(self, name: str) -> None:
        if name not in self.providers:
            raise Invalid(f"The test has no provider {name!r}.")

    async def aclose(self) -> None:
        for provider in self.providers.values():
            await provider.aclose()


def scripted(**models: Sequence[Mapping[str, Any]]) -> ScriptedProvider:
    return ScriptedProvider(models={name.replace("_", "-"): script for name, script in models.items()})


class Engine(Services):
    """Services of a test; `seen` keeps the telemetry."""

    seen: list[Event]


def engine(
    store: Store,
    provider: Provider | None = None,
    toolsets: Mapping[str, Toolset] | None = None,
    config: Config | None = None,
    lease_ttl: float = 30.0,
    environ: Mapping[str, str] | None = None,
    dispatch: Dispatch | None = None,
    providers: Mapping[str, Provider] | None = None,
) -> Engine:
    config = config or Config()
    config = config.model_copy(update={"runs": config.runs.model_copy(update={"lease_ttl": lease_ttl})})
    seen: list[Event] = []
    made = Engine(
        store=store,
        clock=SystemClock(),
        config=config,
        settings=Settings(),
        telemetry=Telemetry([seen.append]),
        providers=Providers(providers or {"scripted": provider or scripted(echo=[{"text": "hello"}])}),
        toolsets=StaticToolsets(toolsets or {}),
        resolvers=ResolverFactory(config, environ or {}),
        dispatch=dispatch or LocalDispatch(lambda task: perform(made, task)),
        webhooks=RecordingWebhooks(),
    )
    made.seen = seen
    return made


def manifest(*agents: Mapping[str, Any], name: str = "support", **policy: Any) -> AgentCluster:
    """A cluster whose agents, unless they say otherwise, use the scripted model `echo`."""
    defaults = {"name": "helper", "provider": "scripted", "model": "echo"}
    return AgentCluster.model_validate(
        {
            "apiVersion": "goagents.dev/v1",
            "kind": "AgentCluster",
            "metadata": {"name": name},
            "spec": {
                "resource_policy": {"max_concurrent_agents": 5, "queue_timeout": "0s", **policy},
                "agents": [{**defaults, **agent} for agent in agents or ({},)],
            },
        }
    )


async def all_told(services: Services) -> None:
    """Wait until the store knows what opening tools has come to: no run waits for that."""
    for cluster in services.specs.values():
        if tasks := [opening.task for opening in cluster.openings.values()]:
            await asyncio.wait(tasks)


async def applied(services: Services, cluster: AgentCluster | None = None, *, trusted: bool = True) -> None:
    await clusters.apply(services, ALICE, cluster or manifest(), trusted=trusted)
