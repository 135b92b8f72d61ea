"""`runs`: what agents do without anybody waiting for it, and what waits for a person."""

import sys
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from typing import Any, get_args

import click

from goagents.client import Client
from goagents.client.operations import RunStatus
from goagents.resources import Decision, Run, Waiting

from .asking import MAX_REASON, arguments_of, decisions_on
from .chat import only_agent
from .main import command
from .options import agent_id, client_of, cluster_option, output_option, server_options
from .printer import Printer, how_to_decide, show_waiting, typed
from .run_views import show_run, show_runs
from .terminal import note, say, say_json

MOST = 10_000
_STEPS = 500  # of a run, asked for at once
_agent: Callable[..., Any] = click.option(
    "--agent", "-a", metavar="NAME", help="Name of the agent; needed where the cluster has several."
)
_server: Callable[..., Any] = click.option(
    "--server", help="Address of the server; else GOAGENTS_SERVER, else http://127.0.0.1:8080."
)


@click.group()
def runs() -> None:
    """Start, follow, approve and cancel runs.

    A run is one message to an agent and all that comes of it. It goes on whether anybody looks on or not.
    """


@command(name="list")
@cluster_option(required=False, help="Only runs of this cluster.")
@click.option("--agent", "-a", metavar="NAME", help="Only runs of this agent of the cluster.")
@click.option("--session", "session_id", metavar="ID", help="Only runs of this session.")
@click.option("--status", type=click.Choice(get_args(RunStatus)), help="Only runs in this state.")
@click.option(
    "--limit", type=click.IntRange(1, MOST), default=50, show_default=True, help="Most runs to show, the newest ones."
)
@server_options
@output_option
def list_runs(
    cluster: str | None,
    agent: str | None,
    session_id: str | None,
    status: RunStatus | None,
    limit: int,
    server: str | None,
    namespace: str,
    output: str,
) -> None:
    """List your runs, the newest first."""
    if agent is not None and cluster is None:
        raise click.UsageError("name the cluster of the agent, too: --cluster")
    if session_id is not None and cluster is not None:
        raise click.UsageError("a session belongs to one cluster: give --session or --cluster, not both")
    with client_of(server, namespace) as client:
        found = client.runs(
            status=status,
            cluster=cluster if agent is None else None,
            agent=agent_id(namespace, cluster, agent) if cluster and agent else None,
            session_id=session_id,
            page_size=min(limit, 500),
        )
        items = list(islice(found, limit))
    if output == "json":
        say_json({"items": items})
    elif items:
        show_runs(items)
    else:
        note("no runs")


@command()
@click.argument("run_id", metavar="RUN")
@_server
@output_option
def show(run_id: str, server: str | None, output: str) -> None:
    """Show a run: its state, its steps, what it waits for, its error."""
    with client_of(server) as client:
        run = _whole(client, run_id)
    if output == "json":
        say_json(run)
        return
    show_run(run)
    if run.status == "waiting":
        note(how_to_decide(run.id, server))


def _whole(client: Client, run_id: str) -> Run:
    """Return the run with all its steps."""
    run = client.get_run(run_id, page_size=_STEPS)
    steps, more = list(run.steps or ()), run.next_page_token
    while more is not None:
        page = client.get_run(run_id, page_size=_STEPS, page_token=more)
        steps, more = [*steps, *(page.steps or ())], page.next_page_token
    return run.model_copy(update={"steps": steps, "next_page_token": None})  # nosec B105 - the cursor of a page


@command()
@cluster_option()
@_agent
@click.option("--session", "session_id", metavar="ID", help="Go on in this session.")
@click.option("--webhook", metavar="URL", help="Address that is told when the run has ended, or waits for a person.")
@click.option("--follow", "-f", is_flag=True, help="Stay, and show what happens, as `follow` does.")
@click.argument("message")
@server_options
@output_option
def start(
    cluster: str,
    agent: str | None,
    session_id: str | None,
    webhook: str | None,
    follow: bool,
    message: str,
    server: str | None,
    namespace: str,
    output: str,
) -> None:
    """Say something to an agent, and do not wait for the answer."""
    with client_of(server, namespace) as client:
        agent = agent or only_agent(client, cluster)
        run = client.start_run(agent_id(namespace, cluster, agent), message, session_id=session_id, webhook_url=webhook)
        if follow:
            note(f"run {run.id} in session {run.session_id}")
            _follow(client, run.id, None, output == "json", server)
            return
    if output == "json":
        say_json(run)
        return
    say(f"run {run.id} {run.status} (session {run.session_id})")
    note(f"Follow it: {typed('follow', run.id, server)}")


