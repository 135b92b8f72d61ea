"""Reads configuration: files, texts, and the body of a request. All errors of all files are reported together."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from goagents.errors import (
    BadRequest,
    ConfigurationError,
    FieldError,
    PayloadTooLarge,
    UnsupportedMediaType,
)

from .check import check_use, warn
from .check_tools import check_config, check_tools, warn_config, warn_tools
from .cluster import AgentCluster
from .config import Config
from .document import MAX_BYTES, DocumentError, Mark, Node
from .json_reader import read_json
from .models import nearest
from .plugins import posted
from .problems import field_error, field_errors
from .resolve import Resolution, resolve_cluster_node, resolve_config_node
from .yaml_reader import read_yaml

T = TypeVar("T", bound=BaseModel)
_CLUSTER_KEYS = tuple(field.alias or name for name, field in AgentCluster.model_fields.items())
_CONFIG_KEYS = tuple(Config.model_fields)
_JSON_TYPES = frozenset({"application/json"})
_YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})


@dataclass(frozen=True, slots=True)
class Loaded:
    """`sources` are the files that were read, absolute. `warnings` are what works and is probably not meant."""

    config: Config
    clusters: tuple[AgentCluster, ...]
    sources: tuple[str, ...] = ()
    warnings: tuple[FieldError, ...] = ()


def load_files(paths: Iterable[str | os.PathLike[str]], *, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read configuration files (YAML, or JSON by the name's ending) together, resolving `${…}` from `environ`.

    Trusted: `provider` and `model` are resolved here, every variable the clusters refer to must be set, and so must
    the keys of the providers their agents use. Raises ConfigurationError with every error of every file.
    """
    reader = _Reader(os.environ if environ is None else environ)
    sources = reader.read_files(paths)
    return reader.loaded(sources)


def load_clusters(
    paths: Iterable[str | os.PathLike[str]], *, environ: Mapping[str, str] | None = None
) -> tuple[AgentCluster, ...]:
    """Read the clusters of `paths` to send them to a server: their variables and keys are the server's affair, and so
    is configuration that stands in the same files. Raises ConfigurationError with every error of every file."""
    reader = _Reader(os.environ if environ is None else environ)
    reader.read_files(paths)
    clusters = tuple(cluster for _, cluster in reader.clusters())
    reader.raise_errors()
    return clusters


