"""What the calls of one agent's tools have around them, made when its tools are opened."""

from dataclasses import dataclass, field
from functools import cached_property

from goagents.clock import Clock
from goagents.records import ClusterRecord, Paths
from goagents.spec.cluster import AgentSpec
from goagents.spec.hosts import HostList
from goagents.store.base import Store
from goagents.telemetry.base import Telemetry

from .secrets import SecretValues
from .state import CallState, Entry


@dataclass(frozen=True)
class Surroundings:
    store: Store
    paths: Paths
    clock: Clock
    telemetry: Telemetry
    cluster: ClusterRecord
    agent: AgentSpec
    state: CallState
    secrets: SecretValues = field(repr=False)

    @cached_property
    def hosts(self) -> HostList | None:
        """The hosts that may be called; None for all."""
        return None if self.agent.allowed_hosts is None else HostList(self.agent.allowed_hosts)

    def entry(self, tool: str) -> Entry:
        return entry_of(self.cluster, self.agent.name, tool)


def entry_of(cluster: ClusterRecord, agent: str, tool: str) -> Entry:
    return cluster.uid, agent, tool
