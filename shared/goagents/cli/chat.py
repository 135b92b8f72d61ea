"""`chat`: one message and its answer, or a conversation in one session."""

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import click

from goagents.client import Client
from goagents.errors import GoAgentsError, Invalid
from goagents.events import RunEvent
from goagents.messages import Usage

from .main import command, explained
from .options import agent_id, client_of, cluster_option, output_option, server_options
from .terminal import fail, note, printable, say_json_line

try:
    import readline  # editing and history in input(); absent on Windows
except ImportError:
    readline = None  # type: ignore[assignment]

_SHOWN_OUTPUT = 200


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
    begins: Ctrl-C interrupts an answer, Ctrl-D ends. With --output json each answer is one line of JSON.
    """
    with client_of(server, namespace) as client:
        name = agent or _only_agent(client, cluster)
        talk = Conversation(client, agent_id(namespace, cluster, name), session_id, _Printer(output == "json"))
        if message is not None:
            talk.say(message)
            note(talk.summary)
        else:
            _converse(talk)


def _only_agent(client: Client, cluster: str) -> str:
    names = [agent.name for agent in client.get_cluster(cluster).agents]
    if len(names) != 1:
        raise Invalid(f"the cluster {cluster} has several agents: name one by --agent ({', '.join(names)})")
    return names[0]


@dataclass
class Conversation:
    """Messages to one agent in one session."""

    client: Client
    agent: str
    session_id: str | None
    show: Callable[[RunEvent], None]
    usage: Usage = field(default_factory=Usage)

    def say(self, message: str) -> None:
        """Send a message and show what happens until the answer is complete. Raises what the run raises."""
        with closing(self.client.stream(self.agent, message, session_id=self.session_id)) as events:
            for event in events:
                self.session_id = event.data.get("session_id", self.session_id)
                if event.type == "run.completed":
                    self.usage += Usage(**event.data.get("usage", {}))
                self.show(event)

    @property
    def summary(self) -> str:
        tokens = f"{self.usage.input_tokens} tokens in, {self.usage.output_tokens} out"
        return f"session {self.session_id} ({tokens})"


class _Printer:
    """Shows the events of a run: text on stdout, everything else on stderr; or the whole answer as JSON."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._line_open = False

    def __call__(self, event: RunEvent) -> None:
        if self._as_json:
            if event.type == "run.completed":
                say_json_line(event.data)
            return
        match event.type:
            case "message.delta":
                self._text(str(event.data.get("text", "")))
            case "message.completed" | "run.completed":
                self.end_line()
            case "tool.started":
                self.end_line()
                note(f"→ {event.data.get('name')} {_short(event.data.get('arguments'))}")
            case "tool.finished":
                seconds = float(event.data.get("duration") or 0)
                sign = "✗" if event.data.get("is_error") else "←"
                note(f"{sign} {event.data.get('name')} ({seconds:.2f} s) {_short(event.data.get('output'))}")

    def _text(self, text: str) -> None:
        if text:
            click.echo(printable(text), nl=False)
            sys.stdout.flush()
            self._line_open = not text.endswith("\n")

    def end_line(self) -> None:
        if self._line_open:
            click.echo()
            self._line_open = False


def _short(value: Any) -> str:
    text = " ".join(str(value if value is not None else "").split())
    return text if len(text) <= _SHOWN_OUTPUT else text[: _SHOWN_OUTPUT - 1] + "…"


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
        talk.say(message)
    except GoAgentsError as error:
        fail(explained(error))
        return False
    except KeyboardInterrupt:
        if not is_terminal:
            raise
        note("\ninterrupted; the agent finishes, and its answer will be in the session")
    return True
