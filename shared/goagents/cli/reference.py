"""docs/cli.md, made from the commands: `python -m goagents.cli.reference > docs/cli.md`."""

from collections.abc import Iterator
from inspect import cleandoc

import click

from .main import COMMANDS, cli

_HEAD = """\
<!-- Generated from the commands by `python -m goagents.cli.reference > docs/cli.md`; do not edit. -->

# Command line

"""
_FOOT = """\
## What all commands share

- Answers go to stdout, everything else (progress, warnings, errors) to stderr. `--output json` prints JSON and nothing
  else on stdout.
- The exit status is 0 for success, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C. An error is one message;
  `--debug` adds the traceback.
- The server is `--server`, else `GOAGENTS_SERVER`, else `http://127.0.0.1:8080`. The credential is `GOAGENTS_API_KEY`;
  without it, for an https server that is not this machine, the identity token of `gcloud auth print-identity-token`.
- Colours appear on a terminal only, and not where `NO_COLOR` is set.
- A proxy is taken from `HTTPS_PROXY` and `NO_PROXY`, the certificates of a private CA from `SSL_CERT_FILE`.
"""


def markdown() -> str:
    context = click.Context(cli, info_name="goagents")
    sections = [_HEAD + _text(cli), _table()]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if command is not None:
            sections.extend(_sections(command, click.Context(command, info_name=name, parent=context)))
    return "\n\n".join([*sections, _FOOT])


def _table() -> str:
    rows = "\n".join(f"| [`{name}`](#goagents-{name}) | {text} |" for name, (_, text) in COMMANDS.items())
    return f"| command | |\n|---|---|\n{rows}"


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {context.command_path}\n", _text(command), f"\n```\n{usage}\n```"]
    if options := list(_options(command, context)):
        parts.append("\n| option | |\n|---|---|\n" + "\n".join(options))
    if command.epilog:
        parts.append("\n```\n" + cleandoc(command.epilog.removeprefix("\b\n")) + "\n```")
    yield "\n".join(parts)
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _sections(child, click.Context(child, info_name=name, parent=context))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None and "--help" not in parameter.opts:
            names, text = record
            yield f"| `{names.replace('|', ' or ')}` | {text.replace('  [', ' [')} |"


def _text(command: click.Command) -> str:
    return cleandoc(command.help or "")


if __name__ == "__main__":
    click.echo(markdown(), nl=False)
