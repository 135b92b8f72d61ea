"""Reading an OpenAPI document (3.0 or 3.1, JSON or YAML) that may be hostile: bounded in size, depth and expansion."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import yaml

MAX_BYTES = 16 << 20  # GitHub's own page has 12 MB
_MAX_DEPTH = 200
_MAX_ALIASES = 10_000
_MAX_MERGED = 100_000
_MAX_HOPS = 16
_TOO_DEEP = "exceeded maximum nesting depth"  # libyaml from 0.2.6 on reads ahead, and stops at 1,000 levels itself
_MERGE = "tag:yaml.org,2002:merge"
_INTEGER = re.compile(r"[-+]?[0-9]+")


class Unsupported(ValueError):
    """The document, or one operation of it, cannot be used; the message says why."""


class Document:
    """A parsed document of OpenAPI 3."""

    def __init__(self, root: Any) -> None:
        if not isinstance(root, dict):
            raise Unsupported("it is no OpenAPI document: not an object")
        if "swagger" in root:
            raise Unsupported("it is a Swagger 2.0 document; convert it to OpenAPI 3")
        match = re.match(r"3\.([0-2])(\.|$)", str(root.get("openapi", "")))
        if match is None:
            raise Unsupported("it is no OpenAPI 3 document: its `openapi` field must say 3.0 or 3.1")
        self.root = root
        self.is_3_0 = match[1] == "0"

    def resolve(self, node: Any) -> dict[str, Any]:
        """Return the object that `node` is or refers to. Raises Unsupported."""
        for _ in range(_MAX_HOPS):
            if not isinstance(node, dict):
                raise Unsupported("an object is expected where there is none")
            reference = node.get("$ref")
            if not isinstance(reference, str):
                return node
            node = self.target(reference)
        raise Unsupported("its references go in circles")

    def target(self, reference: str) -> Any:
        """Return what a local reference (`#/components/…`) points at. Raises Unsupported."""
        if not reference.startswith("#/"):
            raise Unsupported(f"it refers outside the document ({reference[:100]})")
        node: Any = self.root
        for token in reference[2:].split("/"):
            key = unquote(token).replace("~1", "/").replace("~0", "~")
            node = _step(node, key, reference)
        return node

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
        """Yield method, path, operation and path item of every operation that is an object."""
        paths = self.root.get("paths")
        for path, item in paths.items() if isinstance(paths, dict) else ():
            if not isinstance(path, str) or not path.startswith("/") or not isinstance(item, dict):
                continue
            try:
                resolved = self.resolve(item)
            except Unsupported:
                continue  # a path kept in another document: none of its operations is known here
            for method in ("get", "head", "post", "put", "patch", "delete"):
                operation = resolved.get(method)
                if isinstance(operation, dict):
                    yield method.upper(), path, operation, resolved


def _step(node: Any, key: str, reference: str) -> Any:
    if isinstance(node, dict) and key in node:
        return node[key]
    if isinstance(node, list) and _INTEGER.fullmatch(key) and 0 <= int(key) < len(node):
        return node[int(key)]
    raise Unsupported(f"nothing is at {reference[:100]}")


def parse(content: bytes) -> Document:
    """Return the document. Raises Unsupported for what is neither JSON nor YAML, nested too deeply or inflated."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unsupported("it is not UTF-8") from None
    try:
        if text.lstrip()[:1] == "{":
            return Document(json.loads(text))
    except RecursionError:
        raise Unsupported("it is nested too deeply") from None
    except ValueError:
        pass  # YAML's flow style begins with a brace too
    return Document(_parse_yaml(text))


def _parse_yaml(text: str) -> Any:
    try:
        _check_shape(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of CSafeLoader
    except Unsupported:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if getattr(error, "problem", None) == _TOO_DEEP:
            raise _too_deep() from None
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        raise Unsupported(f"it is neither JSON nor YAML{place}") from error


def _check_shape(text: str) -> None:
    """Walk the events first: building a deeply nested tree overflows the C stack, which no exception reports."""
    depth = aliases = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise _too_deep()
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if aliases > _MAX_ALIASES:
                raise Unsupported(f"it has more than {_MAX_ALIASES} aliases")


def _too_deep() -> Unsupported:
    return Unsupported(f"it is nested more than {_MAX_DEPTH} levels deep")


class _Loader(yaml.CSafeLoader):
    """YAML as JSON has it: keys are strings, dates stay text, only true and false are booleans (`no` is a name)."""

    _merged = 0

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool")
        ]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge what `<<` names: the mapping's own keys go before, of two sources the earlier one.

        Not left to PyYAML: 6.0.4 lets the later source go before, where a key is longer than a character.
        """
        sources: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == _MERGE:
                sources += value.value if isinstance(value, yaml.SequenceNode) else [value]
        if sources:
            own = [pair for pair in node.value if pair[0].tag != _MERGE]
            node.value = own  # a source may be this mapping itself
            node.value = self._merge(node, sources) + own
        super().flatten_mapping(node)

    def _merge(self, node: yaml.MappingNode, sources: list[yaml.Node]) -> list[Any]:
        """Return the pairs of the sources, the one that goes before last."""
        merged: list[Any] = []
        for source in reversed(sources):
            if not isinstance(source, yaml.MappingNode):
                raise yaml.constructor.ConstructorError(
                    "while merging", node.start_mark, "expected a mapping", source.start_mark
                )
            self.flatten_mapping(source)
            merged += source.value
            self._merged += len(source.value)  # of the whole document: many small merges inflate it as well
            if self._merged > _MAX_MERGED:
                raise Unsupported("its merge keys (`<<`) inflate it too much")
        return merged

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        return {_key(key): value for key, value in mapping.items()}


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return key if isinstance(key, str) else str(key)


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")


def strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
