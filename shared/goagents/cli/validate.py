"""`validate` and `schema`: what needs no server."""

from collections.abc import Sized
from pathlib import Path
from typing import Any

import click

from goagents.errors import ConfigurationError, FieldError
from goagents.spec.load import load_files
from goagents.spec.schema import json_schema

from .main import command
from .options import output_option
from .terminal import note, say, say_json, warn


@command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--strict", is_flag=True, help="End with status 1 where there are warnings, too.")
@output_option
def validate(files: tuple[Path, ...], *, strict: bool, output: str) -> None:
    """Check files; print every error with its place.

    The files are read together, as `run` reads them: configuration and clusters, YAML or JSON. Every error is one line
    FILE:LINE:COLUMN: path: what is wrong, on stdout. What is valid and is probably not meant, such as a file that is
    not there, is a warning on stderr. Nothing is called and nothing is started.
    """
    try:
        loaded = load_files(files)
    except ConfigurationError as error:
        _report(error, output)
        click.get_current_context().exit(1)
    clusters = [f"{cluster.namespace}/{cluster.name}" for cluster in loaded.clusters]
    if output == "json":
        found_too = [_told(warning) for warning in loaded.warnings]
        say_json({"valid": True, "errors": [], "warnings": found_too, "clusters": clusters})
    else:
        for warning in loaded.warnings:
            warn(str(warning))
        found = f": {', '.join(clusters)}" if clusters else ""
        say(f"valid ({_count(files, 'file')}, {_count(clusters, 'cluster')}{found})")
    if strict and loaded.warnings:
        click.get_current_context().exit(1)


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}" + ("" if len(things) == 1 else "s")


def _report(error: ConfigurationError, output: str) -> None:
    if output == "json":
        errors = [_told(each) for each in error.errors]
        say_json({"valid": False, "errors": errors, "warnings": [], "clusters": []})
        return
    say(str(error))
    note(_count(error.errors, "error"))


def _told(found: FieldError) -> dict[str, Any]:
    return {
        "file": found.file,
        "line": found.line,
        "column": found.column,
        "path": found.path,
        "message": found.message,
    }


@command()
def schema() -> None:
    """Print the JSON Schema of the configuration format.

    Editors complete and check by it: # yaml-language-server: $schema=FILE
    """
    say_json(json_schema())
