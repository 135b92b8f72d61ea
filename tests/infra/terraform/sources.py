"""infra/terraform's files, parsed: blocks by their labels, texts without their quotes."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hcl2


@cache
def read(path: Path) -> dict[str, Any]:
    """Return what python-hcl2 makes of a file. Raises its errors where it is no HCL."""
    with path.open(encoding="utf-8") as opened:
        found: dict[str, Any] = hcl2.load(opened)
    return found


def literal(text: Any) -> str:
    """Return a text of the file without the quotes around it."""
    return str(text).removeprefix('"').removesuffix('"')


def blocks(path: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the labels (joined by a dot) and the body of each block of a kind: `resource`, `variable`, `output`."""

    def below(labels: tuple[str, ...], body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        if "__is_block__" in body:
            yield ".".join(labels), body
            return
        for label, inner in body.items():
            yield from below((*labels, literal(label)), inner)

    for each in read(path).get(kind, ()):
        yield from below((), each)


def block(path: Path, kind: str, *labels: str) -> dict[str, Any]:
    """Return one block. Raises KeyError that names it."""
    for name, body in blocks(path, kind):
        if name == ".".join(labels):
            return body
    raise KeyError(f"{path}: there is no {kind} {' '.join(labels)}")
