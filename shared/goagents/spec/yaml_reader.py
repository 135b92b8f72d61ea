"""Reads YAML from the parser's events, so that a bound is noticed as soon as it is passed.

Scalars are those of YAML 1.2's core schema (`yes` and `12:30` are texts); tags are refused, `<<` merges.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from .document import (
    MAX_DEPTH,
    MAX_DOCUMENTS,
    MAX_VALUES,
    DocumentError,
    Mark,
    Node,
    mapping,
    sequence,
    too_deep,
    too_many,
)

_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # the C parser where PyYAML was built with it
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {text: value for value in (True, False) for text in (str(value), str(value).lower(), str(value).upper())}
_INTEGER = re.compile(r"[-+]?\d{1,400}|0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?", re.ASCII)
_TAG = "tag:yaml.org,2002:"
_TOO_DEEP = "exceeded maximum nesting depth"  # libyaml from 0.2.6 on reads ahead, and stops at 1,000 levels itself


def read_yaml(text: str, file: str | None = None) -> list[Node]:
    """Return the documents of `text` that are not empty. Raises DocumentError."""
    try:
        return _Composer(text, file).documents()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Mark(file, mark.line + 1, mark.column + 1) if mark else None
        if place and error.problem == _TOO_DEEP:
            raise too_deep(place) from None
        raise DocumentError(f"not YAML: {error.problem or error.context}", place) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Mark(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise DocumentError("not YAML: a control character stands in the text", place) from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise DocumentError(f"not YAML: {type(error).__name__}") from None


class _Composer:
    def __init__(self, text: str, file: str | None) -> None:
        self._events = yaml.parse(text, Loader=_LOADER)
        self._file = file
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def documents(self) -> list[Node]:
        found: list[Node] = []
        documents = 0
        for event in self._events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            documents += 1
            if documents > MAX_DOCUMENTS:
                raise DocumentError(f"more than {MAX_DOCUMENTS} documents", self._mark(event), malformed=False)
            self._anchors = {}
            node = self._compose(next(self._events), 0)
            if node.value is not None:
                found.append(node)
        return found

    def _mark(self, event: Any) -> Mark:
        return Mark(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _compose(self, event: Any, depth: int) -> Node:
        mark = self._mark(event)
        if depth > MAX_DEPTH:
            raise too_deep(mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, mark, depth)
        self._add(1, mark)
        if isinstance(event, yaml.ScalarEvent):
            node = Node(self._scalar(event, mark), mark)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event.tag, "seq", mark)
            node = sequence([self._compose(item, depth + 1) for item in self._until(yaml.SequenceEndEvent)], mark)
        else:
            self._check_tag(event.tag, "map", mark)
            node = self._map(mark, depth)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _until(self, end: type) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event

    def _alias(self, anchor: str | None, mark: Mark, depth: int) -> Node:
        node = self._anchors.get(anchor or "")
        if node is None:
            raise DocumentError(f"the alias *{anchor} has no anchor &{anchor} that ends before it", mark)
        if depth + node.height > MAX_DEPTH:
            raise too_deep(mark)
        self._add(node.count, mark)
        return node

    def _add(self, count: int, mark: Mark) -> None:
        self._count += count
        if self._count > MAX_VALUES:
            raise too_many(mark)

    def _map(self, mark: Mark, depth: int) -> Node:
        pairs: list[tuple[str, Mark, Node]] = []
        merged: list[Node] = []
        for event in self._until(yaml.MappingEndEvent):
            place = self._mark(event)
            key = self._compose(event, depth + 1)
            value = self._compose(next(self._events), depth + 1)
            if key.value == "<<" and event.implicit[0]:
                merged.extend(self._merge_sources(value))
                continue
            pairs.append((self._key(key, event), place, value))
        node = mapping(pairs, mark)
        for source in merged:
            for name, item in source.value.items():
                if name not in node.value:
                    node.value[name], node.keys[name] = item, source.keys[name]
                    node.count += item.count
                    node.height = max(node.height, 1 + item.height)
        return node

    @staticmethod
    def _merge_sources(value: Node) -> list[Node]:
        sources = value.value if isinstance(value.value, list) else [value]
        if not all(isinstance(source.value, dict) for source in sources):
            raise DocumentError("'<<' merges mappings only", value.mark, malformed=False)
        return list(sources)

    @staticmethod
    def _key(key: Node, event: Any) -> str:
        if isinstance(key.value, dict | list):
            raise DocumentError("a key must be a text", key.mark, malformed=False)
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)  # `8080:` and `yes:` are the texts that stand there
        return str(key.value)

    def _check_tag(self, tag: str | None, kind: str, mark: Mark) -> None:
        if tag not in (None, "!", _TAG + kind):
            raise DocumentError(f"the tag {_short(tag)} is not supported; leave it out", mark, malformed=False)

    def _scalar(self, event: Any, mark: Mark) -> Any:
        if event.tag == _TAG + "str" or event.tag == "!" or (event.tag is None and not event.implicit[0]):
            return event.value
        value = _resolve(event.value)
        kinds = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str"}
        self._check_tag(event.tag, kinds[type(value)], mark)
        return value


def _resolve(text: str) -> bool | int | float | str | None:
    """Return what a plain scalar means in YAML 1.2's core schema; infinities and NaN stay texts."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def _short(tag: str | None) -> str:
    text = tag or ""
    return ("!!" + text.removeprefix(_TAG) if text.startswith(_TAG) else text)[:64]