@command()
@click.argument("run_id", metavar="RUN")
@click.option("--call", "call_id", metavar="ID", help="Decide on this call only; else on all that wait.")
@click.option("--deny", is_flag=True, help="Refuse: the agent is told no.")
@click.option("--reason", metavar="TEXT", help="Why; the agent is told.")
@click.option("--arguments", metavar="JSON", help="Carry the call out with these arguments instead of the agent's.")
@click.option("--ask", is_flag=True, help="Show each call, and ask what becomes of it.")
@_server
@output_option
def approve(
    run_id: str,
    call_id: str | None,
    deny: bool,
    reason: str | None,
    arguments: str | None,
    ask: bool,
    server: str | None,
    output: str,
) -> None:
    """Decide on what a run waits with, and let it go on.

    The calls are carried out, or with --deny they are not. What they are, `goagents runs show RUN` tells.
    """
    if ask and (call_id or deny or reason or arguments):
        raise click.UsageError("--ask asks for all of it: give no other option of the decision")
    with client_of(server) as client:
        decisions = _asked(client.get_run(run_id)) if ask else [_decision(call_id, deny, reason, arguments)]
        run = client.approve_run(run_id, decisions)
    if output == "json":
        say_json(run)
        return
    say(f"run {run.id} goes on")
    note(f"Follow it: {typed('follow', run.id, server)}")


def _decision(call_id: str | None, deny: bool, reason: str | None, arguments: str | None) -> Decision:
    if deny and arguments is not None:
        raise click.UsageError("a call that is refused has no arguments: give --deny or --arguments, not both")
    if reason is not None and len(reason) > MAX_REASON:
        raise click.BadParameter(f"at most {MAX_REASON} characters", param_hint="--reason")
    try:
        given = None if arguments is None else arguments_of(arguments)
    except ValueError as fault:
        raise click.BadParameter(str(fault), param_hint="--arguments") from fault
    return Decision(call_id=call_id, decision="deny" if deny else "allow", arguments=given, reason=reason)


def _asked(run: Run) -> list[Decision]:
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: give the decision by options")
    if run.waiting is None:
        raise click.ClickException(f"run {run.id} is {run.status}, and waits for nobody")
    decisions = decisions_on(run.waiting)
    if decisions is None:
        raise click.Abort
    return decisions


@command()
@click.argument("run_id", metavar="RUN")
@click.option("--reason", metavar="TEXT", help="Why; it is kept with the run.")
@_server
@output_option
def cancel(run_id: str, reason: str | None, server: str | None, output: str) -> None:
    """Cancel a run.

    A run that a process works on ends as soon as that notices. What its tools did stays done.
    """
    with client_of(server) as client:
        run = client.cancel_run(run_id, reason)
    if output == "json":
        say_json(run)
    elif run.status == "cancelled":
        say(f"run {run.id} cancelled")
    else:
        say(f"run {run.id} is {run.status}, and will be cancelled")


@command()
@click.argument("run_id", metavar="RUN")
@click.option("--after", metavar="ID", help="Show what came after this event (ATTEMPT-NUMBER).")
@_server
@output_option
def follow(run_id: str, after: str | None, server: str | None, output: str) -> None:
    """Show what happens in a run, from its beginning to its end.

    As in `goagents chat`: the answer goes to stdout, everything else to stderr, and with --output json the answer is
    one line of JSON. It stays while the run waits for a person. The exit status is 0 when the run succeeded. Ctrl-C
    ends the looking on, not the run.
    """
    with client_of(server) as client:
        _follow(client, run_id, after, output == "json", server)


def _follow(client: Client, run_id: str, after: str | None, as_json: bool, server: str | None) -> None:
    show_event = Printer(as_json)
    try:
        with closing(client.follow_run(run_id, after=after)) as events:
            for event in events:
                show_event(event)
                # What waited long ago may be decided by now.
                if event.type == "run.waiting" and client.get_run(run_id).status == "waiting":
                    show_event.end_line()
                    show_waiting(Waiting.model_validate(event.data.get("waiting")))
                    note(how_to_decide(run_id, server))
    except KeyboardInterrupt:
        note(f"\nthe run goes on; `{typed('cancel', run_id, server)}` cancels it")
        raise
    finally:
        show_event.end_line()


for _each in (list_runs, show, start, follow, approve, cancel):
    runs.add_command(_each)
