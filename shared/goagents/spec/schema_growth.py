"""What a JSON Schema costs to check with: a few references, each made twice, are worth a billion schemas.

The keywords are those of JSON Schema 2020-12, and of the drafts before it: https://json-schema.org/draft/2020-12
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

MOST = 10_000  # schemas that may have to hold at one place of a value
_LEVELS = 16  # of a value that are looked into; what grows does so within them
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_SAME_PLACE = ("not", "if", "then", "else")
_SAME_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_SAME_PLACE_MAPS = ("dependentSchemas", "dependencies")
_BELOW = ("contains", "propertyNames")
_OTHERS = ("items", "additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties")
_BELOW_LISTS = ("prefixItems", "items")
_ANYWHERE = ("",)  # the place of schemas that hold for any member
_KNOWN_BASES = ("https://json-schema.org/", "http://json-schema.org/")
Place = str | int | tuple[str]  # of a member: its name, its number, or what names more than one


def check_growth(schema: Any) -> None:
    """Raise ValueError for a schema whose references make its check take for ever, or that has too many levels."""
    try:
        named = _named(schema)
        if named is not None:
            _Growth(schema, named).check()
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _named(schema: Any) -> dict[str, Any] | None:
    """Return the schemas that references may name by `$anchor` or `$id`; None where nothing refers to anything."""
    named: dict[str, Any] = {}
    refers, pending = False, [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            refers = refers or any(isinstance(node.get(keyword), str) for keyword in _REFERENCES)
            for keyword, before in (("$anchor", "#"), ("$dynamicAnchor", "#"), ("$id", ""), ("id", "")):
                if isinstance(name := node.get(keyword), str):
                    named[before + name] = node
            pending += node.values()
        elif isinstance(node, list):
            pending += node
    return named if refers else None


class _Growth:
    """Counts the schemas that have to hold at one place of a value, each as often as it is reached."""

    def __init__(self, root: Any, named: dict[str, Any]) -> None:
        self._root = root
        self._named = named
        self._open: set[int] = set()
        self._known: dict[int, tuple[int, Counter[tuple[Place, int]]]] = {}
        self._counted: dict[tuple[int, int], int] = {}
        self._nodes: dict[int, Any] = {}

    def check(self) -> None:
        if self._most(self._root, _LEVELS) > MOST:
            raise ValueError(f"its references lead to more than {MOST:,} schemas for one value: refer to each once")

    def _most(self, node: Any, levels: int) -> int:
        """The largest number of schemas at any place of a value, as many levels down."""
        known = self._counted.get((id(node), levels))
        if known is not None:
            return known
        count, below = self._here(node)
        if levels and count <= MOST:
            at: Counter[Place] = Counter()
            for (place, child), times in below.items():
                at[place] += times * self._most(self._nodes[child], levels - 1)
            anywhere = at.pop(_ANYWHERE, 0)
            patterns = sum(times for place, times in at.items() if isinstance(place, tuple))
            at = Counter({place: times for place, times in at.items() if not isinstance(place, tuple)})
            count = max(count, anywhere, max(at.values(), default=0) + anywhere + patterns, anywhere + patterns)
        self._counted[id(node), levels] = count
        return count

    def _here(self, node: Any) -> tuple[int, Counter[tuple[Place, int]]]:
        """How many schemas hold where `node` does, and those that then hold one level below, by their place."""
        if not isinstance(node, dict):
            return 1, Counter()
        if id(node) in self._open:
            raise ValueError("a reference in it leads back to itself")
        if (known := self._known.get(id(node))) is not None:
            return known
        self._open.add(id(node))
        count, below = 1, Counter[tuple[Place, int]]()
        for place, child, times in _children(node):
            self._nodes[id(child)] = child
            below[place, id(child)] += times
        for other in self._same_place(node):
            more, deeper = self._here(other)
            count += more
            below.update(deeper)
        self._open.discard(id(node))
        self._known[id(node)] = count, below
        return count, below

    def _same_place(self, node: dict[str, Any]) -> Iterator[Any]:
        for keyword in _SAME_PLACE:
            if keyword in node:
                yield node[keyword]
        for keyword in _SAME_PLACE_LISTS:
            yield from node[keyword] if isinstance(node.get(keyword), list) else ()
        for keyword in _SAME_PLACE_MAPS:
            yield from node[keyword].values() if isinstance(node.get(keyword), dict) else ()
        for keyword in _REFERENCES:
            if isinstance(target := node.get(keyword), str):
                yield self._target(target)

    def _target(self, reference: str) -> Any:
        if reference in self._named:
            return self._named[reference]
        base, _, path = reference.partition("#")
        if base.startswith(_KNOWN_BASES):
            return None  # a schema of schemas, which is sound
        node = self._named.get(base) if base else self._root
        for step in unquote(path).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and key.isdigit() and int(key) < len(node):
                node = node[int(key)]
            else:
                node = node.get(key) if isinstance(node, dict) else None
        if node is None:
            raise ValueError(f"the reference {reference[:100]!r} leads nowhere in it: write `#/…`")
        return node


def _children(node: dict[str, Any]) -> Iterator[tuple[Place, Any, int]]:
    """Yield the schemas of members with their place, and how often they hold there: what is for all others of its
    schema holds anywhere but where one of its own does."""
    own: list[Place] = []
    if isinstance(properties := node.get("properties"), dict):
        own += properties
        yield from ((name, child, 1) for name, child in properties.items())
    for keyword in _BELOW_LISTS:
        if isinstance(node.get(keyword), list):
            own += range(len(node[keyword]))
            yield from ((number, child, 1) for number, child in enumerate(node[keyword]))
    if isinstance(patterns := node.get("patternProperties"), dict):
        own += [(text,) for text in patterns] if len(patterns) == 1 else []
        yield from (((text,), child, 1) for text, child in patterns.items())
    for keyword in _BELOW:
        if isinstance(node.get(keyword), dict):
            yield _ANYWHERE, node[keyword], 1
    for keyword in _OTHERS:
        if isinstance(node.get(keyword), dict):
            yield _ANYWHERE, node[keyword], 1
            yield from ((place, node[keyword], -1) for place in own)
