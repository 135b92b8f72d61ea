"""`keys new`: a fresh API key, of which the server keeps the hash only."""

import hashlib
import re
import secrets

import click

from .main import command
from .options import output_option
from .terminal import note, say, say_json

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
PREFIX = "gak_"


@click.group()
def keys() -> None:
    """Make API keys."""


@command()
@click.argument("name")
@output_option
def new(name: str, output: str) -> None:
    """Make a key for NAME and print it once, with what the configuration needs to know it by.

    The YAML for auth.api_keys goes to stdout, the key itself to stderr: only its hash belongs into a file.
    """
    if not _NAME.fullmatch(name):
        raise click.BadParameter("use lower-case letters, digits and `-`, up to 63 of them", param_hint="NAME")
    key = PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(key.encode()).hexdigest()
    if output == "json":
        say_json({"name": name, "key": key, "hash": digest})
        return
    click.echo(f"Key of {name}, shown only now: {key}", err=True)
    note("Callers send it as `Authorization: Bearer KEY`; the command line and the client read GOAGENTS_API_KEY.")
    note("Add this to the configuration:")
    say(f"auth:\n  mode: api_key\n  api_keys:\n    - name: {name}\n      hash: {digest}")


keys.add_command(new)
