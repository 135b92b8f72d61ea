"""Reads JSON, strictly."""

import json
import math
from typing import Any

from .document import MAX_DEPTH, MAX_VALUES, DocumentError, Mark, Node, mapping, sequence, too_deep, too_many
from .yaml_reader import read_yaml


def read_json(text: str, file: str | None = None) -> Node:
    """Return the one document of `text`, strictly JSON. Raises DocumentError.

    Places are known where the text is a file's, and YAML as well, which nearly all JSON is. A request's body has no
    lines that its sender would look for: the paths tell the places, at half the cost.
    """
    try:
        data = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error.msg}", Mark(file, error.lineno, error.colno)) from None
    except RecursionError:
        raise too_deep(Mark(file, 1, 1)) from None
    except ValueError as error:
        raise DocumentError(f"not JSON: {error}") from None
    return _Adopter(file).adopt(data, _places(text, file) if file else None, 0)


def _places(text: str, file: str) -> Node | None:
    try:
        return next(iter(read_yaml(text, file)), None)
    except DocumentError as error:
        if not error.malformed:
            raise
        return None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its names as they stand, twice if they stand twice."""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _check_text(text: str, mark: Mark) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DocumentError("not JSON: half a surrogate pair stands in a text", mark) from None


class _Adopter:
    """Makes a tree of JSON data, with the places of a YAML tree of the same text where there is one."""

    def __init__(self, file: str | None) -> None:
        self._file = file
        self._count = 0

    def adopt(self, data: Any, places: Node | None, depth: int) -> Node:
        mark = places.mark if places else Mark(self._file, 1, 1)
        self._count += 1
        if self._count > MAX_VALUES:
            raise too_many(mark)
        if depth > MAX_DEPTH:
            raise too_deep(mark)
        if isinstance(data, str):
            _check_text(data, mark)
        if isinstance(data, _Pairs):
            return self._mapping(data, places, mark, depth)
        if isinstance(data, list):
            items = [self.adopt(item, places and places.child(i), depth + 1) for i, item in enumerate(data)]
            return sequence(items, mark)
        return Node(data, mark)

    def _mapping(self, pairs: _Pairs, places: Node | None, mark: Mark, depth: int) -> Node:
        known = places.keys if places else {}
        for name, _ in pairs:
            _check_text(name, mark)
        adopted = [(name, known.get(name, mark), self.adopt(item, places and places.child(name), depth + 1))
                   for name, item in pairs]  # fmt: skip
        return mapping(adopted, mark)
