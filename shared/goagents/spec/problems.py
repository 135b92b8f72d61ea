"""Turns pydantic's errors into ours: a dotted path, a place in the file, and a message that says the remedy."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from goagents.errors import FieldError

from .document import Mark, Node
from .models import nearest
from .shapes import Shape, shape_at
from .types import DNS_LABEL, TOOL_NAME, format_duration

_MESSAGES = {
    "missing": "is required",
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "the number is too large",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of names to values",
    "union_tag_not_found": "is required: the kind of tool, such as `http`",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "greater than or equal to"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "less than or equal to"),
}
_WORD = "must be 1 to 128 letters, digits or !#$%&'*+.^_`|~-, without spaces"
PATTERNS = {
    DNS_LABEL: "must be a DNS label: lower-case letters, digits and '-', at most 63, not starting or ending with '-'",
    TOOL_NAME: "must be 1 to 64 letters, digits, '_' or '-'",
    r"^[A-Za-z_][A-Za-z0-9_]{0,255}$": "must be a name: letters, digits and '_', not starting with a digit",
    r"^[A-Za-z0-9_./:@+=-]{1,512}$": "must be the name of a secret: letters, digits and _./:@+=-, without spaces",
    r"^[A-Za-z0-9_-]{0,48}$": "must be up to 48 letters, digits, '_' or '-'",
    r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$": _WORD,
    r"^[^\r\n\x00]*$": "must be one line",
    r"^[\x21\x23-\x5b\x5d-\x7e]{1,256}$": "must be one scope: letters, digits and marks, no spaces, no quotes",
    r"^[^.\s]{1,128}(\.[^.\s]{1,128}){0,7}$": "must be a dotted path such as header.id, of at most 8 names",
    r"^/[A-Za-z0-9._~/-]*$": "must be a path: a '/', then letters, digits and ._~/-",
    r"^\d{4}-\d{2}-\d{2}$": "must be a date such as 2023-06-01, in quotes",
    r"^v\d[a-z0-9]*$": "must be a version such as v1beta",
    r"^projects/[^/]+/locations/[^/]+/queues/[^/]+$": "must be projects/PROJECT/locations/LOCATION/queues/QUEUE",
}
# What other tools call it.
_MEANT: Mapping[tuple[str | int, ...], str] = {
    ("mcp", "url"): "`server`, which takes a URL",
    ("mcp", "command"): "`server`, which takes a command line",
    ("python", "function"): "`target`, as module:function",
    ("python", "module"): "`target`, as module:function",
}
_UNKNOWN = ("extra_forbidden", "plugin_field")
_MAX_NAMED = 8


def field_error(path: str, message: str, mark: Mark | None) -> FieldError:
    """Return a FieldError at `mark`."""
    if mark is None:
        return FieldError(path, message)
    if mark.file is None:
        return FieldError(path, message, None, mark.line, mark.column)
    return FieldError(path, message, mark.file, mark.line, mark.column)


def error_at(node: Node, path: str, message: str) -> FieldError:
    """Return a FieldError at what `path` leads to from `node`, or at the innermost part of the way that is there."""
    here = node
    for part in path.split("."):
        child = here.child(int(part) if isinstance(here.value, list) and part.isdigit() else part)
        if child is None:
            break
        here = child
    return field_error(path, message, here.mark)


def field_errors(error: ValidationError, node: Node, model: type[BaseModel]) -> Iterator[tuple[str, FieldError]]:
    """Yield pydantic's error type and our error, for each thing wrong with `node` as a `model`."""
    for line in error.errors(include_url=False, include_input=False):
        kind = line["type"]
        location = line["loc"]
        place = _Place(node)
        for i, part in enumerate(location):
            place.enter(part, last=i == len(location) - 1, kind=kind)
        if kind == "too_short" and place.node is not None and place.node.value:
            continue  # pydantic counts what is valid; the items' own errors say more
        around = shape_at(model, location[:-1], node)
        message = _message(line, place, around, shape_at(model, location, node))
        yield kind, field_error(place.path, message, place.mark)


