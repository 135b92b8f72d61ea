"""The steps of a run, written to its journal as they end: what is recorded is never computed again.

A commit of a step is seen through, also where the run is cancelled meanwhile: what ends the run has to know whether the
step is in the store.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from goagents.clock import Clock
from goagents.messages import MESSAGE, Message, TextPart, ToolCallPart, ToolResultPart, Usage, read_message, read_usage
from goagents.providers.base import ModelResponse
from goagents.records import Paths, RunRecord, StepRecord
from goagents.spec.tools import Effect
from goagents.store.base import ABSENT, MAX_PAGE, Merge, Put, Query, Store, Write

from .aftermath import Carried
from .handle import RunHandle
from .journal import Journal
from .whole import whole

MAX_LOG = 100
MAX_TEXT = 300  # characters of one log entry


@dataclass
class Recorded:
    """What earlier attempts recorded: messages in order, and of the last step's calls the results there are.

    `open_step` is the number of the tools step that is not complete, with the message whose calls it answers and the
    effects that were recorded with them. `answered` are the unsafe calls of the steps before, with their results.
    """

    messages: list[Message] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    number: int = 0
    rounds: int = 0
    tool_calls: int = 0
    open_call: Message | None = None
    results: dict[str, ToolResultPart] = field(default_factory=dict)
    effects: dict[str, Effect] = field(default_factory=dict)
    summaries: list[tuple[int, str | None]] = field(default_factory=list)
    answered: list[Carried] = field(default_factory=list)

    @property
    def carried(self) -> list[Carried]:
        """The unsafe calls that have a result."""
        return [*self.answered, *self._unsafe(self.results)]

    def close(self, results: dict[str, ToolResultPart]) -> None:
        """The open step is complete."""
        self.answered += self._unsafe(results)
        self.open_call, self.results, self.effects = None, {}, {}

    def _unsafe(self, results: dict[str, ToolResultPart]) -> list[Carried]:
        calls = self.open_call.tool_calls if self.open_call is not None else ()
        return [
            (call, results[call.id])
            for call in calls
            if call.id in results and self.effects.get(call.id, "unsafe") == "unsafe"
        ]


def recorded(steps: Sequence[StepRecord]) -> Recorded:
    """Read the journal of a run."""
    found = Recorded()
    for step in steps:
        message = read_message(step.message) if step.message else None
        if step.kind == "summary":
            found.summaries.append((step.through or 0, step.text))
        elif step.kind == "result":
            if message is not None:
                found.results |= _results(message)
            continue  # of the tools step that follows, or is still open
        elif message is not None:
            found.messages.append(message)
            _enter(found, step, message)
        found.usage += read_usage(step.usage or {})
        found.number = max(found.number, step.number)
    return found


def _enter(found: Recorded, step: StepRecord, message: Message) -> None:
    if step.kind == "model":
        found.rounds += 1
        found.tool_calls += len(message.tool_calls)
        found.open_call, found.results = message, {}
        found.effects = {str(intent["call_id"]): intent.get("effect", "unsafe") for intent in step.intents or ()}
    else:
        found.close(_results(message))


def _results(message: Message) -> dict[str, ToolResultPart]:
    return {part.call_id: part for part in message.parts if isinstance(part, ToolResultPart)}


async def read_steps(store: Store, paths: Paths, run: str) -> list[StepRecord]:
    """Read the journal of a run, in order: all of it, for what is left out would be done again.

    Its bound is that of what a run can do: `max_turns`, and the calls of one answer.
    """
    found: list[StepRecord] = []
    cursor: str | None = None
    while True:
        steps, cursor = await read_some_steps(store, paths, run, MAX_PAGE, cursor)
        found += steps
        if cursor is None:
            return _in_order(found)


async def read_some_steps(
    store: Store, paths: Paths, run: str, limit: int, after: str | None
) -> tuple[list[StepRecord], str | None]:
    """Read a page of the journal, and where the next one begins. Raises Invalid for an `after` that is no cursor."""
    page = await store.query(Query(paths.steps(run), limit=limit, after=after))
    return _in_order([StepRecord.of(document.data) for document in page.documents]), page.next_cursor


def _in_order(steps: list[StepRecord]) -> list[StepRecord]:
    """A result sorts behind the step it belongs to, whose record comes later: it goes before it."""
    return sorted(steps, key=lambda step: (step.number, step.kind != "result"))


class Steps:
    """`log` is what `goagents logs` shows of the run. `number` is that of the last step recorded.

    `doubts` are the fingerprints of the run's own calls whose outcome nobody knows; recorded with what is next.
    """

    def __init__(self, journal: Journal, paths: Paths, run: RunRecord, clock: Clock, handle: RunHandle) -> None:
        self._journal = journal
        self._paths = paths
        self._run = run
        self._clock = clock
        self._handle = handle
        self._early: dict[int, ToolResultPart] = {}
        self._written: set[int] = set()
        self.number = 0
        self.log: list[dict[str, Any]] = list(run.log)
        self.doubts: set[str] = set(run.doubts)

    @property
    def cursor(self) -> str:
        """The id of the newest event: what is recorded now holds, and so do the events up to here."""
        return str(self._handle.cursor)

    async def model_done(self, response: ModelResponse, effects: dict[str, str]) -> None:
        """Record the model's answer and what it intends to do with tools, before any tool is called."""
        calls = response.message.tool_calls
        self.note("model", f"calls {', '.join(call.name for call in calls)}")
        intents = [{"call_id": call.id, "name": call.name, "effect": effects[call.id]} for call in calls]
        await whole(self._record("model", response.message, intents=intents, usage=asdict(response.usage)))

    async def summarised(self, through: int, text: str | None, usage: Usage) -> None:
        """Record what stands for the session's messages up to `through`."""
        await whole(self._record("summary", None, through=through, text=text, usage=asdict(usage)))

    def result(self, index: int, part: ToolResultPart) -> None:
        """Note the result of call `index` of the step; it is recorded with the step, or when the run has to wait."""
        self._early[index] = part

    async def result_done(self, index: int, part: ToolResultPart) -> None:
        """Record the result of one call at once: it must not be lost, and the step's other calls are not done yet.

        Those noted before go along: clients have seen them, and the events up to here hold from now on.
        """
        self._early[index] = part
        await whole(self._record_results())

    async def _record_results(self) -> None:
        recorded = set(self._early)
        await self._journal.commit([*self.unrecorded(), self._run_write()])
        self._written |= recorded

    def unrecorded(self) -> list[Write]:
        """Return the writes that record the results which are known and not recorded."""
        return [self._result_write(i, part) for i, part in self._early.items() if i not in self._written]

    def resume(self, calls: tuple[ToolCallPart, ...], results: dict[str, ToolResultPart]) -> None:
        """The step's `results` were recorded by an earlier attempt."""
        known = {i: results[call.id] for i, call in enumerate(calls) if call.id in results}
        self._early, self._written = known, set(known)

    async def tools_done(self, message: Message) -> None:
        """Record the results of the calls of the step before."""
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                text = "".join(c.text for c in part.content if isinstance(c, TextPart))
                self.note("tools", f"{part.name}: {text}", failed=part.is_error)
        await whole(self._record_tools(message))

    async def _record_tools(self, message: Message) -> None:
        await self._record("tools", message)
        self._early, self._written = {}, set()

    def found(self) -> dict[str, Any]:
        """Return the change of the run's record by which it keeps its doubts, if there are new ones."""
        return {} if self.doubts == set(self._run.doubts) else {"doubts": sorted(self.doubts)}

    def note(self, kind: Literal["model", "tools", "waiting", "finished"], text: str, *, failed: bool = False) -> None:
        """Add to the log, which is bounded: a run of many steps keeps its first and its last entries."""
        entry = {
            "at": self._clock.now().isoformat(),
            "severity": "ERROR" if failed else "INFO",
            "kind": kind,
            "text": text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…",
        }
        if len(self.log) >= MAX_LOG:
            del self.log[MAX_LOG // 2]
        self.log.append(entry)

    def note_end(self, status: str, detail: str) -> None:
        self.note("finished", f"{status}: {detail}" if detail else status, failed=status == "failed")

    def _result_write(self, index: int, part: ToolResultPart) -> Write:
        step = StepRecord(
            number=self.number + 1,
            kind="result",
            message=MESSAGE.dump_python(Message("tool", (part,)), mode="json"),
            created_at=self._clock.now(),
            expire_at=self._run.expire_at,
        )
        return Put(self._paths.result(self._run.id, self.number + 1, index), step.data(), ABSENT)

    def _run_write(self, kind: str = "result") -> Write:
        changed: dict[str, Any] = {"log": self.log, "event": self.cursor, **self.found()}
        if kind == "tools" and self._run.decisions:
            changed["decisions"] = None  # they were about this step's calls: a later one may have the same id
        path = self._paths.run(self._run.id)
        return Merge(path, changed, self._journal.known(path))

    async def _record(self, kind: Literal["model", "tools", "summary"], message: Message | None, **more: Any) -> None:
        number = self.number + 1
        step = StepRecord(
            number=number,
            kind=kind,
            message=MESSAGE.dump_python(message, mode="json") if message else None,
            created_at=self._clock.now(),
            expire_at=self._run.expire_at,
            **more,
        )
        await self._journal.commit(
            [Put(self._paths.step(self._run.id, number), step.data(), ABSENT), self._run_write(kind)]
        )
        self.number = number
