"""What the model sees of a function's result: text as it is, images as images, everything else as JSON."""

from collections import deque
from dataclasses import fields, is_dataclass
from itertools import islice
from types import GeneratorType
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from goagents.errors import ToolFailed
from goagents.messages import Content, ImagePart, TextPart
from goagents.tools.base import ToolResult

_NOTHING = "(the function returned nothing)"
_MOST = 4 << 20  # characters of JSON, about: while it is written nothing else runs, in whatever thread
_ENTRY = 4  # characters that an entry of a list or an object takes at least
_SAMPLES = 16  # entries of a list that are looked at, and four times as many of an object
_LOOKS = 1000  # at most in all: of a larger value the outer parts count
_DEPTH = 20  # beyond which nothing is cut


def render(value: Any) -> ToolResult:
    """Return the result. Raises ToolFailed for what JSON cannot carry."""
    if isinstance(value, ToolResult):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(part, TextPart | ImagePart) for part in value):
        return ToolResult(tuple(value))
    return ToolResult((_part(value),))


def _part(value: Any) -> Content:
    if value is None:
        return TextPart(_NOTHING)
    if isinstance(value, str):
        return TextPart(value)
    if isinstance(value, TextPart | ImagePart):
        return value
    if isinstance(value, GeneratorType):
        value = list(islice(value, _MOST // _ENTRY))  # one that never ends has a beginning, too
    try:
        text = to_json(_cut(value, _MOST, _DEPTH), by_alias=True, bytes_mode="base64", inf_nan_mode="null").decode()
    except (PydanticSerializationError, ValueError):
        raise ToolFailed(
            f"The function is done, and its result cannot be shown: {type(value).__name__} has no form in JSON."
        ) from None
    return TextPart(text)


def _cut(value: Any, room: float, depth: int) -> Any:
    """Return of a value that is far too large a beginning of about `room` characters, which says that it is one.

    By samples: to look at all of it would take longer than to write it. Raises ToolFailed for an object of a class:
    what that shows of itself is its own affair, so it is shown whole or not at all.
    """
    size = _size(value)
    if size <= room:
        return value
    if isinstance(value, str | bytes):
        return value[: int(room)]
    if depth == 0 or not isinstance(value, dict | list | tuple | set | frozenset):
        raise ToolFailed("The function is done, and its result is too large to be shown: ask for less.")
    count = len(value) if len(value) <= _SAMPLES else max(1, int(len(value) * room / size))
    kept: list[Any] = []
    for item in islice(value.items() if isinstance(value, dict) else value, count):
        if count > _SAMPLES:
            kept.append(item)
            continue
        # One of few may be most of it.
        own = _cut(item[1] if isinstance(value, dict) else item, room, depth - 1)
        kept.append((item[0], own) if isinstance(value, dict) else own)
        room -= _size(own) + _ENTRY
        if room <= 0:
            break
    note = f"[cut: {len(kept)} of {len(value)} are shown]"
    if len(kept) < len(value):
        kept.append(("…", note) if isinstance(value, dict) else note)
    return dict(kept) if isinstance(value, dict) else kept


def _size(value: Any) -> float:
    """Return about how many characters of JSON a value is; of many entries some are looked at, the outer ones first."""
    size = 0.0
    values = deque([(1.0, value)])  # each with how many it stands for
    for _ in range(_LOOKS):
        if not values:
            break
        weight, value = values.popleft()
        if isinstance(value, str | bytes):
            size += weight * len(value)
            continue
        whole, looked_at, inner = _inner(value)
        size += weight * whole * _ENTRY
        each = weight * whole / max(looked_at, 1)
        values.extend((each, item) for item in inner if not isinstance(item, int | float | None))
    return size


def _inner(value: Any) -> tuple[int, int, list[Any]]:
    """Return how many entries a value has, how many of them are looked at, and what those hold, names included."""
    if isinstance(value, list | tuple):
        some = value[:: len(value) // _SAMPLES + 1]
        return len(value), len(some), list(some)
    if isinstance(value, set | frozenset):
        return len(value), min(len(value), _SAMPLES), list(islice(value, _SAMPLES))
    if isinstance(value, BaseModel):
        named = vars(value)
    elif is_dataclass(value):
        named = {field.name: getattr(value, field.name, None) for field in fields(value)}
    else:
        named = value if isinstance(value, dict) else {}
    most = 4 * _SAMPLES
    return len(named), min(len(named), most), [*islice(named.values(), most), *islice(named, most)]
