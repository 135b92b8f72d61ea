"""`chat`: one message and its answer, or a conversation in one session."""

import sys
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field

import click

from goagents.client import Client
from goagents.errors import Conflict, GoAgentsError, Invalid
from goagents.events import RunEvent
from goagents.messages import Usage, read_usage
from goagents.resources import Waiting

from .asking import decisions_on
from .main import command, explained
from .options import agent_id, client_of, cluster_option, output_option, server_options
from .printer import Printer, how_to_decide, show_waiting, typed
from .terminal import fail, note

try:
    import readline  # editing and history in input(); absent on Windows
except ImportError:
    readline = None  # type: ignore[assignment]


@command()
@cluster_option()
@click.option("--agent", "-a", metavar="NAME", help="Name of the agent; needed where the cluster has several.")
@click.option("--session", "session_id", metavar="ID", help="Go on in this session.")
@click.argument("message", required=False)
@server_options
@output_option
def chat(
    cluster: str,
    agent: str | None,
    session_id: str | None,
    message: str | None,
    server: str | None,
    namespace: str,
    output: str,
) -> None:
    """Talk to an agent.

    With MESSAGE its answer is streamed to stdout, what its tools do to stderr. Without, a conversation in one session
    begins: Ctrl-C interrupts an answer, Ctrl-D ends. With --output json each answer is one line of JSON. Where the
    agent needs a person's approval, it is asked for on the terminal; where there is none, the exit status is 1.
    """
    with client_of(server, namespace) as client:
        name = agent or only_agent(client, cluster)
        talk = Conversation(client, agent_id(namespace, cluster, name), session_id, output == "json", server)
        if message is None:
            _converse(talk)
            return
        answered = talk.say(message)
        note(talk.summary)
    if not answered:
        click.get_current_context().exit(1)


def only_agent(client: Client, cluster: str) -> str:
    """Return the name of a cluster's agent. Raises Invalid where it has several."""
    names = [agent.name for agent in client.get_cluster(cluster).agents]
    if len(names) != 1:
        raise Invalid(f"the cluster {cluster} has several agents: name one by --agent ({', '.join(names)})")
    return names[0]


@dataclass
class Conversation:
    """Messages to one agent in one session. `server` is the option that named the server."""

    client: Client
    agent: str
    session_id: str | None
    as_json: bool
    server: str | None
    usage: Usage = field(default_factory=Usage)
    run_id: str | None = None

    def say(self, message: str) -> bool:
        """Send a message and show what happens until the answer is complete.

        Return whether it is; a person may leave a decision for later. Raises what the run raises.
        """
        self.run_id = None
        show = Printer(self.as_json)
        try:
            waits = self._follow(self.client.stream(self.agent, message, session_id=self.session_id), show)
            while waits is not None:
                if not self._decide(Waiting.model_validate(waits.data.get("waiting"))):
                    return False
                waits = self._follow(self.client.follow_run(self.run_id or "", after=waits.id), show)
        except GoAgentsError:
            show.end_line()
            raise
        except KeyboardInterrupt:
            cancel = f"; `{typed('cancel', self.run_id, self.server)}` cancels it" if self.run_id else ""
            note(f"\ninterrupted; the agent finishes, and its answer will be in the session{cancel}")
            raise
        return True

    def _follow(self, events: Generator[RunEvent, None, None], show: Printer) -> RunEvent | None:
        """Show the events; return the one that says the run waits for a person, if it does."""
        with closing(events):
            for event in events:
                self.run_id = event.data.get("run_id", self.run_id)
                self.session_id = event.data.get("session_id", self.session_id)
                if event.type == "run.completed":
                    self.usage += read_usage(event.data.get("usage", {}))
                show(event)
                if event.type == "run.waiting":
                    show.end_line()
                    return event
        return None

    def _decide(self, waiting: Waiting) -> bool:
        """Ask what becomes of the calls, and say so to the run. Return whether it goes on."""
        run_id = self.run_id or ""
        if not sys.stdin.isatty():
            show_waiting(waiting)
            note(how_to_decide(run_id, self.server))
            return False
        decisions = decisions_on(waiting)
        if decisions is None:
            note(how_to_decide(run_id, self.server))
            return False
        try:
            self.client.approve_run(run_id, decisions)
        except Conflict as error:  # somebody else decided meanwhile
            note(error.detail)
        return True

    @property
    def summary(self) -> str:
        tokens = f"{self.usage.input_tokens} tokens in, {self.usage.output_tokens} out"
        return f"session {self.session_id} ({tokens})"


def _converse(talk: Conversation) -> None:
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        note(f"{talk.agent} on {talk.client.server}. Ctrl-C interrupts an answer, Ctrl-D ends.")
    failed = False
    while (message := _read(is_terminal)) is not None:
        if message.strip():
            failed = not _answer(talk, message, is_terminal=is_terminal)
        if failed and not is_terminal:
            break
    if talk.session_id:
        note(talk.summary)
    if failed and not is_terminal:
        click.get_current_context().exit(1)


def _read(is_terminal: bool) -> str | None:
    """Return the next message, or None at the end of the input. Ctrl-C at the prompt begins a new line."""
    while True:
        try:
            return input("> " if is_terminal else "")
        except EOFError:
            if is_terminal:
                click.echo(err=True)
            return None
        except KeyboardInterrupt:
            if not is_terminal:
                raise
            click.echo(err=True)


def _answer(talk: Conversation, message: str, *, is_terminal: bool) -> bool:
    """Return whether the message was answered; a conversation on a terminal goes on after an error."""
    try:
        return talk.say(message)
    except GoAgentsError as error:
        fail(explained(error))
        return False
    except KeyboardInterrupt:
        if not is_terminal:
            raise
        return True