class _Place:
    """Follows pydantic's location through the document; parts that are no keys (tags of unions) move nothing.

    `short`: a value stands where a mapping is expected, and stands for a field of it.
    """

    def __init__(self, node: Node) -> None:
        self.node: Node | None = node
        self.mark = node.mark
        self.parts: list[str] = []
        self.short = False
        self._tagged = False

    @property
    def path(self) -> str:
        return ".".join(self.parts)

    def enter(self, part: str | int, *, last: bool, kind: str) -> None:
        if self.node is None or part == "[key]":
            return
        if not last and not self._tagged and self._is_tag(part):
            self._tagged = True
            return
        self._tagged = False
        child = self.node.child(part)
        if child is not None:
            keys = self.node.keys
            self.mark = keys[part] if last and kind in _UNKNOWN and part in keys else child.mark
            self.node = child
            self.parts.append(str(part))
        elif last and kind == "missing":
            self.node = None
            self.parts.append(str(part))
        else:
            self.short = not isinstance(self.node.value, dict)

    def _is_tag(self, part: str | int) -> bool:
        tag = self.node.child("type") if self.node else None
        return isinstance(part, str) and tag is not None and tag.value == part


def _message(line: Any, place: _Place, around: Shape, shape: Shape) -> str:
    """Return what is wrong. `around` is what the field is in."""
    kind, context = line["type"], line.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown field" + _meant(line["loc"], around.fields)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _tag_message(kind, context, place)
    if kind == "literal_error":
        return _not_among(shape.values, place, context)
    if kind == "value_error":
        return str(context["error"])
    return _type_message(kind, place, around, shape) or _bound_message(kind, context, shape) or _ours(line["msg"])


def _type_message(kind: str, place: _Place, around: Shape, shape: Shape) -> str | None:
    if kind == "string_type" and place.node is not None and isinstance(place.node.value, bool | int | float):
        return "must be a text; put it in quotes"
    if kind in ("int_type", "int_parsing") and place.short:
        return f"{_MESSAGES[kind]}, or a mapping with {_named(around.fields)}"
    if kind == "model_type" and 0 < len(shape.fields) <= _MAX_NAMED:
        return f"must be a mapping with {_named(shape.fields)}"
    return _MESSAGES.get(kind)


def _bound_message(kind: str, context: Any, shape: Shape) -> str | None:
    if kind in _BOUNDS and shape.is_duration:
        name, words = _BOUNDS[kind]
        return f"should be {words} {format_duration(context[name]) if context[name] else 0}"
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(context["pattern"], f"must match {context['pattern']}")
    if kind == "string_too_short" and context["min_length"] == 1:
        return "must not be empty"
    thing = {"too": "item", "string_too": "character"}.get(kind.rpartition("_")[0])
    if thing is None or not kind.endswith(("_short", "_long")):
        return None
    short = kind.endswith("_short")
    bound, words = (context["min_length"], "at least") if short else (context["max_length"], "at most")
    return f"must have {words} {bound} {thing}{'' if bound == 1 else 's'}"


def _ours(message: str) -> str:
    return message.replace("Input should", "should").replace("Value should", "should")


def _tag_message(kind: str, context: Any, place: _Place) -> str:
    place.parts.append("type")
    if kind == "union_tag_not_found":
        return _MESSAGES[kind]
    if place.node is not None and (tag := place.node.child("type")) is not None:
        place.mark = tag.mark
    tags = [tag.strip().strip("'") for tag in context["expected_tags"].split(",")]
    return f"unknown type '{_shown(context['tag'])}'" + _hint(str(context["tag"]), tags, everything=True)


def _not_among(values: list[str], place: _Place, context: Any) -> str:
    raw = place.node.value if place.node is not None else None
    if place.node is None or place.node.resolved or not isinstance(raw, str) or not values:
        return f"should be {context['expected']}"
    return f"unknown value '{_shown(raw)}'" + _hint(raw, values, everything=True)


def _meant(location: tuple[str | int, ...], known: list[str]) -> str:
    meant = _MEANT.get(location[-2:])
    return f"; write {meant}" if meant else _hint(str(location[-1]), known)


def _hint(name: str, known: list[str], *, everything: bool = False) -> str:
    guess = nearest(name, known)
    if guess is None:
        guess = next((other for other in known if other.lower() == name.lower()), None)
    if guess is not None:
        return f"; did you mean '{guess}'?"
    if everything or 0 < len(known) <= _MAX_NAMED:
        return f"; known are {', '.join(known)}"
    return ""


def _named(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:40] + "…"
