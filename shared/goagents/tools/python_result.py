"""What the model sees of a function's result: text as it is, images as images, everything else as JSON."""

from collections import deque
from dataclasses import fields, is_dataclass
from itertools import chain, islice
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
_PARTS = 20_000  # lists and objects that are looked at to see whether a value is as large as it seems
_NUMBERS = (int, float, type(None))
_DEPTH = 20  # beyond which nothing is cut


def render(value: Any) -> ToolResult:
    """Return the result. Raises ToolFailed for what JSON cannot carry."""
    if isinstance(value, ToolResult):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(part, TextPart | ImagePart) for part in value):
        return ToolResult(tuple(value))
    return ToolResult((_part(value),))


def read(value: Any) -> Any:
    """Return what a generator yields, as far as it is shown: one that never ends has a beginning, too. It runs here.

    All else is returned as it is.
    """
    return list(islice(value, _MOST // _ENTRY)) if isinstance(value, GeneratorType) else value


def _part(value: Any) -> Content:
    if value is None:
        return TextPart(_NOTHING)
    if isinstance(value, str):
        return TextPart(value)
    if isinstance(value, TextPart | ImagePart):
        return value
    value = read(value)
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
    if size <= room or _fits(value, room):
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
        values.extend((each, item) for item in inner if not isinstance(item, _NUMBERS))
    return size


def _fits(value: Any, room: float) -> bool:
    """Whether a value surely has no more than about `room` characters: to the samples, one large entry is many."""
    parts = [[value]]
    room += _ENTRY  # of that list
    for _ in range(_PARTS):
        if not parts:
            break
        part = parts.pop()
        named = _named(part)
        room -= _ENTRY * (len(part) if named is None else len(named))
        if room < 0:
            return False
        for item in part if named is None else chain(named.values(), named):
            if isinstance(item, str | bytes):
                room -= len(item)
            elif not isinstance(item, _NUMBERS):
                parts.append(item)
        if room < 0 or len(parts) > _PARTS:
            return False
    return not parts


def _inner(value: Any) -> tuple[int, int, list[Any]]:
    """Return how many entries a value has, how many of them are looked at, and what those hold, names included."""
    named = _named(value)
    if named is not None:
        most = 4 * _SAMPLES
        return len(named), min(len(named), most), [*islice(named.values(), most), *islice(named, most)]
    if isinstance(value, set | frozenset):
        return len(value), min(len(value), _SAMPLES), list(islice(value, _SAMPLES))
    some = value[:: len(value) // _SAMPLES + 1]
    return len(value), len(some), list(some)


def _named(value: Any) -> dict[Any, Any] | None:
    """Return what a value holds by its names; nothing of what holds nothing, None for a list or a set."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return None
    if isinstance(value, BaseModel):
        return vars(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    return {}
