"""A step of a plan: what it does, the gcloud command that does it, and how to see that it is done already."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["done", "absent", "differs"]
Judge = Callable[[Any], State]


def always(_: Any) -> State:
    """The judge of steps that are carried out each time."""
    return "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`argv` are gcloud's arguments; a step without any only looks that something is there, and `remedy` says how to
    make it. `look` are the arguments of a command whose JSON output `state` judges. `update` is carried out instead of
    `argv` where the thing is there but differs. Steps that follow one another with `together` may overlap.
    """

    id: str
    line: str
    argv: tuple[str, ...] = ()
    look: tuple[str, ...] = ()
    state: Judge = always
    update: tuple[str, ...] = ()
    remedy: str = ""
    together: bool = False
    timeout: float = 300.0  # seconds

    @property
    def command(self) -> str:
        """The command as one would type it; of a step that only looks, the looking."""
        return shlex.join(["gcloud", *(self.argv or self.look)])


def pairs(name: str, values: dict[str, str]) -> str:
    """Return an option with KEY=VALUE,… Raises ValueError for a value that would need quoting: none of ours does."""
    if any("," in value for value in values.values()):
        raise ValueError(f"{name}: a value holds a comma")
    return f"--{name}=" + ",".join(f"{key}={value}" for key, value in values.items())


def named(collection: str, name: str) -> Judge:
    """Judge a list of resources: is there one named `name` (the part of its name after `collection`)?"""
    return lambda found: "done" if any(last(each, collection) == name for each in found or ()) else "absent"


def gone(there: Judge) -> Judge:
    """Judge the opposite: is what `there` finds not there any more?"""
    return lambda found: "absent" if there(found) != "absent" else "done"


def last(resource: dict[str, Any], collection: str) -> str:
    """Return what follows `collection/` in a resource's name, up to the next slash."""
    return str(resource.get("name", "")).rpartition(f"{collection}/")[2].partition("/")[0]


def bound(role: str, member: str, expression: str | None = None) -> Judge:
    """Judge an IAM policy: does `member` have `role`, under this condition or without one?"""

    def state(policy: Any) -> State:
        bindings = (policy or {}).get("bindings", ())
        found = any(
            binding.get("role") == role
            and member in binding.get("members", ())
            and binding.get("condition", {}).get("expression") == expression
            for binding in bindings
        )
        return "done" if found else "absent"

    return state


def batches(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Yield the steps in order; those that may overlap, in one list."""
    batch: list[Step] = []
    for step in steps:
        if batch and not (step.together and batch[-1].together):
            yield batch
            batch = []
        batch.append(step)
    if batch:
        yield batch
