"""Resolves `${…}`: what a reference's value is, and which references a cluster may make."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from goagents.errors import ConfigurationError, FieldError

from .cluster import AgentCluster
from .config import Config
from .references import ENVIRONMENT, Parts, Reference, escape, parse, references
from .tools import BUILT_IN, HttpToolSpec, McpToolSpec, PythonToolSpec

__all__ = [
    "Reference",
    "Resolver",
    "UnsetReference",
    "check_untrusted",
    "cluster_texts",
    "escape",
    "references",
]

# JSON Schemas speak of the model's arguments and answers; a `${` there is the schema's own.
_SCHEMA_FIELDS = frozenset({"parameters", "output_schema"})


class Secrets(Protocol):
    """What the secret port (`secrets/base.py`) offers, as seen from here: a name in, its value out."""

    def get(self, name: str) -> str | None: ...


class UnsetReference(ConfigurationError):
    """A reference has no value."""

    def __init__(self, reference: Reference, detail: str) -> None:
        super().__init__(detail, errors=[FieldError("", detail)])
        self.reference = reference


class Resolver:
    """Resolves texts against secret stores by scheme (`env`, `secret`, `aws-secret`).

    `allow` holds the keys (`Reference.key`) that may be referred to; None allows all (a trusted file).
    """

    def __init__(self, secret_stores: Mapping[str, Secrets], *, allow: frozenset[str] | None = None) -> None:
        self._stores = dict(secret_stores)
        self._allow = allow

    def resolve(self, text: str) -> str:
        """Return `text` with its references replaced by their values.

        Raises ConfigurationError naming the variable: UnsetReference where it is not set, else where it is not
        allowed, its scheme is not there, or the syntax is wrong.
        """
        return self._join(parse_text(text))

    def resolve_all(self, value: Any) -> Any:
        """Return JSON data with its texts resolved as `resolve` does; keys, and schemas in it, stay as they are."""
        if isinstance(value, str):
            return self.resolve(value)
        if isinstance(value, Mapping):
            return {k: item if k in _SCHEMA_FIELDS else self.resolve_all(item) for k, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.resolve_all(item) for item in value]
        return value

    def _join(self, parts: Parts) -> str:
        return "".join(part if isinstance(part, str) else self._value(part) for part in parts)

    def _value(self, reference: Reference) -> str:
        if self._allow is not None and reference.key not in self._allow:
            raise _error(f"{reference} is not on the server's `allow:` list")
        store = self._stores.get(reference.scheme)
        if store is None:
            raise _error(scheme_error(reference, self._stores))
        value = store.get(reference.name)
        if value is not None and value != "":
            return value
        if reference.default is not None:
            return self._join(reference.default)
        raise UnsetReference(reference, f"{reference} is not set")


def parse_text(text: str) -> Parts:
    """Return the parts of `text`. Raises ConfigurationError."""
    try:
        return parse(text)
    except ValueError as error:
        raise _error(str(error)) from None


def scheme_error(reference: Reference, stores: Mapping[str, Secrets]) -> str:
    """Return why the scheme of `reference` cannot be used."""
    if reference.scheme in ("secret", "aws-secret"):
        return f"${{{reference.scheme}:…}} is not implemented in this version; use a variable: ${{NAME}}"
    known = ", ".join("${NAME}" if name == ENVIRONMENT else f"${{{name}:NAME}}" for name in stores)
    return f"unknown kind of reference '{reference.scheme}'; write {known}"


def _error(message: str) -> ConfigurationError:
    return ConfigurationError(message, errors=[FieldError("", message)])


def cluster_texts(cluster: AgentCluster) -> Iterator[tuple[str, str]]:
    """Yield the dotted path and the text of every string whose references are honoured."""
    for i, agent in enumerate(cluster.spec.agents):
        fields = agent.model_dump(mode="json", exclude_unset=True)
        yield from _texts(fields, f"spec.agents.{i}")


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _SCHEMA_FIELDS:
                yield from _texts(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _texts(item, f"{path}.{i}")


def check_untrusted(cluster: AgentCluster, config: Config) -> list[FieldError]:
    """Return what a cluster received over HTTP asks for and may not have: other references than those of `allow:`,
    commands, files of the server."""
    return [*_forbidden_references(cluster, config), *_forbidden_tools(cluster, config)]


def _forbidden_references(cluster: AgentCluster, config: Config) -> Iterator[FieldError]:
    allowed = config.allow.references()
    for path, text in cluster_texts(cluster):
        try:
            found = references(text)
        except ValueError as error:
            yield FieldError(path, str(error))
            continue
        for reference in found:
            if reference.key not in allowed:
                yield FieldError(
                    path,
                    f"{reference} is not on the server's `allow:` list; a cluster received over HTTP needs it there",
                )


def _forbidden_tools(cluster: AgentCluster, config: Config) -> Iterator[FieldError]:
    for i, agent in enumerate(cluster.spec.agents):
        for j, tool in enumerate(agent.tools):
            path = f"spec.agents.{i}.tools.{j}"
            if isinstance(tool, McpToolSpec):
                if tool.server not in config.mcp_servers and not _is_url(tool.server):
                    yield FieldError(
                        f"{path}.server",
                        "a cluster received over HTTP starts no command; name an entry of the server's `mcp_servers:`"
                        " or write an http(s):// URL",
                    )
            elif isinstance(tool, HttpToolSpec) and tool.openapi is not None and not _is_url(tool.openapi):
                yield FieldError(
                    f"{path}.openapi",
                    "a cluster received over HTTP reads no file of the server; write an http(s):// URL",
                )
            elif isinstance(tool, PythonToolSpec) and tool.target not in config.allow.python:
                yield FieldError(
                    f"{path}.target",
                    f"{tool.target} is not on the server's `allow.python` list; a cluster received over HTTP needs it"
                    " there",
                )
            elif tool.type not in BUILT_IN and tool.type not in config.allow.tool_types:
                yield FieldError(
                    f"{path}.type",
                    f"the type {tool.type!r} is not on the server's `allow.tool_types` list; a cluster received over "
                    "HTTP needs it there",
                )


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))
