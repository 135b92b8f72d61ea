"""`logs`: what the agents of a cluster did, from the records of their runs."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import click

from goagents.client import Client
from goagents.resources import LogEntry

from .main import command
from .options import client_of, cluster_option, output_option, server_options
from .terminal import note, printable, say_json, say_json_line, wants_colour

MOST = 10_000
REMEMBERED = 2000  # entries that are not shown again after a stream was opened anew
PAUSE = 0.5  # seconds


@command()
@cluster_option()
@click.option("--agent", "-a", metavar="NAME", help="Only this agent.")
@click.option("--follow", "-f", is_flag=True, help="Stay, and show what happens; Ctrl-C ends.")
@click.option(
    "--limit",
    type=click.IntRange(1, MOST),
    default=200,
    show_default=True,
    help="Most entries to show, the newest runs' ones.",
)
@server_options
@output_option
def logs(
    cluster: str, agent: str | None, follow: bool, limit: int, server: str | None, namespace: str, output: str
) -> None:
    """Show what the agents of a cluster did.

    With --follow and --output json each entry is one line of JSON.
    """
    with client_of(server, namespace) as client:
        if follow:
            note(f"following {namespace}/{cluster} on {client.server}; Ctrl-C ends")
            with suppress(KeyboardInterrupt):
                for entry in _follow(client, cluster, agent):
                    say_json_line(entry) if output == "json" else _say_entry(entry)
            return
        # The server names the newest run first.
        entries = sorted(islice(client.logs(cluster, agent=agent), limit), key=lambda entry: entry.at)
    if output == "json":
        say_json({"items": entries})
        return
    for entry in entries:
        _say_entry(entry)
    if not entries:
        note("no entries yet")


def _follow(client: Client, cluster: str, agent: str | None) -> Iterator[LogEntry]:
    """Yield what happens, without end: the server ends each stream at its timeout, and the next one is opened."""
    shown: deque[LogEntry] = deque(maxlen=REMEMBERED)
    while True:
        for entry in client.follow_logs(cluster, agent=agent):
            if entry not in shown:
                shown.append(entry)
                yield entry
        time.sleep(PAUSE)
        since = shown[-1].at if shown else None
        missed = (e for e in client.list_logs(cluster, agent=agent).items if since and e.at >= since)
        for entry in sorted(missed, key=lambda e: e.at):
            if entry not in shown:
                shown.append(entry)
                yield entry


def _say_entry(entry: LogEntry) -> None:
    severity = click.style(f"{entry.severity:5}", fg="red" if entry.severity == "ERROR" else "green")
    when = entry.at.astimezone().isoformat(sep=" ", timespec="milliseconds")
    text = printable(entry.text).replace("\n", " ")
    click.echo(f"{when} {severity} {entry.agent} {entry.run_id} {entry.kind}: {text}", color=wants_colour())
