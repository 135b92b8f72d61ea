"""The declared headers of a `websocket` entry, resolved for each connection, and what of an entry must not be seen."""

from collections.abc import Iterator
from typing import Any

from goagents.errors import GoAgentsError
from goagents.spec.references import Reference, parse, references
from goagents.spec.tools import WebsocketToolSpec
from goagents.tools.base import ToolEnvironment
from goagents.tools.redaction import Redactor


class Secrets:
    def __init__(self, spec: WebsocketToolSpec, environment: ToolEnvironment) -> None:
        self._headers = dict(spec.headers)
        self._resolve = environment.resolve
        referring = [text for text in spec.headers.values() if references(text)]
        texts = [*referring, *_texts(spec.message), *_texts(spec.unsubscribe)]
        found = [reference for text in texts for reference in references(text)] + _beyond_origin(spec.url)
        self._texts = (*referring, *dict.fromkeys(f"${{{reference.key}}}" for reference in found))
        self._cached: tuple[frozenset[str], Redactor] = (frozenset(), Redactor())

    def headers(self) -> dict[str, str]:
        """Raises ConfigurationError for an unset or forbidden variable."""
        return {name: self._resolve(text) for name, text in self._headers.items()}

    def redactor(self) -> Redactor:
        """Return the redactor for the values of this moment; it is built again only when one has changed."""
        values = frozenset(map(self._resolved, self._texts))
        if values != self._cached[0]:
            # A bearer token repeated without its scheme is as secret as with it.
            self._cached = (values, Redactor({*values, *(part for value in values for part in value.split(" ")[1:])}))
        return self._cached[1]

    def _resolved(self, text: str) -> str:
        try:
            return self._resolve(text)
        except GoAgentsError:
            return ""  # unset: the reference's default stands in for it, and what the file says is no secret


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _beyond_origin(url: str) -> list[Reference]:
    """Return the references of a URL but those that make up its origin: hosts are named in errors."""
    found: list[Reference] = []
    seen = ""
    for part in parse(url):
        if isinstance(part, str):
            seen += part
        elif "/" in seen.partition("://")[2] or "?" in seen:
            found.append(part)
    return found
