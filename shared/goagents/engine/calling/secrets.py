"""The values that no tool's result may hold: those of the configuration, and those that the agent's tools send along.

The adapters take out what they send themselves; a tool that runs here, or a server that others share, may know more.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, SecretStr

from goagents.errors import ConfigurationError
from goagents.settings import Settings
from goagents.spec.check import KEY_VARIABLES
from goagents.spec.config import Config
from goagents.spec.interpolation import Resolver
from goagents.spec.references import Reference, parse, references
from goagents.spec.tools import ToolSpec
from goagents.tools.redaction import Redactor

_SCHEMES = frozenset({"bearer", "basic", "token", "apikey"})
# The headers of `mcp_servers` were resolved with the configuration: which of them are secrets only their names tell.
_SECRET_HEADER = re.compile(r"auth|cookie|key|token|secret|password|credential", re.IGNORECASE)
# What a tool is called and does is told to the model anyway; a schema speaks of arguments.
_TOLD = {"name", "type", "description", "parameters", "headers"}
_URLS = frozenset({"url", "openapi"})


class SecretValues:
    """The values by tool: what its own entry refers to, and the headers of the agent's others.

    Resolved anew at each use: a variable's value may change while its tool is open.
    """

    def __init__(self, fixed: Iterable[str], specs: Sequence[ToolSpec], resolver: Resolver) -> None:
        self._fixed = frozenset(fixed)
        headers = [text for spec in specs for text in _headers_of(spec)]
        self._texts = {spec.name: tuple(dict.fromkeys([*headers, *_texts_of(spec)])) for spec in specs}
        self._resolver = resolver
        self._cached: dict[str, tuple[frozenset[str], Redactor]] = {}

    def redactor(self, tool: str) -> Redactor:
        """Return the redactor for the values of this moment; it is built again only when one has changed."""
        values = self._fixed.union(*(_parts(self._resolved(text)) for text in self._texts.get(tool, ())))
        known = self._cached.get(tool)
        if known is None or values != known[0]:
            known = self._cached[tool] = (values, Redactor(values))
        return known[1]

    def _resolved(self, text: str) -> str:
        try:
            return self._resolver.resolve(text)
        except ConfigurationError:
            return ""  # unset or forbidden: then nobody sends it


def configured_secrets(config: Config, settings: Settings, resolver: Resolver) -> frozenset[str]:
    """Return the secrets of the configuration: keys, headers of `mcp_servers`. `resolver` resolves any reference."""
    found = set(_secret_texts(config))
    headers = (header for server in config.mcp_servers.values() for header in server.headers.items())
    found |= {value for name, value in headers if _SECRET_HEADER.search(name)}
    found |= {resolver.resolve(f"${{{variable}:-}}") for variable in KEY_VARIABLES.values()}
    found.add(settings.internal_key or "")
    return frozenset(part for value in found for part in _parts(value))


def _secret_texts(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secret_texts(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secret_texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secret_texts(item)


def _parts(value: str) -> tuple[str, ...]:
    """A bearer token repeated without its scheme is as secret as with it."""
    scheme, _, rest = value.partition(" ")
    return (value, rest) if rest and scheme.lower() in _SCHEMES else (value,)


def _headers_of(spec: ToolSpec) -> Iterator[str]:
    """Yield the headers that hold references, and each reference alone, unresolved."""
    for text in spec.headers.values():
        if found := _found(text):
            yield from (text, *(f"${{{reference.key}}}" for reference in found))


def _texts_of(spec: ToolSpec) -> Iterator[str]:
    """Yield every reference of an entry but those of headers, and of a URL's origin, unresolved."""
    for name, value in spec.model_dump(mode="json", exclude=_TOLD, exclude_unset=True).items():
        for text in _texts(value):
            found = _beyond_origin(text) if name in _URLS else _found(text)
            yield from (f"${{{reference.key}}}" for reference in found)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _found(text: str) -> tuple[Reference, ...]:
    try:
        return references(text)
    except ValueError:
        return ()  # wrong syntax: whoever opens the tool says so


def _beyond_origin(url: str) -> Iterator[Reference]:
    """Yield the references of a URL but those that make up its origin: hosts are named in errors and in answers."""
    seen = ""
    for part in parse(url) if _found(url) else ():
        if isinstance(part, str):
            seen += part
        elif "/" in seen.partition("://")[2] or "?" in seen:
            yield part
