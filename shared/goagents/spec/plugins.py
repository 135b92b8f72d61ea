"""What installed packages bring: entry points of the group `goagents.tools`, looked up when one is named.

Such an entry point leads to a function, which a `python` tool may name, or to a `ToolType`, which is a `type` of tool.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from .models import nearest
from .types import wrong_at

GROUP = "goagents.tools"
_STORED, _POSTED = "stored", "tool_types"
STORED: Mapping[str, Any] = {_STORED: True}  # of a cluster in the store, which was checked when it came


def posted(tool_types: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the context of a cluster received over HTTP, which may use these types beside GoAgents' own."""
    return {_POSTED: frozenset(tool_types)}


class PluginError(ValueError):
    """What a name leads to cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class ToolType:
    """A type of tool.

    `spec` is the model of its entries: a subclass of `goagents.spec.tools.BaseToolSpec` whose `type` is a `Literal` of
    the entry point's name. `build` says as `module:attribute` what makes a toolset of such an entry and a
    `goagents.tools.base.ToolEnvironment`; it is loaded when a cluster uses the tool.
    """

    spec: type[BaseModel]
    build: str


@cache
def _found() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def names() -> tuple[str, ...]:
    """Return the names of the group's entry points; nothing is imported."""
    return tuple(sorted(_found()))


def load(name: str) -> Any:
    """Import what an entry point leads to and return it. Raises PluginError."""
    point = _found().get(name)
    if point is None:
        there = f"there are {', '.join(names())}" if names() else "there is none"
        raise PluginError(f"no installed package has an entry point {name!r} in the group `{GROUP}`; {there}")
    try:
        return point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a package's module may raise anything
        # What else it says may hold anything.
        said = f"{type(error).__name__}: {error}" if isinstance(error, ImportError) else type(error).__name__
        raise PluginError(f"the entry point {name!r} ({point.value}) cannot be loaded: {said}") from error


def tool_type(name: str) -> ToolType:
    """Return the type of tool that a package brings under `name`. Raises PluginError."""
    found = load(name)
    if not isinstance(found, ToolType):
        raise PluginError(f"the entry point {name!r} leads to no `goagents.spec.plugins.ToolType`")
    return found


def imported_spec(name: str) -> type[BaseModel] | None:
    """Return the model of the type `name` where its package has been imported; nothing is imported for it."""
    point = _found().get(name)
    if point is None or point.module not in sys.modules:
        return None
    try:
        found = tool_type(name)
    except PluginError:
        return None
    return found.spec if isinstance(found.spec, type) and issubclass(found.spec, BaseModel) else None


@dataclass(frozen=True)
class OtherTypes:
    """Makes a union of tool types take those of packages too.

    `base` is what their models extend; `absent` that of an entry in the store whose package is not here any more, and
    of one received over HTTP whose type is not allowed.
    """

    known: tuple[str, ...]
    base: type[BaseModel]
    absent: type[BaseModel]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        written = core_schema.simple_ser_schema("any")  # as the model that it is, which the union may not know
        return core_schema.with_info_wrap_validator_function(self._validated, handler(source), serialization=written)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        others = {
            "type": "object",
            "description": "A tool of a type that an installed package brings.",
            "properties": {"type": {"type": "string", "not": {"enum": list(self.known)}}, "name": {"type": "string"}},
            "required": ["type", "name"],
        }
        return {**schema, "oneOf": [*schema["oneOf"], others]}

    def _validated(self, value: Any, handler: Any, info: ValidationInfo) -> Any:
        if isinstance(value, self.base):
            return value
        kind = value.get("type") if isinstance(value, Mapping) else None
        if not isinstance(kind, str) or kind in self.known:
            return handler(value)
        context = info.context or {}
        allowed = context.get(_POSTED)
        if allowed is not None and kind not in allowed and kind in names():
            return self.absent.model_validate(value)  # not even imported; `check_untrusted` refuses it, with all else
        try:
            spec = self._spec(kind)
        except PluginError as error:
            if context.get(_STORED):
                return self.absent.model_validate(value)
            raise _wrong_type(str(error) if kind in names() else self._unknown(kind)) from None
        try:
            return spec.model_validate(value, context=info.context)
        except ValidationError as error:
            raise _hinted(error, spec) from None

    def _spec(self, kind: str) -> type[BaseModel]:
        spec = tool_type(kind).spec
        if not isinstance(spec, type) or not issubclass(spec, self.base):
            raise PluginError(f"the entry point {kind!r}: its `spec` is no subclass of {self.base.__name__}")
        return spec

    def _unknown(self, kind: str) -> str:
        known = (*self.known, *names())
        guess = nearest(kind, known)
        hint = f"did you mean '{guess}'?" if guess else f"known are {', '.join(known)}."
        shown = kind if len(kind) <= 40 else f"{kind[:40]}…"
        return f"unknown type '{shown}'; {hint} Others come with packages, as entry points in the group `{GROUP}`"


def _wrong_type(message: str) -> ValidationError:
    return wrong_at(("type",), "tool_type", message)


def _hinted(error: ValidationError, spec: type[BaseModel]) -> ValidationError:
    """Return the error with a hint at each unknown field: the caller knows the fields of its own models only."""
    known = [field.alias or name for name, field in spec.model_fields.items()]
    details: list[InitErrorDetails] = []
    for line in error.errors(include_url=False):
        kind: str | PydanticCustomError = line["type"]
        if kind == "extra_forbidden" and len(line["loc"]) == 1:
            guess = nearest(str(line["loc"][0]), known)
            hint = f"; did you mean '{guess}'?" if guess else ""
            kind = PydanticCustomError("plugin_field", "unknown field{hint}", {"hint": hint})
        detail = InitErrorDetails(type=kind, loc=line["loc"], input=line["input"])
        details.append(detail | {"ctx": line["ctx"]} if "ctx" in line and isinstance(kind, str) else detail)
    return ValidationError.from_exception_data(spec.__name__, details)
