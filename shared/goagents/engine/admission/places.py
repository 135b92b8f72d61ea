"""A place a run takes: one slot of its cluster, one instance of its agent."""

from collections.abc import Callable
from dataclasses import dataclass

from goagents.engine.recovery.pointers import Pointer
from goagents.errors import LimitExceeded
from goagents.store.base import ABSENT, AtVersion, Document, Precondition, Snapshot

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


def _holder(document: Document | None) -> str | None:
    holder = document.data.get("run") if document else None
    return holder if isinstance(holder, str) else None
