"""What there is to deploy: `functions.json`, typed. Standard library only: the release pipeline reads it, too."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from goagents.errors import Invalid

GATEWAY = "gateway"
EVERYTHING = "/*"


@dataclass(frozen=True, slots=True)
class Smoke:
    """A request that a function answers with `status` where it works and has its configuration."""

    method: str
    path: str
    status: int


@dataclass(frozen=True, slots=True)
class Function:
    """One deployable function. `timeout` is in seconds, `concurrency` the requests of one instance at a time.

    `standard` functions are deployed where none is named; the gateway serves all of it in their place. `warm` are those
    whose callers wait for a model's answer: a number of instances kept for no function in particular is kept for them.
    """

    name: str
    cpu: str
    memory: str
    concurrency: int
    timeout: int
    standard: bool
    warm: bool
    called_by: Literal["users", "tasks", "scheduler"]
    paths: tuple[str, ...]
    store: bool
    models: bool
    dispatch: bool
    smoke: Smoke

    @property
    def source(self) -> str:
        """The file of the function, below the repository."""
        return f"functions/{self.name}/main.py"


@cache
def catalogue() -> Mapping[str, Function]:
    """Return the functions by name, in the order of the file."""
    text = files("goagents.deploy").joinpath("functions.json").read_text(encoding="utf-8")
    return {name: _function(name, entry) for name, entry in json.loads(text)["functions"].items()}


def _function(name: str, entry: dict[str, Any]) -> Function:
    return Function(name=name, **{**entry, "paths": tuple(entry["paths"]), "smoke": Smoke(**entry["smoke"])})


def select(names: Iterable[str] = ()) -> tuple[Function, ...]:
    """Return the functions with these names, or all; in the catalogue's order, each once.

    Raises Invalid for a name there is not, and where runs could not be gone on with: without a worker, or a sweeper.
    """
    known, wanted = catalogue(), set(names)
    if unknown := sorted(wanted - known.keys()):
        raise Invalid(f"There is no function {', '.join(unknown)}; the functions are {', '.join(known)}.")
    chosen = tuple(function for name, function in known.items() if name in wanted or not wanted)
    for path in ("/worker", "/sweep"):
        serving(chosen, path)
    return chosen


def standard() -> tuple[Function, ...]:
    """Return the functions that are deployed where none is named: one for each group of paths."""
    return tuple(function for function in catalogue().values() if function.standard)


def serving(functions: Iterable[Function], path: str) -> Function:
    """Return the one of `functions` that answers `path`: its own, else the gateway. Raises Invalid where none does."""
    found = {pattern: function for function in functions for pattern in function.paths}
    function = found.get(path) or found.get(EVERYTHING)
    if function is None:
        own = next(name for name, each in catalogue().items() if path in each.paths)
        raise Invalid(f"None of these functions serves {path}: add {own}, or {GATEWAY}, which serves all of it.")
    return function
