"""The places a run takes: one slot of its cluster, one instance of its agent."""

from collections.abc import Callable
from dataclasses import dataclass

from goagents.engine.loaded import LoadedCluster
from goagents.engine.recovery.pointers import Pointer
from goagents.engine.services import Services
from goagents.errors import LimitExceeded
from goagents.records import Paths, RunRecord
from goagents.spec.cluster import AgentSpec
from goagents.store.base import ABSENT, AtVersion, Document, Merge, Precondition, Snapshot, Write

from .capacity import Pool


@dataclass(slots=True)
class Place:
    """`paths` holds what is probed in one read, by number: the one reserved in this process, then alternatives."""

    pool: Pool
    number: int
    paths: dict[int, str]
    full: str

    @classmethod
    def reserve(cls, pool: Pool, size: int, path: Callable[[int], str], full: str, *, wide: bool) -> "Place":
        """Raises LimitExceeded, with `full` as its message, where this process holds every number itself."""
        number = pool.reserve(size)
        if number is None:
            raise LimitExceeded(full, retry_after=1)
        return cls(pool, number, {n: path(n) for n in (number, *pool.alternatives(size, wide=wide))}, full)

    @property
    def path(self) -> str:
        return self.paths[self.number]

    def choose(self, snapshot: Snapshot) -> list[Pointer] | None:
        """Settle on a number that is free in the store. None: one was; else the pointers at the runs that hold them."""
        holders: list[Pointer] = []
        for number, path in self.paths.items():
            holder = _holder(snapshot.get(path))
            if holder is not None:
                holders.append(Pointer(path, "run", holder))
            elif number == self.number or self.pool.take(number):
                if number != self.number:
                    self.pool.free(self.number, idle=False)
                    self.number = number
                return None
        return holders

    def precondition(self, snapshot: Snapshot) -> Precondition:
        document = snapshot.get(self.path)
        return AtVersion(document.version) if document else ABSENT

    def give_back(self) -> None:
        self.pool.free(self.number, idle=False)


@dataclass(slots=True)
class Places:
    """A slot and an instance, reserved in this process until they are taken in the store, or given back."""

    slot: Place
    instance: Place
    agent: str

    @classmethod
    def reserve(
        cls, services: Services, paths: Paths, cluster: LoadedCluster, agent: AgentSpec, *, wide: bool
    ) -> "Places":
        """Raises LimitExceeded where this process holds all there are."""
        namespace, name = cluster.record.namespace, cluster.record.name
        slots, instances = cluster.manifest.spec.resource_policy.max_concurrent_agents, cluster.manifest
        slot = Place.reserve(
            slot_pool(services, paths, namespace, name),
            slots,
            lambda number: paths.slot(namespace, name, number),
            f"All {slots} concurrent runs of the cluster {name!r} are in use (max_concurrent_agents).",
            wide=wide,
        )
        size = instances.max_instances(agent)
        try:
            instance = Place.reserve(
                instance_pool(services, paths, namespace, name, agent.name),
                size,
                lambda number: paths.instance(namespace, name, agent.name, number),
                f"All {size} instances of the agent {agent.name!r} are in use (max_instances).",
                wide=wide,
            )
        except LimitExceeded:
            slot.give_back()
            raise
        return cls(slot, instance, agent.name)

    @property
    def paths(self) -> list[str]:
        return [*self.slot.paths.values(), *self.instance.paths.values()]

    def choose(self, snapshot: Snapshot) -> tuple[list[Pointer], str] | None:
        """Settle on numbers that are free in the store. None: there were; else who holds them, and what to say."""
        for place in (self.slot, self.instance):
            holders = place.choose(snapshot)
            if holders is not None:
                return holders, place.full
        return None

    def writes(self, snapshot: Snapshot, run: str) -> list[Write]:
        """Return what takes them for `run`."""
        return [
            Merge(self.slot.path, {"run": run}, self.slot.precondition(snapshot)),
            Merge(
                self.instance.path,
                {"run": run, "agent": self.agent, "number": self.instance.number},
                self.instance.precondition(snapshot),
                server_time=("last_active_at",),
            ),
        ]

    def give_back(self) -> None:
        self.slot.give_back()
        self.instance.give_back()


def release_writes(paths: Paths, run: RunRecord, known: Callable[[str], Precondition]) -> list[Write]:
    """Return what lets go of the slot and the instance that `run` holds; `known` gives each write's precondition."""
    writes: list[Write] = []
    if run.slot is not None:
        path = paths.slot(run.namespace, run.cluster, run.slot)
        writes.append(Merge(path, {"run": None}, known(path)))
    if run.instance is not None:
        path = paths.instance(run.namespace, run.cluster, run.agent, run.instance)
        # whole, also where the cluster was deleted meanwhile
        whole = {"run": None, "agent": run.agent, "number": run.instance}
        writes.append(Merge(path, whole, known(path), server_time=("last_active_at",)))
    return writes


def take_places(services: Services, paths: Paths, run: RunRecord) -> None:
    """Note in this process that `run` holds its slot and its instance."""
    for pool, number in _held(services, paths, run):
        pool.take(number)


def free_places(services: Services, paths: Paths, run: RunRecord, *, idle: bool = True) -> None:
    """Note in this process that `run` is done with its places. `idle`: they are free in the store too."""
    for pool, number in _held(services, paths, run):
        pool.free(number, idle=idle)


def _held(services: Services, paths: Paths, run: RunRecord) -> list[tuple[Pool, int]]:
    slots = slot_pool(services, paths, run.namespace, run.cluster)
    instances = instance_pool(services, paths, run.namespace, run.cluster, run.agent)
    return [(pool, n) for pool, n in ((slots, run.slot), (instances, run.instance)) if n is not None]


def slot_pool(services: Services, paths: Paths, namespace: str, cluster: str) -> Pool:
    return services.capacity.pool(paths.slots(namespace, cluster))


def instance_pool(services: Services, paths: Paths, namespace: str, cluster: str, agent: str) -> Pool:
    return services.capacity.pool(f"{paths.instances(namespace, cluster)}/{agent}")


def _holder(document: Document | None) -> str | None:
    holder = document.data.get("run") if document else None
    return holder if isinstance(holder, str) else None
