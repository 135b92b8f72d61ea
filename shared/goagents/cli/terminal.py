"""Writing to the terminal: answers on stdout, everything else on stderr; colours only where someone sees them.

Imports nothing heavy: every command uses it.
"""

import json
import os
import re
import sys
from typing import IO, Any

import click

# Escape sequences in what a model or a server sent could move the cursor or change the terminal's title.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return `text` without control characters; line feeds and tabs stay."""
    return _CONTROL.sub("", text.replace("\r\n", "\n"))


def wants_colour() -> bool | None:
    """False where NO_COLOR asks for none (no-color.org); None leaves it to whether the stream is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def say(text: str) -> None:
    """Print a line of the answer."""
    click.echo(text, color=wants_colour())


def note(text: str, *, stream: IO[str] | None = None) -> None:
    """Print a line of progress, to stderr."""
    click.secho(printable(text), file=stream or sys.stderr, dim=True, color=wants_colour())


def warn(text: str) -> None:
    click.echo(click.style("Warning: ", fg="yellow") + printable(text), err=True, color=wants_colour())


def fail(text: str) -> None:
    click.echo(click.style("Error: ", fg="red", bold=True) + printable(text), err=True, color=wants_colour())


def say_json(value: Any) -> None:
    """Print a model, or JSON-ready data that may hold models."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def say_json_line(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):  # a pydantic model; importing pydantic to ask would slow down `--help`
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is not JSON")
