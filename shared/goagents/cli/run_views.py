"""Runs as tables and text."""

from collections.abc import Iterable, Iterator

import click

from goagents.messages import Message, TextPart, ToolCallPart, ToolResultPart
from goagents.resources import Run, RunStep

from .printer import show_waiting
from .tables import ago, print_table
from .terminal import printable, say

_SHOWN = 300


def show_runs(items: Iterable[Run]) -> None:
    print_table(
        ("RUN", "STATUS", "AGENT", "KIND", "SESSION", "CREATED"),
        ((run.id, run.status, run.agent, run.kind, run.session_id, ago(run.created_at)) for run in items),
    )


def show_run(run: Run) -> None:
    say(f"{click.style(run.id, bold=True)} {run.status}")
    for line in _about(run):
        say(printable(line))
    if run.steps:
        say("")
        print_table(("STEP", "KIND", "CREATED", "WHAT"), (_row(step) for step in run.steps))
    if run.waiting is not None:
        say("")
        until = run.waiting.until.astimezone().isoformat(sep=" ", timespec="seconds")
        say(f"waits for a person since {ago(run.waiting.since)}, until {until}:")
        show_waiting(run.waiting, err=False)
    if run.error is not None:
        say("")
        say(printable(f"error {run.error.get('code')}: {run.error.get('detail')}"))
    if run.output is not None:
        say("")
        say(printable(run.output.text))


def _about(run: Run) -> Iterator[str]:
    yield f"agent {run.agent} (generation {run.generation}), {run.kind}, attempt {run.attempt}"
    yield f"session {run.session_id}"
    times = {"created": run.created_at, "started": run.started_at, "finished": run.finished_at}
    yield ", ".join(f"{name} {ago(when)} ago" for name, when in times.items() if when is not None)
    if run.usage is not None:
        yield f"{run.usage.input_tokens} tokens in, {run.usage.output_tokens} out, {run.tool_calls} tool calls"
    if run.webhook is not None:
        yield f"webhook {run.webhook}"
    yield f"message: {_short(_said(run.input))}"


def _row(step: RunStep) -> tuple[object, ...]:
    what = step.text if step.message is None else _said(step.message)
    return step.number, step.kind, ago(step.created_at), _short(what or "")


def _said(message: Message) -> str:
    return " ".join(filter(None, map(_part, message.parts)))


def _part(part: object) -> str:
    match part:
        case TextPart():
            return part.text
        case ToolCallPart():
            return f"→ {part.name} {part.arguments}"
        case ToolResultPart():
            texts = " ".join(each.text for each in part.content if isinstance(each, TextPart))
            return f"{'✗' if part.is_error else '←'} {part.name} {texts}"
        case _:
            return f"[{getattr(part, 'type', 'part')}]"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
