"""Models and tools of the simulation: what they do is planned by the request, and every call of them is checked.

An answer, and what a tool returns, holds a number that is never used again: what was computed twice differs, so it is
seen whose answer the store, the session and the followers hold.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from itertools import count
from random import Random
from typing import Any

from goagents.errors import ProviderUnavailable, ToolFailed
from goagents.messages import MESSAGE, Message, TextPart, ToolCallPart, Usage
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, Provider, TextDelta
from goagents.testing.tools import ANY_OBJECT, StaticToolset, StaticToolsets
from goagents.tools.base import Effect, ToolContext, ToolDefinition, ToolResult, text_result

from .ledger import PATHS, Ledger, Process

EFFECTS: Mapping[str, Effect] = {
    "look": "read",
    "book": "idempotent",
    "pay": "unsafe",  # of unknown outcome: the model is told
    "wire": "unsafe",  # of unknown outcome: a person decides
    "sign": "unsafe",  # a person always decides first
}
PACES = {"quick": (0.05, 0.6), "steady": (0.5, 4.0), "slow": (4.0, 16.0), "endless": (20.0, 70.0)}
_execution: ContextVar[tuple[str, int]] = ContextVar("simulated_execution")


@dataclass(frozen=True)
class Plan:
    """What the model does: call these tools in each round, then answer. `insists`: it repeats a call in doubt.

    `pace` is how long model and tools take; `fails` is the round in which the provider fails.
    """

    rounds: tuple[tuple[str, ...], ...] = ()
    pace: str = "quick"
    insists: bool = False
    fails: int | None = None

    def text(self, number: int) -> str:
        return f"#{number} {json.dumps(asdict(self))}"

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


class Models:
    """The providers of one process."""

    def __init__(self, work: Work, process: Process, attempt_of: Any) -> None:
        self._model = _Model(work, process)
        self._attempt_of = attempt_of

    async def get(self, name: str) -> Provider:
        """Called by each execution as it begins: from here on its calls are known to be of that attempt."""
        task = asyncio.current_task()
        run = task.get_name() if task else ""
        _execution.set((run, self._attempt_of(run)))
        return self._model

    def check(self, name: str) -> None:
        """There is one for every name."""

    async def aclose(self) -> None:
        """Nothing to close."""


class _Model:
    name = "scripted"

    def __init__(self, work: Work, process: Process) -> None:
        self._work = work
        self._process = process

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        work = self._work
        start = max(i for i, message in enumerate(request.messages) if message.role == "user")
        number, plan = Plan.parse(request.messages[start].text)
        said = request.messages[start + 1 :]
        rounds = sum(message.role == "assistant" for message in said)
        work.asked += 1
        work.ledger.note(f"{self._process.name} asks the model #{number}, round {rounds}")
        self._check(number, request.messages[: start + 1], said)
        message = self._answer(number, plan, said)
        if plan.fails == rounds and not work.calm:
            raise ProviderUnavailable("the simulated provider is away")
        pieces = message.text.split("|")
        for i, piece in enumerate(pieces):
            await work.take_time(plan)
            yield TextDelta(piece if i == 0 else f"|{piece}")
        yield ModelResponse(message, "tool_use" if message.tool_calls else "end_turn", Usage(10, 5), "planned")

    def _answer(self, number: int, plan: Plan, said: Sequence[Message]) -> Message:
        fresh = self._work.fresh()
        calls = _insisted(plan, said, fresh)
        planned = sum(not _is_insisting(message) for message in said if message.role == "assistant")
        if not calls and planned < len(plan.rounds):
            calls = [
                ToolCallPart(f"c{fresh}.{i}", tool, {"about": f"{number}.{planned}.{i}"})
                for i, tool in enumerate(plan.rounds[planned])
            ]
        text = TextPart(f"#{number}|round {planned}|{'calls' if calls else 'answer'} {fresh}")
        return Message("assistant", (text, *calls), "scripted", "planned")

    def _check(self, number: int, before: Sequence[Message], said: Sequence[Message]) -> None:
        """The model gets the session as it was before the run, then what is recorded of the run, and nothing else."""
        ledger, (run, attempt) = self._work.ledger, _execution.get()
        head = ledger.run(run).get("head") or 0
        session = list(ledger.under(PATHS.messages(ledger.run(run)["session"])).values())
        steps = [step for step in ledger.under(PATHS.steps(run)).values() if step["kind"] in ("model", "tools")]
        if ledger.run_of.get(number) != run:
            ledger.fault(f"the run {ledger.called(run)} asks the model what #{number} asked")
        if _plain(before) != [message["message"] for message in session[:head]]:
            ledger.fault(f"#{number} shows the model another conversation than its session's")
        recorded = [step["message"] for step in steps]
        if _plain(said) != recorded[: len(said)]:
            ledger.fault(f"#{number} shows the model what is not recorded: {_plain(said)}, recorded: {recorded}")
        next_step = ledger.recorded.get(PATHS.step(run, len(said) + 1))
        if next_step is not None and next_step <= attempt:
            ledger.fault(f"attempt {attempt} of #{number} asks the model for what attempt {next_step} has recorded")

    async def aclose(self) -> None:
        """Nothing to close."""


def _insisted(plan: Plan, said: Sequence[Message], fresh: int) -> list[ToolCallPart]:
    """Return the calls to make again, just as they were, because nobody knows what they came to."""
    if not plan.insists or not said or _is_insisting(said[-2]):
        return []
    unknown = {part.call_id for part in said[-1].parts if part.type == "tool_result" and part.unknown}
    return [
        ToolCallPart(f"i{fresh}.{i}", call.name, call.arguments)
        for i, call in enumerate(said[-2].tool_calls)
        if call.id in unknown
    ]


def _is_insisting(message: Message) -> bool:
    return any(call.id.startswith("i") for call in message.tool_calls)


def _plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [MESSAGE.dump_python(message, mode="json") for message in messages]


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
        run, attempt = _execution.get()
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
