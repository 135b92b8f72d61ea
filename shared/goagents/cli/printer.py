"""A run's events on the terminal: text on stdout, everything else on stderr; or the whole answer as JSON."""

import json
import shlex
import sys
from typing import Any

import click

from goagents.client import Transcript
from goagents.events import RunEvent
from goagents.resources import Waiting

from .terminal import note, printable, say_json_line, wants_colour

_SHOWN_OUTPUT = 200
_SHOWN = frozenset({"message.delta", "tool.started", "tool.finished"})
_REASONS = {
    "approval": "it asks for approval",
    "outcome_unknown": "nobody knows whether it was carried out before",
}


class Printer:
    """Shows the events of a run, one after the other."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._line_open = False
        self._transcript = Transcript()

    def __call__(self, event: RunEvent) -> None:
        if self._as_json:
            if event.type == "run.completed":
                say_json_line(event.data)
            return
        lost = self._transcript.add(event)
        match event.type:
            case "message.delta":
                self._text(str(event.data.get("text", "")))
            case "message.completed" | "run.completed":
                self.end_line()
            case "run.queued":
                note("queued")
            case "tool.started":
                self.end_line()
                note(f"→ {event.data.get('name')} {_short(event.data.get('arguments'))}")
            case "tool.finished":
                seconds = float(event.data.get("duration") or 0)
                sign = "✗" if event.data.get("is_error") else "←"
                note(f"{sign} {event.data.get('name')} ({seconds:.2f} s) {_short(event.data.get('output'))}")
            case "attempt":
                self._begin_anew(lost)

    def _begin_anew(self, lost: tuple[RunEvent, ...]) -> None:
        """Where something that was shown is void, the answer goes on from what holds, on a new line."""
        self.end_line()
        if any(event.type in _SHOWN for event in lost):
            note("the process was lost; its last words are void, and the answer goes on:")
            if self._transcript.is_open:
                self._text(self._transcript.text)

    def _text(self, text: str) -> None:
        if text:
            click.echo(printable(text), nl=False)
            sys.stdout.flush()
            self._line_open = not text.endswith("\n")

    def end_line(self) -> None:
        if self._line_open:
            click.echo()
            self._line_open = False


def show_waiting(waiting: Waiting, *, err: bool = True) -> None:
    """Say which calls wait for a person, with all that they would do; to stderr, or to stdout."""
    for call in waiting.calls:
        line = f"? {call.name} ({call.effect}; {_REASONS[call.reason]}), call {call.call_id}"
        click.echo(printable(line), err=err, color=wants_colour())
        click.echo(f"  {plain_json(call.arguments)}", err=err, color=wants_colour())


def typed(verb: str, run_id: str, server: str | None, *more: str) -> str:
    """Return the command to type about a run; `server` is the option of this one."""
    return shlex.join(["goagents", "runs", verb, run_id, *more, *(("--server", server) if server else ())])


def how_to_decide(run_id: str, server: str | None) -> str:
    commands = (typed("approve", run_id, server, *more) for more in ((), ("--deny",), ("--ask",)))
    return "\n  ".join(["the run waits for a person to decide:", *commands])


def plain_json(value: Any) -> str:
    """Return JSON in one line, in which nothing is hidden: what cannot be seen is escaped, so that a person decides on
    what is really there."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _short(value: Any) -> str:
    text = " ".join(str(value if value is not None else "").split())
    return text if len(text) <= _SHOWN_OUTPUT else text[: _SHOWN_OUTPUT - 1] + "…"
