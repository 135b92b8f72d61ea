"""Tables as kubectl draws them: plain columns, nothing cut off where the output is no terminal."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .terminal import printable, wants_colour

_UNLIMITED = 10_000
_STYLES = {"active": "green", "available": "green", "idle": "cyan", "unavailable": "red", "unknown": "dim"}


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _UNLIMITED, highlight=False)
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().splitlines():
        click.echo(line.rstrip(), color=wants_colour())


def _cell(value: object) -> Text:
    text = "-" if value is None or value == "" else printable(str(value)).replace("\n", " ")
    return Text(text, style=_STYLES.get(text, ""))


def ago(when: datetime | None) -> str | None:
    """Return how long ago `when` was: `3s`, `5m`, `2h`, `4d`."""
    if when is None:
        return None
    seconds = max(0, int((datetime.now(UTC) - when).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
