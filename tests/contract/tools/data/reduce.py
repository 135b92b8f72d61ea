"""Makes a published OpenAPI document smaller: python -m tests.contract.tools.data.reduce SOURCE TARGET [TAG…]

Keeps the operations that have one of the tags (all of them where none is named) as they are, what they refer to, the
security schemes and the servers; leaves out examples and what nothing refers to. README.md has the commands that made
the files here.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

METHODS = ("get", "put", "post", "delete", "head", "patch")
LEFT_OUT = ("example", "examples", "x-codeSamples", "x-readme")


def without_examples(node: Any, *, is_named: bool = False) -> Any:
    """Return `node` without examples; the keys of an object whose members have names (`is_named`) are names."""
    if isinstance(node, list):
        return [without_examples(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: without_examples(value, is_named=not is_named and key in ("properties", "schemas"))
        for key, value in node.items()
        if is_named or key not in LEFT_OUT
    }


def references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from references(each)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)


def reduced(document: dict[str, Any], tags: set[str]) -> dict[str, Any]:
    paths = {path: kept(item, tags) for path, item in document["paths"].items()}
    paths = {path: item for path, item in paths.items() if any(method in item for method in METHODS)}
    found: dict[str, Any] = {"securitySchemes": document["components"]["securitySchemes"]}
    waiting = list(references(paths))
    while waiting:
        _, _, kind, name = waiting.pop().split("/")
        if name not in found.setdefault(kind, {}):
            found[kind][name] = document["components"][kind][name]
            waiting += references(found[kind][name])
    root = {key: value for key, value in document.items() if key in ("openapi", "info", "servers", "security")}
    return root | {"paths": paths, "components": {kind: dict(sorted(each.items())) for kind, each in found.items()}}


def kept(item: dict[str, Any], tags: set[str]) -> dict[str, Any]:
    return {
        key: value
        for key, value in item.items()
        if key not in METHODS or not tags or not tags.isdisjoint(value.get("tags", ()))
    }


def main(source: str, target: str, *tags: str) -> None:
    document = yaml.load(Path(source).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    made = without_examples(reduced(document, set(tags)))
    text = json.dumps(made, indent=1, ensure_ascii=False, default=str)
    Path(target).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
