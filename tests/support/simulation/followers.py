"""Who follows a run in the simulation, from one process to the next: nothing missing, nothing twice."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from goagents.engine.watching import START, Watch
from goagents.events import TERMINAL_EVENTS, Cursor, RunEvent
from goagents.messages import MESSAGE
from goagents.testing.kill_points import never

from .ledger import PATHS, Ledger


@dataclass
class Follower:
    """`heard` is every event of one run, in the order it came."""

    run: str
    heard: list[RunEvent] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def cursor(self) -> Cursor:
        return self.heard[-1].cursor if self.heard else START

    @property
    def over(self) -> bool:
        return bool(self.heard) and self.heard[-1].type in TERMINAL_EVENTS

    async def listen(self, process: Any, watch: Watch, most: int, *, until_rest: bool = False) -> None:
        """Take in at most `most` events, as the process sends them; then leave."""
        async with aclosing(watch.events(self.cursor)) as events:
            async for event in _first(events, most):
                if process.dead:
                    await never()  # its memory has the event, but nobody hears from it any more
                self._take(event)
                if until_rest and await watch.rests(event):
                    break
        await watch.let_go()

    def _take(self, event: RunEvent) -> None:
        last = self.cursor
        if self.over:
            self.wrong.append(f"{event.id} {event.type} came after the end")
        elif event.cursor <= last:
            self.wrong.append(f"{event.id} {event.type} came after {last}")
        elif event.seq != (last.seq + 1 if event.attempt == last.attempt else 1):
            self.wrong.append(f"between {last} and {event.id} something is missing")
        elif event.seq == 1 and event.attempt > 0 and event.type not in ("attempt", "run.started"):
            self.wrong.append(f"{event.id} {event.type} begins an attempt")
        self.heard.append(event)

    def holding(self) -> list[RunEvent]:
        """Return the events that hold: without those that a later attempt made void."""
        kept: list[RunEvent] = []
        for event in self.heard:
            if event.type == "attempt":
                after = event.data["resumed_after"]
                limit = Cursor.parse(after) if after else START
                kept = [each for each in kept if each.cursor <= limit]
            kept.append(event)
        return kept

    def check(self, ledger: Ledger) -> list[str]:
        """Return what is wrong, now that the run is over: what holds must tell what the store has of it."""
        found, run = list(self.wrong), ledger.run(self.run)
        if not self.over:
            return [*found, "the last event did not come"]
        end = {"succeeded": "run.completed", "failed": "run.failed", "cancelled": "run.cancelled"}[run["status"]]
        last = self.heard[-1]
        if last.type != end or last.attempt > run["attempt"]:
            found.append(f"it {run['status']} in attempt {run['attempt']}, and the last event is {last.id} {last.type}")
        if run["status"] != "succeeded":
            return found
        messages = [
            one["message"] for one in ledger.under(PATHS.messages(run["session"])).values() if one["run"] == self.run
        ]
        return found + self._against(messages[1:])

    def _against(self, messages: list[dict[str, Any]]) -> list[str]:
        holding = self.holding()
        answers = [MESSAGE.validate_python(message) for message in messages if message["role"] == "assistant"]
        results = [
            (part.call_id, _without_note("".join(getattr(content, "text", "") for content in part.content)))
            for message in map(MESSAGE.validate_python, messages)
            for part in message.parts
            if part.type == "tool_result"
        ]
        told = {
            "completed messages": (
                [e.data["message"] for e in holding if e.type == "message.completed"],
                [MESSAGE.dump_python(answer, mode="json") for answer in answers],
            ),
            "text": (
                "".join(e.data["text"] for e in holding if e.type == "message.delta"),
                "".join(answer.text for answer in answers),
            ),
            "results": (
                sorted(
                    (e.data["call_id"], _without_note(e.data["output"])) for e in holding if e.type == "tool.finished"
                ),
                sorted(results),
            ),
        }
        return [
            f"{what}: {heard!r} holds, and stored is {stored!r}"
            for what, (heard, stored) in told.items()
            if heard != stored
        ]


async def _first(events: AsyncIterator[RunEvent], most: int) -> AsyncIterator[RunEvent]:
    async for event in events:
        yield event
        most -= 1
        if most <= 0:
            return


def _without_note(text: str) -> str:
    """Leave out what tells the model that a person changed the arguments."""
    return text.partition("[A person")[0].rstrip("\n")
