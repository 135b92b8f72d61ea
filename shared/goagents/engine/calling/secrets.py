"""The values that no tool's result may hold: those of the configuration, and those that the agent's tools send along.

The adapters take out what they send themselves; a tool that runs here, or a server that others share, may know more.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, SecretStr

from goagents.settings import Settings
from goagents.spec.check import KEY_VARIABLES
from goagents.spec.config import Config
from goagents.spec.interpolation import Resolver
from goagents.spec.references import Reference, beyond_origin, looks_secret, references, texts_within
from goagents.spec.tools import ToolSpec
from goagents.tools.redaction import Redactor, SecretTexts, bare

# What a tool is called and does is told to the model anyway; a schema speaks of arguments.
_TOLD = {"name", "type", "description", "parameters", "headers"}
_URLS = frozenset({"url", "openapi"})
# What a switch or a duration is set to, in a variable such as REQUIRE_TOKEN: redacted, half of every answer would go.
_PLAIN = re.compile(r"(?i:true|false|yes|no|on|off|none|null)|[+-]?(?:[0-9]\.?){1,7}", re.ASCII)


class SecretValues:
    """The values by tool: what its own entry refers to, and the headers of the agent's others."""

    def __init__(self, fixed: Iterable[str], specs: Sequence[ToolSpec], resolver: Resolver) -> None:
        self._fixed = tuple(fixed)
        headers = [text for spec in specs for text in _headers_of(spec)]
        self._texts = {spec.name: SecretTexts([*headers, *_texts_of(spec)], resolver.resolve) for spec in specs}
        self._others = SecretTexts((), resolver.resolve)

    def redactor(self, tool: str) -> Redactor:
        """Return the redactor for the values of this moment."""
        return self._texts.get(tool, self._others).redactor(*self._fixed)


def configured_secrets(config: Config, settings: Settings, resolver: Resolver) -> frozenset[str]:
    """Return the secrets of the configuration: keys, and headers of `mcp_servers` and variables of what is started here
    whose names say so. `resolver` resolves any reference."""
    found = set(_secret_texts(config))
    # These were resolved with the configuration: which of them are secrets only their names tell.
    servers, functions = config.mcp_servers.values(), config.tool_functions.values()
    for named in (*(s.headers for s in servers), *(s.env for s in servers), *(f.env for f in functions)):
        found |= {value for name, value in named.items() if looks_secret(name) and not _PLAIN.fullmatch(value.strip())}
    found |= {resolver.resolve(f"${{{variable}:-}}") for variable in KEY_VARIABLES.values()}
    found.add(settings.internal_key or "")
    return frozenset(part for value in found for part in bare(value))


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


def _headers_of(spec: ToolSpec) -> Iterator[str]:
    """Yield the headers that hold references, and each reference alone, unresolved."""
    for text in spec.headers.values():
        if found := _found(text):
            yield from (text, *(reference.text for reference in found))


def _texts_of(spec: ToolSpec) -> Iterator[str]:
    """Yield every reference of an entry but those of headers, and of a URL's origin, unresolved."""
    for name, value in spec.model_dump(mode="json", exclude=_TOLD, exclude_unset=True).items():
        for text in texts_within(value):
            found = beyond_origin(text) if name in _URLS and _found(text) else _found(text)
            yield from (reference.text for reference in found)


def _found(text: str) -> tuple[Reference, ...]:
    try:
        return references(text)
    except ValueError:
        return ()  # wrong syntax: whoever opens the tool says so
