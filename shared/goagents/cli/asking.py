"""Asking a person on the terminal what becomes of the calls a run waits with."""

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import click

from goagents.resources import Decision, Waiting, WaitingCall

from .printer import plain_json, show_waiting
from .terminal import note

try:
    import readline  # absent on Windows

    editor: ModuleType | None = readline
except ImportError:
    editor = None

MAX_REASON = 2000


def decisions_on(waiting: Waiting) -> list[Decision] | None:
    """Ask about each call. Return what was decided; None where it is to be decided later."""
    decided = []
    try:
        for call in waiting.calls:
            show_waiting(Waiting(calls=[call], since=waiting.since, until=waiting.until))
            decision = _decision(call)
            if decision is None:
                return None
            decided.append(decision)
    except (EOFError, KeyboardInterrupt):
        click.echo(err=True)
        return None
    return decided


def _decision(call: WaitingCall) -> Decision | None:
    while True:
        match _asked("[y]es / [n]o / [e]dit / [l]ater: ").strip().lower():
            case "y" | "yes":
                return Decision(call_id=call.call_id, decision="allow")
            case "n" | "no":
                reason = _asked("Why not? The model reads it; empty for no reason: ").strip()[:MAX_REASON]
                return Decision(call_id=call.call_id, decision="deny", reason=reason or None)
            case "e" | "edit":
                arguments = _edited(plain_json(call.arguments))
                if arguments is not None:
                    changed = arguments if arguments != call.arguments else None
                    return Decision(call_id=call.call_id, decision="allow", arguments=changed)
            case "l" | "later":
                return None


def _edited(text: str) -> dict[str, Any] | None:
    """Let the arguments be edited until they are an object; None where an empty line gives it up."""
    while True:
        note("The arguments as JSON; an empty line leaves them as they are and asks again:")
        text = _with_text(text, lambda: input("")).strip()
        if not text:
            return None
        try:
            return arguments_of(text)
        except ValueError as fault:
            note(str(fault))


def arguments_of(text: str) -> dict[str, Any]:
    """Return the arguments written as JSON. Raises ValueError where they are no object."""
    try:
        value = json.loads(text, parse_constant=_refused)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except ValueError as fault:
        raise ValueError(f"this is no JSON: {fault}") from fault
    if not isinstance(value, dict):
        raise ValueError('arguments are a JSON object, like {"name": "value"}')  # noqa: TRY004 - a text, not a type
    return value


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _asked(question: str) -> str:
    """The question goes to stderr: stdout is for the answer."""
    click.echo(question, nl=False, err=True)
    return input("")


def _with_text(text: str, read: Callable[[], str]) -> str:
    """Call `read` with `text` in the line, to be edited, where the terminal can do that."""
    if editor is None:
        return read()
    insert = editor.insert_text
    editor.set_startup_hook(lambda: insert(text))
    try:
        return read()
    finally:
        editor.set_startup_hook()
