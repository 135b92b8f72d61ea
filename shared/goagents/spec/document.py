"""A document as a tree that knows where each value stands, and the bounds every document keeps.

Hostile documents are refused before they cost anything: bytes, nesting, the number of values (aliases counted as what
they stand for) and of documents are bounded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_BYTES = 4 << 20
MAX_DEPTH = 64
MAX_VALUES = 50_000
MAX_DOCUMENTS = 200


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; line and column count from 1."""

    file: str | None
    line: int
    column: int


class DocumentError(Exception):
    """The text cannot be read. `malformed`: it is no YAML or JSON at all; else it breaks one of our bounds."""

    def __init__(self, message: str, mark: Mark | None = None, *, malformed: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark
        self.malformed = malformed


@dataclass(slots=True)
class Node:
    """A value and its place. `value` is a dict of name to Node, a list of Nodes, or a scalar.

    `count` is the number of values in it with aliases expanded, `height` the levels below it. `keys` holds the marks
    of a mapping's keys, `repeated` the keys that stand there twice. `resolved`: a reference stood
    here, so the value may be a secret and is not shown.
    """

    value: Any
    mark: Mark
    count: int = 1
    height: int = 0
    keys: dict[str, Mark] = field(default_factory=dict)
    repeated: list[tuple[str, Mark]] = field(default_factory=list)
    resolved: bool = False

    def plain(self) -> Any:
        """Return the value without the places."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, part: str | int) -> "Node | None":
        if isinstance(self.value, dict):
            found: Node | None = self.value.get(part)
            return found
        if isinstance(self.value, list) and isinstance(part, int) and part < len(self.value):
            item: Node = self.value[part]
            return item
        return None

    def repetitions(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mark]]:
        """Yield path and mark of each key that stands twice in its mapping."""
        for name, mark in self.repeated:
            yield (*path, name), mark
        if isinstance(self.value, dict):
            for name, node in self.value.items():
                yield from node.repetitions((*path, name))
        elif isinstance(self.value, list):
            for i, node in enumerate(self.value):
                yield from node.repetitions((*path, str(i)))


def too_deep(mark: Mark) -> DocumentError:
    return DocumentError(f"nested deeper than {MAX_DEPTH} levels", mark, malformed=False)


def too_many(mark: Mark) -> DocumentError:
    return DocumentError(
        f"more than {MAX_VALUES} values, aliases counted as what they stand for", mark, malformed=False
    )


def sequence(items: Sequence[Node], mark: Mark) -> Node:
    height = 1 + max((item.height for item in items), default=0)
    return Node(list(items), mark, 1 + sum(item.count for item in items), height)


def mapping(pairs: Sequence[tuple[str, Mark, Node]], mark: Mark) -> Node:
    node = Node({}, mark)
    for name, place, item in pairs:
        if name in node.value:
            node.repeated.append((name, place))
            continue
        node.value[name] = item
        node.keys[name] = place
        node.count += item.count
        node.height = max(node.height, 1 + item.height)
    return node
