"""The entry point: finds the command, and turns every error into one clear message and an exit status.

0 is success, 1 a failure, 2 wrong usage, 130 an interruption by Ctrl-C.
"""

import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from goagents.errors import ConfigurationError, GoAgentsError, LimitExceeded

from .terminal import fail, wants_colour

# Name, where it is, and what it does: known without importing the command, so that `goagents --help` is quick.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run:run", "Serve clusters on this machine, with hot reload."),
    "deploy": ("clusters:deploy", "Create or update clusters; deploy the functions they run on."),
    "destroy": ("deploy_gcp:destroy", "Take a deployment of the functions away."),
    "status": ("status:status", "Show clusters, agents, instances and tools."),
    "scale": ("clusters:scale", "Set how many instances of an agent are kept."),
    "logs": ("logs:logs", "Show what the agents of a cluster did."),
    "delete": ("clusters:delete", "Delete a cluster with all that is its own."),
    "chat": ("chat:chat", "Talk to an agent."),
    "runs": ("runs:runs", "Start, follow, approve and cancel runs."),
    "validate": ("validate:validate", "Check files; print every error with its place."),
    "schema": ("validate:schema", "Print the JSON Schema of the configuration format."),
    "init": ("init:init", "Write a configuration and a cluster to begin with."),
    "keys": ("keys:keys", "Make API keys."),
    "mcp": ("mcp:mcp", "Sign in to MCP servers, and out."),
    "completion": ("completion:completion", "Print the completion script of a shell."),
    "version": ("version:version", "Print the version."),
}


class LazyGroup(click.Group):
    """Commands of `COMMANDS`, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"goagents.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [(name, text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=text) for name, text in names] + options


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="goagents", prog_name="goagents", message="%(prog)s %(version)s")
def cli(debug: bool) -> None:
    """GoAgents runs clusters of AI agents as stateless functions.

    The server is named by --server or GOAGENTS_SERVER, and is http://127.0.0.1:8080 otherwise. The credential is
    GOAGENTS_API_KEY, or gcloud's identity token for an https server.
    """
    click.get_current_context().ensure_object(dict)["debug"] = debug


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(status_of(lambda: _invoke(arguments), debug="--debug" in arguments))


def _invoke(arguments: list[str]) -> int:
    result = cli.main(args=arguments, prog_name="goagents", standalone_mode=False, color=wants_colour())
    return result if isinstance(result, int) else 0


def status_of(command: Callable[[], int], *, debug: bool = False) -> int:
    """Run `command`; print what it raises as one message. Return the exit status."""
    try:
        return command()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted")
        return 130
    except GoAgentsError as error:
        _trace(debug)
        fail(explained(error))
    except OSError as error:
        _trace(debug)
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:  # noqa: BLE001 - the last resort: a user gets a sentence, `--debug` the traceback
        _trace(debug)
        fail(f"internal error: {type(error).__name__}: {error}" + ("" if debug else "; --debug shows where"))
    return 1


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def explained(error: GoAgentsError) -> str:
    """Return what went wrong, with every place and what helps."""
    if isinstance(error, ConfigurationError) and any(e.file for e in error.errors):
        return str(error)
    lines = [error.detail, *(f"  {e}" for e in error.errors)]
    if isinstance(error, LimitExceeded) and error.retry_after is not None:
        lines.append(f"  try again in {error.retry_after:.0f} s")
    if error.run_id:
        lines.append(f"  run {error.run_id}")
    return "\n".join(lines)


def command(**settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command; all of them take `--debug` after their name too."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        made: click.Command = click.command(**settings)(function)
        made.params.append(
            click.Option(["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error.")
        )
        return made

    return decorate
