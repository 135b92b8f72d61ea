"""What a function says of itself as a tool: its arguments, its description, its effect."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, get_args

from goagents.errors import ToolUnavailable
from goagents.spec.functions import Parameters, hints_of, parameters_of
from goagents.tools.base import Effect, ToolContext

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__goagents_effect__"


@dataclass(frozen=True, slots=True)
class Function:
    """`target` names it in the log. `is_async`: it is awaited on the event loop, and has no thread."""

    call: Callable[..., Any]
    target: str
    parameters: Parameters
    description: str
    effect: Effect
    is_async: bool

    @property
    def schema(self) -> dict[str, Any]:
        return {key: value for key, value in self.parameters.schema.items() if key != "title"}


def tool(*, effect: Effect) -> Callable[[F], F]:
    """Say what repeating a call of a function does: nothing (`read`), nothing more (`idempotent`), or harm (`unsafe`).

    The function stays as it is. Raises ValueError for another effect.
    """
    if effect not in get_args(Effect):
        raise ValueError(f"effect={effect!r} is unknown; it is one of {', '.join(get_args(Effect))}")

    def marked(function: F) -> F:
        setattr(function, _MARK, effect)
        return function

    return marked


def read_function(found: Any, name: str, description: str | None) -> Function:
    """Return what the tool `name` calls. Raises ToolUnavailable with the reason it cannot be one, and the remedy."""
    wrong = partial(_wrong, name)
    if not (inspect.isfunction(found) or inspect.ismethod(found)):
        raise wrong(f"the target is {type(found).__name__!r} and no function; name a `def`")
    if inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found):
        raise wrong("the target is a generator: return a list, tools do not stream")
    text = (description or inspect.getdoc(found) or "").strip()
    if not text:
        raise wrong("has no description: give the function a docstring, or the entry a `description`")
    parameters = parameters_of(found, hints_of(found, wrong), (ToolContext,), name, wrong)
    target = f"{found.__module__}:{found.__qualname__}"
    effect: Effect = getattr(found, _MARK, "unsafe")
    return Function(found, target, parameters, text, effect, inspect.iscoroutinefunction(found))


def _wrong(name: str, reason: str) -> ToolUnavailable:
    return ToolUnavailable(f"{name}: {reason}")
