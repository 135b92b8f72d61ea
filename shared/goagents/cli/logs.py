"""`logs`: what the agents of a cluster did, from the records of their runs."""

from itertools import islice

import click

from goagents.resources import LogEntry

from .main import command
from .options import client_of, cluster_option, output_option, server_options
from .terminal import note, printable, say_json, say_json_line, wants_colour

MOST = 10_000


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
            try:
                for entry in client.follow_logs(cluster, agent=agent):
                    say_json_line(entry) if output == "json" else _say_entry(entry)
            except KeyboardInterrupt:
                return
            note("the server ended the stream")
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


def _say_entry(entry: LogEntry) -> None:
    severity = click.style(f"{entry.severity:5}", fg="red" if entry.severity == "ERROR" else "green")
    when = entry.at.astimezone().isoformat(sep=" ", timespec="milliseconds")
    text = printable(entry.text).replace("\n", " ")
    click.echo(f"{when} {severity} {entry.agent} {entry.run_id} {entry.kind}: {text}", color=wants_colour())
