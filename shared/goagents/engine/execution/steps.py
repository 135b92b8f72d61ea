"""The steps of a run, written to its journal as they end: what is recorded is never computed again."""

from dataclasses import asdict
from typing import Any, Literal

from goagents.clock import Clock
from goagents.messages import MESSAGE, Message, TextPart, ToolResultPart
from goagents.providers.base import ModelResponse
from goagents.records import Paths, RunRecord, StepRecord
from goagents.store.base import ABSENT, Merge, Put

from .journal import Journal

MAX_LOG = 100
MAX_TEXT = 300  # characters of one log entry


class Steps:
    """`log` is what `goagents logs` shows of the run."""

    def __init__(self, journal: Journal, paths: Paths, run: RunRecord, clock: Clock) -> None:
        self._journal = journal
        self._paths = paths
        self._run = run
        self._clock = clock
        self.number = 0
        self.log: list[dict[str, Any]] = []

    async def model_done(self, response: ModelResponse) -> None:
        """Record the model's answer and what it intends to do with tools, before any tool is called."""
        calls = response.message.tool_calls
        self.note("model", f"calls {', '.join(call.name for call in calls)}")
        await self._record(
            "model",
            response.message,
            intents=[{"call_id": call.id, "name": call.name} for call in calls],
            usage=asdict(response.usage),
        )

    async def tools_done(self, message: Message) -> None:
        """Record the results of the calls of the step before."""
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                text = "".join(c.text for c in part.content if isinstance(c, TextPart))
                self.note("tools", f"{part.name}: {text}", failed=part.is_error)
        await self._record("tools", message)

    def note(self, kind: Literal["model", "tools", "finished"], text: str, *, failed: bool = False) -> None:
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

    async def _record(self, kind: Literal["model", "tools"], message: Message, **more: Any) -> None:
        self.number += 1
        step = StepRecord(
            number=self.number,
            kind=kind,
            state="done",
            message=MESSAGE.dump_python(message, mode="json"),
            created_at=self._clock.now(),
            expire_at=self._run.expire_at,
            **more,
        )
        await self._journal.commit(
            [
                Put(self._paths.step(self._run.id, self.number), step.data(), ABSENT),
                Merge(self._paths.run(self._run.id), {"log": self.log}),
            ]
        )
