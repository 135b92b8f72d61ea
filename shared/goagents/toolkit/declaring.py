"""From a typed function to a tool: the model of its arguments, the schema of its result, and what is wrong with it."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from pydantic import BaseModel, PydanticUserError, TypeAdapter

from goagents.errors import ConfigurationError
from goagents.spec.functions import Parameters, Wrong, first_line, hints_of, parameters_of

from .context import ToolCallContext

# As in goagents.tools.base, which a function that only serves tools need not load.
Effect = Literal["read", "idempotent", "unsafe"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_RESERVED = frozenset({"health"})
_SCALARS = frozenset({"string", "integer", "number", "boolean"})
_REFERENCE = "#/$defs/"


@dataclass(frozen=True, slots=True)
class Declared:
    """One tool. `query` has the JSON type of each parameter where all of them can travel in a URL's query, else it
    is None."""

    name: str
    description: str
    effect: Effect
    function: Callable[..., Any]
    parameters: Parameters
    result: TypeAdapter[Any]
    query: Mapping[str, str] | None

    def call(self, arguments: BaseModel, context: ToolCallContext) -> bytes:
        """Return the result as JSON. Raises what the function raises, and ValueError for a result of another type."""
        given = self.parameters.keywords(arguments, context)
        return self.result.dump_json(self.function(**given), by_alias=True, warnings="error")


def declare(function: Any, name: str | None, description: str | None, effect: Effect) -> Declared:
    """Return the tool that `function` is. Raises ConfigurationError, naming the tool, the place and the remedy."""
    name = name or str(getattr(function, "__name__", ""))
    wrong = partial(_wrong, name)
    _check(function, name, effect, wrong)
    text = (description or inspect.getdoc(function) or "").strip()
    if not text:
        raise wrong("has no description: give it a docstring, it is what the model decides by")
    hints = hints_of(function, wrong)
    if "return" not in hints:
        raise wrong("says not what it returns: annotate it, `-> None` included")
    parameters = parameters_of(function, hints, (ToolCallContext,), name, wrong)
    return Declared(
        name=name,
        description=text,
        effect=effect,
        function=function,
        parameters=parameters,
        result=_result(hints["return"], wrong),
        query=_query(parameters.schema) if effect == "read" else None,
    )


def _wrong(name: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"tool {name or '(without a name)'}: {reason}")


def _check(function: Any, name: str, effect: str, wrong: Wrong) -> None:
    if not inspect.isfunction(function):
        raise wrong("is no function; `tool` goes above a `def`")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise wrong("is async, and the toolkit calls synchronous functions: write `def`, or asyncio.run(…) inside it")
    if inspect.isgeneratorfunction(function):
        raise wrong("is a generator: return a list, tools do not stream")
    if not _NAME.fullmatch(name):
        raise wrong("a name is 1 to 64 letters, digits, '_' or '-', beginning with a letter; set `name=`")
    if name in _RESERVED:
        raise wrong("this name is taken by the toolkit itself; set `name=`")
    if effect not in get_args(Effect):
        raise wrong(f"effect={effect!r} is unknown; it is one of {', '.join(get_args(Effect))}")


def _result(hint: Any, wrong: Wrong) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        adapter.json_schema(mode="serialization")
    except (PydanticUserError, TypeError) as error:
        raise wrong(f"its result has a type that JSON cannot carry: {first_line(error)}") from error
    return adapter


def _query(schema: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the JSON type of each argument, or None where one of them has no plain form as text."""
    required = schema.get("required", ())
    types: dict[str, str] = {}
    for name, node in schema.get("properties", {}).items():
        kinds = set(_kinds(node, schema.get("$defs", {})))
        # A query has no null: it is told by leaving the argument out, which has to mean the same.
        nullable = "null" in kinds
        kinds.discard("null")
        if len(kinds) != 1 or not kinds <= _SCALARS:
            return None
        if nullable and (name in required or node.get("default") is not None):
            return None
        types[name] = kinds.pop()
    return types


def _kinds(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    reference = node.get("$ref")
    if isinstance(reference, str):
        yield from _kinds(definitions[reference.removeprefix(_REFERENCE)], definitions)
    elif "anyOf" in node:
        for branch in node["anyOf"]:
            yield from _kinds(branch, definitions)
    else:
        kind = node.get("type")
        yield kind if isinstance(kind, str) else "any"
