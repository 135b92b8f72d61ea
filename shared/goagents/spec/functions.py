"""From a Python function's type hints to the arguments of a tool: the model that validates them, their JSON Schema."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from goagents.errors import FieldError

MAX_ERRORS = 100
Wrong = Callable[[str], Exception]


@dataclass(frozen=True, slots=True)
class Parameters:
    """`names` are the arguments in the order of the model's fields; `context` is the parameter that is given the
    call's context, if there is one; `schema` is the JSON Schema of the arguments."""

    names: tuple[str, ...]
    model: type[BaseModel]
    context: str | None
    schema: Mapping[str, Any]

    def validated(self, data: Mapping[str, Any]) -> BaseModel:
        """Return the arguments. Raises pydantic's ValidationError, see `places`."""
        return self.model.model_validate_json(to_json(data))

    def keywords(self, arguments: BaseModel, context: Any) -> dict[str, Any]:
        """Return what the function is called with."""
        given = {name: getattr(arguments, _field(place)) for place, name in enumerate(self.names)}
        if self.context is not None:
            given[self.context] = context
        return given


def hints_of(function: Callable[..., Any], wrong: Wrong) -> dict[str, Any]:
    """Return the type hints, `return` among them. Raises what `wrong` makes of the reason."""
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise wrong(
            f"an annotation cannot be resolved ({error}); define its types at the module's top level"
        ) from error


def parameters_of(
    function: Callable[..., Any], hints: Mapping[str, Any], contexts: Sequence[type], name: str, wrong: Wrong
) -> Parameters:
    """Return the parameters of `function`, of which one may have a type of `contexts`. `name` is the tool's.

    Raises what `wrong` makes of the reason: no type, no plain name, a type that JSON cannot carry.
    """
    fields: dict[str, tuple[Any, FieldInfo]] = {}
    given: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name)
        if _is_context(hint, contexts):
            given.append(parameter.name)
        else:
            fields[parameter.name] = (hint, _field_of(parameter, hint, wrong))
    if len(given) > 1:
        raise wrong(f"has more than one parameter of the type {contexts[0].__name__}: {', '.join(given)}")
    model, schema = _model(name, fields, wrong)
    return Parameters(tuple(fields), model, given[0] if given else None, schema)


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def places(error: ValidationError, data: Mapping[str, Any]) -> list[FieldError]:
    """Return what does not fit, each with its dotted path within `data`; values are not repeated."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    found = {(_path(detail["loc"], data), detail["msg"]) for detail in details}
    return [FieldError(path, message) for path, message in sorted(found)[:MAX_ERRORS]]


def _path(location: tuple[int | str, ...], data: Any) -> str:
    """Return the dotted path within the data: without the names of a union's branches, which pydantic puts between."""
    path: list[str] = []
    here = data
    for part, following in pairwise((*location, None)):
        if _holds(here, part):
            here = here[part]
            path.append(str(part))
        elif following is None and isinstance(here, dict):
            path.append(str(part))  # what is missing
    return ".".join(path)


def _holds(value: Any, part: int | str | None) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _is_context(hint: Any, contexts: Sequence[type]) -> bool:
    """Whether the type is one of `contexts`, or may be (`… | None`): the model is never asked for one."""
    return any(each is context for each in (hint, *get_args(hint)) for context in contexts)


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
        raise wrong(f"its arguments have a type that JSON cannot carry: {first_line(error)}") from error
