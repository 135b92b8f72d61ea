"""Where a location of pydantic's leads to in the models: which model, which field."""

from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .document import Node
from .plugins import imported_spec
from .types import Duration, Location

_DURATION = get_args(Duration)[1]


@dataclass(frozen=True, slots=True)
class Shape:
    """`annotation` is without `Annotated` and `| None`; `field` is the last one on the way."""

    annotation: Any
    field: FieldInfo | None = None

    @property
    def fields(self) -> list[str]:
        """The names of the model's fields, as they are written."""
        if not _is_model(self.annotation):
            return []
        return [field.alias or name for name, field in self.annotation.model_fields.items()]

    @property
    def values(self) -> list[str]:
        """What may stand here, where that is a list."""
        return [str(value) for value in get_args(self.annotation)] if get_origin(self.annotation) is Literal else []

    @property
    def is_duration(self) -> bool:
        if self.field is None:
            return False
        options = (self.field.annotation, *get_args(self.field.annotation))
        inner = (each.__metadata__ for each in options if get_origin(each) is Annotated)
        return any(_DURATION in metadata for metadata in (self.field.metadata, *inner))


def shape_at(model: type[BaseModel], location: Location, node: Node) -> Shape:
    """Return the shape at `location` in `model`, which `node` was to be read as; an empty one where it leads out."""
    shape, here = Shape(model), node
    for part in location:
        step = _step(shape.annotation, part, here)
        if step is None:
            return Shape(None)
        shape = step
        here = here.child(part) or here  # a tag of a union moves nothing
    return shape


def _step(annotation: Any, part: str | int, here: Node) -> Shape | None:
    members = get_args(annotation)
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        member = next((each for each in members if _is_model(each) and _tag(each) == part), None)
        if member is not None:
            return Shape(member)
        tag = here.child("type")
        annotation = imported_spec(str(tag.value)) if tag is not None else None
    if _is_model(annotation):
        fields = annotation.model_fields
        found = next((field for name, field in fields.items() if part in (field.alias, name)), None)
        return found and Shape(_bare(found.annotation), found)
    if origin in (tuple, list):
        return Shape(_bare(members[0]))
    return Shape(_bare(members[1])) if origin is dict else None


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


def _tag(model: type[BaseModel]) -> Any:
    return get_args(model.model_fields["type"].annotation)[0]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
