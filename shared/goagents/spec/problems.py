"""Turns pydantic's errors into ours: a dotted path, a place in the file, and a message that says the remedy."""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from goagents.errors import FieldError

from .document import Mark, Node
from .models import nearest
from .types import DNS_LABEL, TOOL_NAME

Location = tuple[str | int, ...]

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
_PATTERNS = {
    DNS_LABEL: "must be a DNS label: lower-case letters, digits and '-', at most 63, not starting or ending with '-'",
    TOOL_NAME: "must be 1 to 64 letters, digits, '_' or '-'",
}


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
        message = _message(line, place, model, location)
        yield kind, field_error(place.path, message, place.mark)


class _Place:
    """Follows pydantic's location through the document; parts that are no keys (tags of unions) move nothing."""

    def __init__(self, node: Node) -> None:
        self.node: Node | None = node
        self.mark = node.mark
        self.parts: list[str] = []
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
            self.mark = keys[part] if last and kind == "extra_forbidden" and part in keys else child.mark
            self.node = child
            self.parts.append(str(part))
        elif last and kind == "missing":
            self.node = None
            self.parts.append(str(part))

    def _is_tag(self, part: str | int) -> bool:
        tag = self.node.child("type") if self.node else None
        return isinstance(part, str) and tag is not None and tag.value == part


def _message(line: Any, place: _Place, model: type[BaseModel], location: Location) -> str:
    kind, context = line["type"], line.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown field" + _hint(str(location[-1]), _fields(model, location[:-1]))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _tag_message(kind, context, place)
    if kind == "literal_error":
        return _not_among(_fields_values(model, location), place, context)
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_type" and place.node is not None and isinstance(place.node.value, bool | int | float):
        return "must be a text; put it in quotes"
    if kind in ("too_short", "too_long"):
        known = _length_message(kind, context)
    elif kind == "string_pattern_mismatch":
        known = _PATTERNS.get(context["pattern"], f"must match {context['pattern']}")
    else:
        known = _MESSAGES.get(kind, line["msg"].replace("Input should", "should").replace("Value should", "should"))
    return known


def _length_message(kind: str, context: Any) -> str:
    bound, words = (context["min_length"], "at least") if kind == "too_short" else (context["max_length"], "at most")
    return f"must have {words} {bound} {'item' if bound == 1 else 'items'}"


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


def _hint(name: str, known: list[str], *, everything: bool = False) -> str:
    guess = nearest(name, known)
    if guess is None:
        guess = next((other for other in known if other.lower() == name.lower()), None)
    if guess is not None:
        return f"; did you mean '{guess}'?"
    if everything or 0 < len(known) <= 8:
        return f"; known are {', '.join(known)}"
    return ""


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:40] + "…"


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    annotation = _descend(model, location)
    if not _is_model(annotation):
        return []
    return [field.alias or name for name, field in annotation.model_fields.items()]


def _fields_values(model: type[BaseModel], location: Location) -> list[str]:
    annotation = _descend(model, location)
    return [str(value) for value in get_args(annotation)] if get_origin(annotation) is Literal else []


def _descend(model: type[BaseModel], location: Location) -> Any:
    annotation: Any = model
    for part in location:
        annotation = _step(_bare(annotation), part)
        if annotation is None:
            return None
    return _bare(annotation)


def _bare(annotation: Any) -> Any:
    """Strip `Annotated` and `| None`."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, UnionType):
            members = [member for member in get_args(annotation) if member is not type(None)]
            if len(members) > 1:
                return annotation
            annotation = members[0]
        else:
            return annotation


def _step(annotation: Any, part: str | int) -> Any:
    if _is_model(annotation):
        fields = annotation.model_fields
        return next((field.annotation for name, field in fields.items() if part in (field.alias, name)), None)
    members = get_args(annotation)
    origin = get_origin(annotation)
    if origin in (tuple, list):
        return members[0]
    if origin is dict:
        return members[1]
    if origin in (Union, UnionType):
        return next((member for member in members if _is_model(member) and _tag(member) == part), None)
    return None


def _tag(model: type[BaseModel]) -> Any:
    return get_args(model.model_fields["type"].annotation)[0]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
