"""The models of the simulation: they carry out the plan that a request names, and check what they are shown."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any

from goagents.errors import ProviderUnavailable
from goagents.framing import NOTE, framed
from goagents.messages import MESSAGE, Message, TextPart, ToolCallPart, Usage
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, Provider, TextDelta

from .agents import Plan, Work, execution
from .ledger import PATHS, Ledger, Process


class Models:
    """The providers of one process."""

    def __init__(self, work: Work, process: Process, attempt_of: Any) -> None:
        self._model = _Model(work, process)
        self._attempt_of = attempt_of

    async def get(self, name: str) -> Provider:
        """Called by each execution as it begins: from here on its calls are known to be of that attempt."""
        task = asyncio.current_task()
        run = task.get_name() if task else ""
        execution.set((run, self._attempt_of(run)))
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
        if request.system not in (None, NOTE):  # no agent has one of its own: the engine asks for a summary
            text = await self._summary()
            yield TextDelta(text)
            yield ModelResponse(Message("assistant", (TextPart(text),)), "end_turn", Usage(10, 5), "planned")
            return
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

    async def _summary(self) -> str:
        ledger, (run, attempt) = self._work.ledger, execution.get()
        ledger.note(f"{self._process.name} asks for a summary for {ledger.called(run)}")
        earlier = [ledger.recorded[path] for path, step in _steps(ledger, run) if step["kind"] == "summary"]
        if any(recorded <= attempt for recorded in earlier):
            ledger.fault(f"attempt {attempt} of {ledger.called(run)} asks for a summary once more")
        await self._work.take_time(Plan())
        return f"what was said before, {self._work.fresh()}"

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
        ledger, (run, attempt) = self._work.ledger, execution.get()
        if ledger.run_of.get(number) != run:
            ledger.fault(f"the run {ledger.called(run)} asks the model what #{number} asked")
        if not _is_of_session(ledger, run, _plain(before)):
            ledger.fault(f"#{number} shows the model another conversation than its session's")
        steps = [(path, step["message"]) for path, step in _steps(ledger, run) if step["kind"] in ("model", "tools")]
        recorded = _shown(message for _, message in steps[: len(said)])
        if _plain(said) != recorded:
            ledger.fault(f"#{number} shows the model what is not recorded: {_plain(said)}, recorded: {recorded}")
        if len(steps) > len(said) and ledger.recorded[steps[len(said)][0]] <= attempt:
            ledger.fault(f"attempt {attempt} of #{number} asks the model for what an earlier one has recorded")

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


def _shown(recorded: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return recorded messages as a model is shown them: what tools returned stands in its frame."""
    return _plain(framed(tuple(MESSAGE.validate_python(message) for message in recorded)))


def _steps(ledger: Ledger, run: str) -> list[tuple[str, dict[str, Any]]]:
    return list(ledger.under(PATHS.steps(run)).items())


def _is_of_session(ledger: Ledger, run: str, before: list[dict[str, Any]]) -> bool:
    """Whether `before` is the session up to the run's own message: all of it, or a summary and whole turns."""
    head, record = ledger.run(run).get("head") or 0, ledger.documents[PATHS.session(ledger.run(run)["session"])]
    said = (message["message"] for message in ledger.under(PATHS.messages(record["id"])).values())
    messages = _shown(said)[:head]
    summaries = [step.get("text") for _, step in _steps(ledger, run) if step["kind"] == "summary"]
    if before == messages or not (summaries or record.get("compacted")):
        return before == messages
    if before[0]["parts"][0]["text"].startswith("[Summary"):
        last = next((text for text in reversed(summaries) if text), record.get("summary"))
        if last is None or last not in before[0]["parts"][0]["text"]:
            return False
        before = before[1:]
    return before == messages[-len(before) :] and before[0]["role"] == "user"
