"""The security schemes of an OpenAPI document: where a declared value goes, and what an operation lacks."""

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from goagents.tools.http_openapi_document import Document, Unsupported, mapping
from goagents.tools.http_openapi_operation import RESERVED_HEADERS

_MEANT_FOR_KEYS = frozenset({"authorization", "cookie", "proxy-authorization"})
_TOKENS = frozenset({"oauth2", "openIdConnect"})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")


@dataclass(frozen=True, slots=True)
class Credential:
    """One declared value (`text`, which may hold `${…}`) and how it is sent: a prefix and it, or both in base64."""

    where: str
    name: str
    text: str
    prefix: str = ""
    is_basic: bool = False

    def value(self, resolve: Callable[[str], str]) -> str:
        """Return what is sent. Raises what `resolve` does."""
        found = resolve(self.text)
        return self.prefix + (base64.b64encode(found.encode()).decode() if self.is_basic else found)


@dataclass(frozen=True, slots=True)
class Credentials:
    given: tuple[Credential, ...] = ()

    def names(self, where: str) -> frozenset[str]:
        """Return the names of what is sent in the `header`s (in lower case) or in the `query`."""
        return frozenset(c.name.lower() if where == "header" else c.name for c in self.given if c.where == where)

    def headers(self, resolve: Callable[[str], str]) -> dict[str, str]:
        cookies = [f"{c.name}={c.value(resolve)}" for c in self.given if c.where == "cookie"]
        sent = {c.name: c.value(resolve) for c in self.given if c.where == "header"}
        return sent | ({"Cookie": "; ".join(cookies)} if cookies else {})

    def query(self, resolve: Callable[[str], str]) -> list[tuple[str, str]]:
        return [(c.name, c.value(resolve)) for c in self.given if c.where == "query"]


def read_credentials(document: Document, declared: Mapping[str, str]) -> Credentials:
    """Return where the values go that `declared` has by the names of schemes.

    Raises Unsupported for a name the document does not have, and for a scheme of which a value is not enough.
    """
    schemes = mapping(mapping(document.root.get("components")).get("securitySchemes"))
    found = []
    for name, text in declared.items():
        if name not in schemes:
            known = ", ".join(f"`{each}`" for each in schemes) or "none"
            raise Unsupported(f"`security` names {name!r}, and the document's schemes are {known}")
        found.append(_credential(name, text, document.resolve(schemes[name])))
    return Credentials(tuple(found))


def _credential(name: str, text: str, scheme: Mapping[str, Any]) -> Credential:
    kind = scheme.get("type")
    if kind == "apiKey":
        where, key = scheme.get("in"), scheme.get("name")
        if where not in ("header", "query", "cookie") or not isinstance(key, str):
            raise Unsupported(f"the scheme `{name}` says not where its key goes; write `headers`")
        if where != "query" and not _HEADER_NAME.fullmatch(key):
            raise Unsupported(f"the key of the scheme `{name}` has a name that no {where} can have")
        if where == "header" and key.lower() in RESERVED_HEADERS - _MEANT_FOR_KEYS:
            raise Unsupported(
                f"the key of the scheme `{name}` would be sent as the header `{key}`, which means something else"
            )
        return Credential(where, key, text)
    how = str(scheme.get("scheme", "")).lower()
    if kind in _TOKENS or (kind == "http" and how == "bearer"):
        return Credential("header", "Authorization", text, "Bearer ")
    if kind == "http" and how == "basic":
        return Credential("header", "Authorization", text, "Basic ", is_basic=True)
    raise Unsupported(f"the scheme `{name}` ({_shown(scheme)}) needs more than a value; it cannot be supplied")


def _shown(scheme: Mapping[str, Any]) -> str:
    return " ".join(str(scheme[key])[:40] for key in ("type", "scheme") if key in scheme)


@dataclass(slots=True)
class Requirements:
    """What operations ask for, beside what is given: headers in lower case and query parameters, and `security`."""

    document: Document
    headers: frozenset[str]
    query: frozenset[str]
    declared: Iterable[str]
    lacking: dict[str, int] = field(default_factory=dict)

    def check(self, node: Mapping[str, Any]) -> None:
        """Note the schemes that an operation lacks. Raises Unsupported where none of its ways can be gone."""
        asked = node.get("security", self.document.root.get("security"))
        ways = [way for way in asked if isinstance(way, dict)] if isinstance(asked, list) else []
        missing = [[name for name in way if not self._is_given(name)] for way in ways]
        if not missing or not all(missing):
            return
        possible = [names for names in missing if all(self._can_be_given(name) for name in names)]
        if not possible:
            raise Unsupported(
                f"it needs `{missing[0][0]}` ({_shown(self._scheme(missing[0][0]))}), which cannot be supplied"
            )
        for name in min(possible, key=len):
            self.lacking[name] = self.lacking.get(name, 0) + 1

    def remedies(self) -> list[str]:
        """Return what to say of each scheme that is lacking: how many operations ask for it, and how it is given."""
        return [self._remedy(name, count) for name, count in self.lacking.items()]

    def _remedy(self, name: str, count: int) -> str:
        who = "1 operation asks" if count == 1 else f"{count} operations ask"
        how = f'`security: {{{name}: "${{VARIABLE}}"}}`, the variable being {self._what(name)}'
        return f"{who} for the scheme `{name}` ({_shown(self._scheme(name))}), and will be refused: write {how}"

    def _scheme(self, name: str) -> Mapping[str, Any]:
        schemes = mapping(mapping(self.document.root.get("components")).get("securitySchemes"))
        return self.document.resolve(schemes[name]) if name in schemes else {}

    def _is_given(self, name: str) -> bool:
        scheme = self._scheme(name)
        if not scheme or name in self.declared:
            return True  # a scheme that is nowhere defined asks for nothing that could be known
        if scheme.get("type") != "apiKey":
            return "authorization" in self.headers
        key = str(scheme.get("name", ""))
        if scheme.get("in") == "query":
            return key in self.query
        return ("cookie" if scheme.get("in") == "cookie" else key.lower()) in self.headers

    def _can_be_given(self, name: str) -> bool:
        try:
            _credential(name, "", self._scheme(name))
        except Unsupported:
            return False
        return True

    def _what(self, name: str) -> str:
        scheme = self._scheme(name)
        if scheme.get("type") == "apiKey":
            return "the key"
        return "USER:PASSWORD" if str(scheme.get("scheme", "")).lower() == "basic" else "an access token"
