"""The AgentCluster that `apply` sends: from a mapping, a text of YAML or JSON, or a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from goagents.errors import FieldError, Invalid

MAX_SIZE = 1 << 20
# libyaml's loader where PyYAML was built with it.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def manifest_of(source: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """Return the one AgentCluster in `source`. Raises Invalid where there is none, or more than one, or no name."""
    documents = [dict(source)] if isinstance(source, Mapping) else _documents(source)
    clusters = [d for d in documents if isinstance(d, dict) and d.get("kind") == "AgentCluster"]
    if len(clusters) != 1:
        count = "no" if not clusters else str(len(clusters))
        raise Invalid(f"{_place(source)} holds {count} document of `kind: AgentCluster`; give exactly one")
    name_of(clusters[0])
    return clusters[0]


def name_of(manifest: Mapping[str, Any]) -> str:
    """Return `metadata.name`. Raises Invalid where there is none."""
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str) or not name:
        raise Invalid("the cluster has no name", errors=[FieldError("metadata.name", "is required")])
    return name


def namespace_of(manifest: Mapping[str, Any]) -> str | None:
    metadata = manifest.get("metadata")
    namespace = metadata.get("namespace") if isinstance(metadata, Mapping) else None
    return namespace if isinstance(namespace, str) else None


def _documents(source: str | Path) -> list[Any]:
    text = source.read_text("utf-8") if isinstance(source, Path) else source
    if len(text) > MAX_SIZE:
        raise Invalid(f"{_place(source)} is larger than 1 MiB")
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Invalid(f"{_place(source)} is no YAML{where}: {getattr(fault, 'problem', fault)}") from fault


def _place(source: object) -> str:
    return str(source) if isinstance(source, Path) else "the manifest"
