"""`completion`: the script that teaches a shell the commands and options."""

import click
from click.shell_completion import get_completion_class

from .main import cli, command
from .terminal import say

_HOW = {
    "bash": 'add to ~/.bashrc: eval "$(goagents completion bash)"',
    "zsh": 'add to ~/.zshrc: eval "$(goagents completion zsh)"',
    "fish": "goagents completion fish > ~/.config/fish/completions/goagents.fish",
}


@command(epilog="\b\n" + "\n".join(f"{shell}: {how}" for shell, how in _HOW.items()))
@click.argument("shell", type=click.Choice(list(_HOW)))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"this version of click knows no completion for {shell}")
    say(kind(cli, {}, "goagents", "_GOAGENTS_COMPLETE").source())
