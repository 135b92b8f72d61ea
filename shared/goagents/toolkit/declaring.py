"""From a typed function to a tool: the model of its arguments, the schema of its result, and what is wrong with it."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter, create_model
from pydantic.fields import FieldInfo

from goagents.errors import ConfigurationError

from .context import ToolCallContext

# As in goagents.tools.base, which a function that only serves tools need not load.
Effect = Literal["read", "idempotent", "unsafe"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_RESERVED = frozenset({"health"})
_SCALARS = frozenset({"string", "integer", "number", "boolean"})
_REFERENCE = "#/$defs/"


@dataclass(frozen=True, slots=True)
class Declared:
    """One tool. `names` are its parameters in the order of the model's fields; `context` is that of its context's.

    `query` has the JSON type of each parameter where all of them can travel in a URL's query, else it is None.
    """

    name: str
    description: str
    effect: Effect
    function: Callable[..., Any]
    names: tuple[str, ...]
    arguments: type[BaseModel]
    result: TypeAdapter[Any]
    context: str | None
    query: Mapping[str, str] | None

    def call(self, arguments: BaseModel, context: ToolCallContext) -> bytes:
        """Return the result as JSON. Raises what the function raises, and ValueError for a result of another type."""
        given = {name: getattr(arguments, _field(place)) for place, name in enumerate(self.names)}
        if self.context is not None:
            given[self.context] = context
        return self.result.dump_json(self.function(**given), by_alias=True, warnings="error")


def declare(function: Any, name: str | None, description: str | None, effect: Effect) -> Declared:
    """Return the tool that `function` is. Raises ConfigurationError, naming the tool, the place and the remedy."""
    name = name or str(getattr(function, "__name__", ""))
    wrong = partial(_wrong, name)
    _check(function, name, effect, wrong)
    text = (description or inspect.getdoc(function) or "").strip()
    if not text:
        raise wrong("has no description: give it a docstring, it is what the model decides by")
    hints = _hints(function, wrong)
    if "return" not in hints:
        raise wrong("says not what it returns: annotate it, `-> None` included")
    fields: dict[str, tuple[Any, FieldInfo]] = {}
    contexts: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name)
        if hint is ToolCallContext:
            contexts.append(parameter.name)
        else:
            fields[parameter.name] = (hint, _field_of(parameter, hint, wrong))
    if len(contexts) > 1:
        raise wrong(f"has more than one parameter of the type ToolCallContext: {', '.join(contexts)}")
    model, schema = _model(name, fields, wrong)
    return Declared(
        name=name,
        description=text,
        effect=effect,
        function=function,
        names=tuple(fields),
        arguments=model,
        result=_result(hints["return"], wrong),
        context=contexts[0] if contexts else None,
        query=_query(schema) if effect == "read" else None,
    )


def _wrong(name: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"tool {name or '(without a name)'}: {reason}")


Wrong = Callable[[str], ConfigurationError]


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


def _hints(function: Callable[..., Any], wrong: Wrong) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise wrong(
            f"an annotation cannot be resolved ({error}); define its types at the module's top level"
        ) from error


def _field_of(parameter: inspect.Parameter, hint: Any, wrong: Wrong) -> FieldInfo:
    """Return the field's default and its outside name."""
    name = parameter.name
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise wrong(f"`{parameter}`: arguments have names; write them out, or take one `dict`")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise wrong(f"parameter `{name}`: is positional-only, and arguments are passed by name; remove the `/`")
    if hint is None:
        raise wrong(f"parameter `{name}`: has no type; annotate it")
    if isinstance(parameter.default, FieldInfo):
        raise wrong(f"parameter `{name}`: a Field is no default; write Annotated[…, Field(…)]")
    if any(info.alias or info.validation_alias for info in _field_infos(hint)):
        raise wrong(f"parameter `{name}`: has an alias; the argument is called as the parameter is")
    field: FieldInfo = (
        Field(alias=name) if parameter.default is parameter.empty else Field(parameter.default, alias=name)
    )
    return field


def _field_infos(hint: Any) -> Iterator[FieldInfo]:
    if get_origin(hint) is Annotated:
        yield from (extra for extra in get_args(hint)[1:] if isinstance(extra, FieldInfo))


def _field(place: int) -> str:
    return f"argument_{place}"  # the parameter's own name might be one that a pydantic model has already


def _model(
    name: str, fields: Mapping[str, tuple[Any, FieldInfo]], wrong: Wrong
) -> tuple[type[BaseModel], dict[str, Any]]:
    definitions: dict[str, Any] = {_field(place): field for place, field in enumerate(fields.values())}
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    try:
        model = create_model(f"{name}_arguments", __config__=config, **definitions)
        return model, model.model_json_schema()
    except (PydanticUserError, TypeError) as error:
        raise wrong(f"its arguments have a type that JSON cannot carry: {_first_line(error)}") from error


def _result(hint: Any, wrong: Wrong) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        adapter.json_schema(mode="serialization")
    except (PydanticUserError, TypeError) as error:
        raise wrong(f"its result has a type that JSON cannot carry: {_first_line(error)}") from error
    return adapter


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


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
