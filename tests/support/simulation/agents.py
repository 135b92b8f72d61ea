"""Plans and tools of the simulation: what agents do is told by the request, and every call of a tool is checked.

An answer, and what a tool returns, holds a number that is never used again: what was computed twice differs, so it is
seen whose answer the store, the session and the followers hold.
"""

import asyncio
import json
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from itertools import count
from random import Random
from typing import Any

from goagents.errors import ToolFailed
from goagents.messages import MESSAGE
from goagents.testing.tools import ANY_OBJECT, StaticToolset, StaticToolsets
from goagents.tools.base import Effect, ToolContext, ToolDefinition, ToolResult, text_result

from .ledger import Ledger, Process

EFFECTS: Mapping[str, Effect] = {
    "look": "read",
    "book": "idempotent",
    "pay": "unsafe",  # of unknown outcome: the model is told
    "wire": "unsafe",  # of unknown outcome: a person decides
    "sign": "unsafe",  # a person always decides first
}
SHORT_OF_MEMORY = "brief"  # an agent whose sessions are summarised soon
PACES = {"quick": (0.05, 0.6), "steady": (0.5, 4.0), "slow": (4.0, 16.0), "endless": (20.0, 70.0)}
execution: ContextVar[tuple[str, int]] = ContextVar("simulated_execution")  # the run and its attempt


@dataclass(frozen=True)
class Plan:
    """What the model does: call these tools in each round, then answer. `insists`: it repeats a call in doubt.

    `pace` is how long model and tools take; `fails` is the round in which the provider fails.
    """

    rounds: tuple[tuple[str, ...], ...] = ()
    pace: str = "quick"
    insists: bool = False
    fails: int | None = None

    def text(self, number: int, padding: int = 0) -> str:
        """Return the message that asks for it, longer by `padding` characters."""
        return f"#{number} {json.dumps(asdict(self))}{' ' * padding}"

    @classmethod
    def parse(cls, text: str) -> tuple[int, "Plan"]:
        number, _, plan = text.partition(" ")
        given = json.loads(plan)
        return int(number[1:]), cls(**{**given, "rounds": tuple(tuple(calls) for calls in given["rounds"])})


@dataclass(slots=True)
class Done:
    """One call of a tool that was begun. `about` is what the call is about: two with the same do the same harm."""

    run: str
    call: str
    tool: str
    about: str
    key: str


@dataclass
class Work:
    """What models and tools did, over all processes. `calm`: nothing fails, and nothing takes long."""

    ledger: Ledger
    dice: Random
    calm: bool = False
    calls: list[Done] = field(default_factory=list)
    asked: int = 0
    _numbers: "count[int]" = field(default_factory=count)

    def fresh(self) -> int:
        return next(self._numbers)

    async def take_time(self, plan: Plan) -> None:
        low, high = PACES["quick" if self.calm else plan.pace]
        await asyncio.sleep(self.dice.uniform(low, high))


@dataclass(frozen=True)
class _Tool:
    """A tool that notes each call as it begins."""

    work: Work
    process: Process
    name: str

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(self.name, f"The tool {self.name}.", dict(ANY_OBJECT), EFFECTS[self.name], timeout=25.0)

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        work, ledger = self.work, self.work.ledger
        run, attempt = execution.get()
        done = Done(context.run_id, context.call_id, self.name, arguments["about"], context.idempotency_key)
        ledger.note(f"{self.process.name} calls {self.name} {done.about} ({done.call}) for {ledger.called(run)}")
        self._check(done, attempt)
        work.calls.append(done)
        await work.take_time(Plan.parse(MESSAGE.validate_python(ledger.run(run)["input"]).text)[1])
        if not work.calm and work.dice.random() < 0.05:
            raise ToolFailed("the simulated service is away")
        return text_result(f"{self.name} {done.about} {work.fresh()}")

    def _check(self, new: Done, attempt: int) -> None:
        ledger, name = self.work.ledger, self.work.ledger.called(new.run)
        recorded = ledger.answered.get((new.run, new.call))
        if recorded is not None and recorded <= attempt:
            ledger.fault(f"attempt {attempt} of {name} makes the call {new.call}, which attempt {recorded} recorded")
        alike = [
            done for done in self.work.calls if (done.run, done.tool, done.about) == (new.run, new.tool, new.about)
        ]
        if any(done.key != new.key for done in alike if done.call == new.call):
            ledger.fault(f"{name} makes the call {new.call} again with another key")
        if EFFECTS[self.name] != "unsafe":
            return
        calls = {done.call for done in alike} | {new.call}
        allowed = sum(ledger.allowed[new.run, call] for call in calls) + (self.name != "sign")
        if len(alike) >= allowed:
            ledger.fault(f"{name} carries out {self.name} {new.about} once more than people allowed ({allowed} times)")


def toolsets(work: Work, process: Process) -> StaticToolsets:
    return StaticToolsets({name: StaticToolset([_Tool(work, process, name)]) for name in EFFECTS})


def tools_of_agent() -> list[dict[str, Any]]:
    """Return what stands under an agent's `tools:`."""
    told: dict[str, dict[str, Any]] = {"wire": {"unknown_outcome": "wait"}, "sign": {"approval": "always"}}
    return [
        {"name": name, "type": "http", "url": "https://simulated.example", "effect": effect, **told.get(name, {})}
        for name, effect in EFFECTS.items()
    ]