def load_text(text: str, source: str | None = None, *, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read one text as `load_files` reads a file; `source` names it in errors."""
    reader = _Reader(os.environ if environ is None else environ)
    reader.read_text(text, source, is_json=False)
    return reader.loaded(() if source is None else (source,))


def parse_cluster(body: bytes, content_type: str | None, tool_types: tuple[str, ...] = ()) -> AgentCluster:
    """Read the AgentCluster in a request's body. It is not trusted yet: see `interpolation.check_untrusted`.

    `tool_types` are those of packages that it may use (`allow.tool_types`); the code of others is not even imported.

    Raises UnsupportedMediaType, PayloadTooLarge, BadRequest (not UTF-8, not JSON or YAML), and ConfigurationError
    with every error.
    """
    is_json = _is_json(content_type)
    if len(body) > MAX_BYTES:
        raise PayloadTooLarge(f"A cluster is at most {MAX_BYTES >> 20} MiB")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8: byte {error.start} is invalid") from None
    reader = _Reader({}, posted(tool_types))
    try:
        reader.add_documents(text, None, is_json=is_json)
    except DocumentError as error:
        message = (
            f"{error.message} (line {error.mark.line}, column {error.mark.column})" if error.mark else error.message
        )
        if error.malformed:
            raise BadRequest(f"The body is {message}" if message.startswith("not ") else message) from None
        raise ConfigurationError(message, errors=[field_error("", error.message, error.mark)]) from None
    return reader.only_cluster()


def _is_json(content_type: str | None) -> bool:
    media_type, _, parameters = (content_type or "").partition(";")
    media_type = media_type.strip().lower()
    name, _, charset = parameters.strip().lower().partition("=")
    if name.strip() == "charset" and charset.strip().strip('"') not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType("Send the body in UTF-8")
    if media_type in _JSON_TYPES or (media_type.startswith("application/") and media_type.endswith("+json")):
        return True
    if media_type in _YAML_TYPES or (media_type.startswith("application/") and media_type.endswith("+yaml")):
        return False
    raise UnsupportedMediaType


class _Reader:
    """Gathers documents, then makes models of them. Errors are collected, never raised before the end."""

    def __init__(self, environ: Mapping[str, str], context: Mapping[str, Any] | None = None) -> None:
        self._environ = environ
        self._context = context
        self._sections = Node({}, Mark(None, 1, 1))
        self._clusters: list[Node] = []
        self._errors: list[FieldError] = []

    def read_files(self, paths: Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
        """Read each file once. Return their absolute paths."""
        absolute: list[str] = []
        for path in paths:
            real = os.path.realpath(path)
            if real not in absolute:
                absolute.append(real)
                self._read_file(Path(path))
        return tuple(absolute)

    def _read_file(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            self._error("", f"cannot be read: {(error.strerror or 'unknown reason').lower()}", Mark(str(path), 1, 1))
            return
        if len(content) > MAX_BYTES:
            self._error("", f"is larger than {MAX_BYTES >> 20} MiB", Mark(str(path), 1, 1))
            return
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = content[: error.start]
            mark = Mark(str(path), before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
            self._error("", f"is not UTF-8: byte {error.start} is invalid", mark)
            return
        self.read_text(text, str(path), is_json=path.suffix.lower() == ".json")

    def read_text(self, text: str, source: str | None, *, is_json: bool) -> None:
        try:
            self.add_documents(text, source, is_json=is_json)
        except DocumentError as error:
            self._error("", error.message, error.mark or Mark(source, 1, 1))

    def add_documents(self, text: str, source: str | None, *, is_json: bool) -> None:
        """Raises DocumentError."""
        if len(text) > MAX_BYTES:
            raise DocumentError(f"larger than {MAX_BYTES >> 20} MiB", malformed=False)
        for node in [read_json(text, source)] if is_json else read_yaml(text, source):
            self._add(node)

    def _add(self, node: Node) -> None:
        if not isinstance(node.value, dict):
            self._error("", "a document is a mapping, such as `server: …` or `kind: AgentCluster`", node.mark)
            return
        for path, mark in node.repetitions():
            self._error(".".join(path), "stands there twice", mark)
        names = [name for name in node.value if name in _CLUSTER_KEYS]
        if names:
            self._clusters.append(_part(node, names))
        for name, child in node.value.items():
            if name in _CONFIG_KEYS:
                self._add_section(name, node.keys[name], child)
            elif name not in _CLUSTER_KEYS:
                guess = nearest(name, (*_CONFIG_KEYS, *_CLUSTER_KEYS))
                self._error(
                    name[:64], "unknown field" + (f"; did you mean '{guess}'?" if guess else ""), node.keys[name]
                )

    def _add_section(self, name: str, mark: Mark, node: Node) -> None:
        first = self._sections.keys.get(name)
        if first is not None:
            self._error(name, f"is already given in {first.file or 'this text'}, line {first.line}", mark)
            return
        self._sections.value[name] = node
        self._sections.keys[name] = mark

    def _error(self, path: str, message: str, mark: Mark | None) -> None:
        self._errors.append(field_error(path, message, mark))

    def raise_errors(self) -> None:
        if not self._errors:
            return
        errors = sorted(dict.fromkeys(self._errors), key=lambda e: (e.file or "", e.line or 0, e.column or 0))
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise ConfigurationError(f"The configuration has {count}", errors=errors)

    def loaded(self, sources: Sequence[str]) -> Loaded:
        config = self._config()
        placed = self.clusters()
        warnings: list[FieldError] = []
        if config is not None:
            started = {function.variable: function.url for function in config.tool_functions.values()}
            environ = started | {name: value for name, value in self._environ.items() if value}
            self._errors.extend(check_config(config, self._sections, self._environ))
            warnings.extend(warn_config(config, self._sections, self._environ))
            for node, cluster in placed:
                self._errors.extend(check_use(cluster, node, config, self._sections, environ))
                warnings.extend((*warn(cluster, node, config), *warn_tools(cluster, node, config)))
        self.raise_errors()
        if config is None:  # cannot be: no config means errors
            raise ConfigurationError
        return Loaded(config, tuple(cluster for _, cluster in placed), tuple(sources), tuple(warnings))

    def only_cluster(self) -> AgentCluster:
        """Return the one cluster of a request's body. Raises ConfigurationError."""
        for name, mark in self._sections.keys.items():
            self._error(name, "is configuration of the server; send the AgentCluster alone", mark)
        if not self._clusters and not self._errors:
            self._error("", "the body holds no AgentCluster", None)
        for node in self._clusters[1:]:
            self._error("", "send one AgentCluster at a time", node.mark)
        found: AgentCluster | None = None
        for node in self._clusters[:1]:
            found = self._validate(AgentCluster, node)
            self._errors.extend(check_tools(found, node) if found is not None else ())
        self.raise_errors()
        if found is None:  # cannot be: no cluster means errors
            raise ConfigurationError
        return found

    def _config(self) -> Config | None:
        resolution = resolve_config_node(self._sections, self._environ)
        self._errors.extend(resolution.errors)
        config = self._validate(Config, resolution.node, resolution)
        return config and config.remember_unset({path: ref.key for path, ref in resolution.unset.items()})

    def clusters(self) -> list[tuple[Node, AgentCluster]]:
        """Return the valid clusters, each with its place."""
        found: list[tuple[Node, AgentCluster]] = []
        seen: dict[tuple[str, str], Mark] = {}
        for node in self._clusters:
            resolution = resolve_cluster_node(node, self._environ)
            self._errors.extend(resolution.errors)
            cluster = self._validate(AgentCluster, resolution.node, resolution)
            if cluster is None:
                continue
            first = seen.setdefault((cluster.namespace, cluster.name), node.mark)
            if first is not node.mark:
                place = f"{first.file or 'this text'}, line {first.line}"
                self._error("metadata.name", f"the cluster '{cluster.name}' is already defined in {place}", node.mark)
            self._errors.extend(check_tools(cluster, node))
            found.append((node, cluster))
        return found

    def _validate(self, model: type[T], node: Node, resolution: Resolution | None = None) -> T | None:
        """Return `node` as a `model`; add to the errors and return None where it is none."""
        repeated = list(_repeated_names(node)) if model is AgentCluster else []
        self._errors.extend(repeated)
        try:
            found = model.model_validate(node.plain(), context=self._context)
        except ValidationError as error:
            for kind, problem in field_errors(error, node, model):
                if not (kind == "duplicate_name" and repeated):
                    self._add_problem(problem, kind, resolution)
            return None
        return found

    def _add_problem(self, problem: FieldError, kind: str, resolution: Resolution | None) -> None:
        if resolution is None or (problem.path not in resolution.unset and problem.path not in resolution.failed):
            self._errors.append(problem)
        elif kind == "missing" and problem.path in resolution.unset:
            message = f"is required, and {resolution.unset[problem.path]} is not set"
            self._error(problem.path, message, resolution.marks[problem.path])


def _part(node: Node, names: Sequence[str]) -> Node:
    """Return the part of a mapping that belongs to the cluster."""
    values = {name: node.value[name] for name in names}
    return Node(values, node.keys[names[0]], keys={name: node.keys[name] for name in names})


def _repeated_names(cluster: Node) -> Iterator[FieldError]:
    """Yield the names that stand twice: of agents in the cluster, of tools in an agent."""
    agents = _at(_at(cluster, "spec"), "agents")
    yield from _repeated_in(agents, "spec.agents")
    for i, agent in enumerate(_items(agents)):
        yield from _repeated_in(_at(agent, "tools"), f"spec.agents.{i}.tools")


def _repeated_in(items: Node | None, path: str) -> Iterator[FieldError]:
    first: dict[str, Mark] = {}
    for i, item in enumerate(_items(items)):
        name = _at(item, "name")
        if name is None or not isinstance(name.value, str):
            continue
        if name.value in first:
            message = f"the name '{name.value[:64]}' is used already in line {first[name.value].line}"
            yield field_error(f"{path}.{i}.name", message, name.mark)
        first.setdefault(name.value, name.mark)


def _at(node: Node | None, part: str) -> Node | None:
    return node.child(part) if node is not None else None


def _items(node: Node | None) -> list[Node]:
    return node.value if node is not None and isinstance(node.value, list) else []
