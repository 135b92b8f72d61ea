"""A store that fails as real ones do, when the test says so or as the dice fall."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self, TypeVar, get_args

from goagents.clock import Clock, SystemClock
from goagents.errors import OutcomeUnknown, StoreConflict, StoreError, StoreUnavailable
from goagents.store.base import Store, Write
from goagents.testing.stores import Method, PassingStore, Subject, paths_of

T = TypeVar("T")
Kind = Literal["conflict", "unavailable", "unreadable", "timeout", "request_lost", "answer_lost", "late"]
_READS = ("get_many", "query")
Predicate = Callable[[Sequence[Write]], bool]


def any_commit(writes: Sequence[Write]) -> bool:  # noqa: ARG001 - a Predicate
    return True


def writes_to(part: str) -> Predicate:
    """Return what is true of commits that write a path with `part` in it, such as `/lease/` or `/steps/`."""
    return lambda writes: any(part in write.path for write in writes)


@dataclass(slots=True)
class Fault:
    """What goes wrong, and when: from the `nth` commit on that fits `when`, `times` times (None: from then on always).

    | kind | what the caller gets | what the store holds |
    |---|---|---|
    | conflict | StoreConflict | nothing of it |
    | unavailable | StoreUnavailable | nothing of it |
    | timeout | OutcomeUnknown, after `seconds` | nothing of it |
    | request_lost | OutcomeUnknown | nothing of it |
    | answer_lost | OutcomeUnknown | all of it |
    | late | OutcomeUnknown | all of it, but only after `calls` more calls: a retry may overtake it |
    | unreadable | StoreUnavailable, from a read; `when` is not asked | |
    """

    kind: Kind
    when: Predicate = any_commit
    nth: int = 1
    times: int | None = 1
    seconds: float = 30.0
    calls: int = 2
    _met: int = field(default=0, init=False)
    _done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"{self.kind!r} is no fault; the faults are {', '.join(get_args(Kind))}")
        if self.nth < 1 or (self.times is not None and self.times < 1) or self.calls < 1 or self.seconds < 0:
            raise ValueError("`nth`, `times` and `calls` count from 1, and `seconds` is not negative")

    def due(self, method: Method, writes: Sequence[Write]) -> bool:
        """Count this call, if it fits, and return whether the fault may happen to it."""
        reads = self.kind == "unreadable"
        if not (method in _READS if reads else method == "commit" and self.when(writes)):
            return False
        self._met += 1
        return self._met >= self.nth and (self.times is None or self._done < self.times)

    def strike(self) -> Self:
        """Count that it happened."""
        self._done += 1
        return self


@dataclass(slots=True)
class Injected:
    """A fault that happened. `applied`: whether the store holds the commit; None of one that is still on its way."""

    kind: Kind
    paths: tuple[str, ...]
    applied: bool | None


@dataclass(slots=True)
class _Late:
    writes: Sequence[Write]
    calls: int
    injected: Injected


class FaultyStore(PassingStore):
    """A `Store` with faults, around a real one.

        store = FaultyStore(real, [Fault("answer_lost", when=writes_to("/lease/"), nth=2)])
        store = FaultyStore.random(real, random.Random(7), {"answer_lost": 0.1, "late": 0.05, "unreadable": 0.02})

    `injected` lists what happened, so that a test can assert that something did. While `unplugged` is true nothing
    gets through; while `calm` is true no fault happens. A `timeout` waits on `clock`. `flush()` has the late commits
    arrive now, and so has `aclose()`.
    """

    def __init__(self, store: Store, faults: Sequence[Fault] = (), *, clock: Clock | None = None) -> None:
        super().__init__(store)
        self.faults = list(faults)
        self.injected: list[Injected] = []
        self.unplugged = False
        self.calm = False
        self._clock = clock or SystemClock()
        self._late: list[_Late] = []
        self._dice: random.Random | None = None
        self._rates: Mapping[Kind, float] = {}
        self._seconds = 30.0

    @classmethod
    def random(
        cls,
        store: Store,
        dice: random.Random,
        rates: Mapping[Kind, float],
        *,
        seconds: float = 30.0,
        clock: Clock | None = None,
    ) -> Self:
        """Return a store where each commit, and each read, meets a fault of `kind` with the probability `rates[kind]`.

        The same seed and the same calls are the same faults. `seconds` is how long a `timeout` takes. Raises
        ValueError for rates that are none.
        """
        for kind, rate in rates.items():
            if kind not in get_args(Kind) or not 0 <= rate <= 1:
                raise ValueError(f"{kind!r}: {rate!r} is no fault and its probability, 0 to 1")
        if sum(rate for kind, rate in rates.items() if kind != "unreadable") > 1:
            raise ValueError("the probabilities of what happens to a commit add up to more than 1")
        made = cls(store, clock=clock)
        made._dice, made._rates, made._seconds = dice, dict(rates), seconds
        return made

    @property
    def on_the_way(self) -> int:
        """How many commits have not arrived yet."""
        return len(self._late)

    async def flush(self) -> None:
        """Have every late commit arrive now, in the order in which they were sent."""
        while self._late:
            await self._arrive(self._late.pop(0))

    async def aclose(self) -> None:
        await self.flush()
        await super().aclose()

    async def around(self, method: Method, subject: Subject, call: Callable[[], Awaitable[T]]) -> T:
        if self.unplugged:
            raise StoreUnavailable("unplugged by the test")
        writes = _writes(method, subject)
        fault = self._fault(method, writes)
        overdue = self._overdue()  # late ones that this call is the last to overtake
        try:
            return await (call() if fault is None else self._fail(fault, writes, paths_of(subject), call))
        finally:
            for late in overdue:
                await self._arrive(late)

    def _fault(self, method: Method, writes: Sequence[Write]) -> Fault | None:
        if self.calm:
            return None
        due = [fault for fault in self.faults if fault.due(method, writes)]  # of two, the later one waits for its turn
        return due[0].strike() if due else self._cast(method)

    def _cast(self, method: Method) -> Fault | None:
        if self._dice is None or method not in (*_READS, "commit"):
            return None
        left = self._dice.random()
        for kind, rate in self._rates.items():
            if (kind == "unreadable") == (method == "commit"):
                continue
            left -= rate
            if left < 0:
                return Fault(kind, seconds=self._seconds, calls=self._dice.randint(1, 3))
        return None

    async def _fail(
        self, fault: Fault, writes: Sequence[Write], paths: tuple[str, ...], call: Callable[[], Awaitable[T]]
    ) -> T:
        injected = Injected(fault.kind, paths, applied=False)
        self.injected.append(injected)
        if fault.kind == "conflict":
            raise StoreConflict("made by the test: somebody else was faster")
        if fault.kind in ("unavailable", "unreadable"):
            raise StoreUnavailable("made by the test: the store cannot be reached")
        if fault.kind == "answer_lost":
            injected.applied = None
            injected.applied = await _applied(call())
        if fault.kind == "timeout":
            await self._clock.sleep(fault.seconds)
        if fault.kind == "late":
            injected.applied = None
            self._late.append(_Late(writes, fault.calls, injected))
        raise OutcomeUnknown(f"made by the test: no answer came ({fault.kind})")

    def _overdue(self) -> list[_Late]:
        for late in self._late:
            late.calls -= 1
        overdue = [late for late in self._late if late.calls <= 0]
        self._late = [late for late in self._late if late.calls > 0]
        return overdue

    async def _arrive(self, late: _Late) -> None:
        late.injected.applied = await _applied(self.store.commit(late.writes))


async def _applied(commit: Awaitable[object]) -> bool:
    """Wait for a commit whose answer nobody gets."""
    try:
        await commit
    except StoreError:  # a precondition that does not hold, for one
        return False
    return True


def _writes(method: Method, subject: Subject) -> Sequence[Write]:
    return subject if method == "commit" else ()  # type: ignore[return-value] # a commit's subject are its writes
