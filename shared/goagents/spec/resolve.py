"""Resolves the references of a document when a file is read: all of the configuration, and two fields of a cluster."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from goagents.errors import ConfigurationError, FieldError

from .document import Mark, Node
from .interpolation import Resolver, UnsetReference
from .problems import field_error
from .references import ENVIRONMENT, Reference

NodePath = tuple[str | int, ...]
Rule = Callable[[NodePath], bool]

_CONFIG_FILES: frozenset[NodePath] = frozenset({("server", "tls", "cert"), ("server", "tls", "key"), ("ca_bundle",)})
_MODEL_FIELDS = ("provider", "model")


@dataclass(slots=True)
class Resolution:
    """The resolved document. `unset` holds the fields left out because what they refer to is not set, `failed` those
    left out because of an error in `errors`."""

    node: Node
    errors: list[FieldError] = field(default_factory=list)
    unset: dict[str, Reference] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


def resolve_config_node(node: Node, environ: Mapping[str, str]) -> Resolution:
    """Resolve every text. A field whose variable is not set is left out; paths become relative to their file."""
    return _Walk(environ, lambda _: True, _is_config_file).run(node)


def resolve_cluster_node(node: Node, environ: Mapping[str, str]) -> Resolution:
    """Resolve `provider` and `model` of agents and fallbacks; paths of OpenAPI pages become relative to their file."""
    return _Walk(environ, _names_a_model, _is_openapi).run(node)


def _is_config_file(path: NodePath) -> bool:
    if path in _CONFIG_FILES or path[:2] == ("python", "path"):
        return True
    return len(path) == 3 and (path[0], path[2]) in (("tool_functions", "source"), ("mcp_servers", "cwd"))


def _names_a_model(path: NodePath) -> bool:
    if len(path) not in (4, 6) or path[:2] != ("spec", "agents") or path[-1] not in _MODEL_FIELDS:
        return False
    return len(path) == 4 or path[3] == "fallbacks"


def _is_openapi(path: NodePath) -> bool:
    return len(path) == 6 and path[:2] == ("spec", "agents") and path[3] == "tools" and path[5] == "openapi"


class _Walk:
    def __init__(self, environ: Mapping[str, str], resolved: Rule, is_file: Rule) -> None:
        self._resolver = Resolver({ENVIRONMENT: environ})
        self._resolved = resolved
        self._is_file = is_file

    def run(self, node: Node) -> Resolution:
        self._into = Resolution(node)
        self._into.node = self._visit(node, ()) or Node({}, node.mark)
        return self._into

    def _visit(self, node: Node, path: NodePath) -> Node | None:
        """Return the resolved node, or None to leave it out."""
        if isinstance(node.value, dict):
            visited = {name: self._visit(child, (*path, name)) for name, child in node.value.items()}
            kept = {name: child for name, child in visited.items() if child is not None}
            return Node(kept, node.mark, keys=node.keys)
        if isinstance(node.value, list):
            return Node([self._item(child, (*path, i)) for i, child in enumerate(node.value)], node.mark)
        if not isinstance(node.value, str):
            return node
        text = self._text(node, path) if self._resolved(path) and "${" in node.value else node.value
        if text is not None and self._is_file(path):
            text = _beside(text, node.mark.file)
        return None if text is None else Node(text, node.mark, resolved="${" in node.value)

    def _item(self, node: Node, path: NodePath) -> Node:
        """An item of a list cannot be left out: the ones after it would move."""
        visited = self._visit(node, path)
        if visited is not None:
            return visited
        name = _dotted(path)
        reference = self._into.unset.pop(name, None)
        if reference is not None:
            self._into.errors.append(field_error(name, f"{reference} is not set", node.mark))
        self._into.failed.add(name)
        return Node(node.value, node.mark)

    def _text(self, node: Node, path: NodePath) -> str | None:
        name = _dotted(path)
        try:
            return self._resolver.resolve(node.value) or None
        except UnsetReference as error:
            self._into.unset[name] = error.reference
            self._into.marks[name] = node.mark
        except ConfigurationError as error:
            self._into.errors.append(field_error(name, error.detail, node.mark))
            self._into.failed.add(name)
        return None


def _dotted(path: NodePath) -> str:
    return ".".join(str(part) for part in path)


def _beside(text: str, file: str | None) -> str:
    """Return a relative path as seen from the folder of `file`, absolute."""
    if file is None or text.startswith(("http://", "https://")) or "${" in text:
        return text
    return str((Path(file).parent / text).resolve())
