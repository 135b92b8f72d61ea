"""Where a tool may go: URLs put together from a declared base and what a model chose, never leaving the base.

Nothing the model wrote is normalised into shape: what could be read two ways (`..`, `%2e`, a backslash, a control
character) is refused with a reason it can mend. What passes is percent-encoded and sent exactly as checked.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from yarl import URL

from goagents.errors import ToolInvalidArguments
from goagents.net.guarded import place_of

QueryPairs = list[tuple[str, str]]

_ABSOLUTE = re.compile(r"//|[a-z][a-z0-9+.-]*:/|https?:", re.IGNORECASE)
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLACEHOLDER = re.compile(r"%7B([A-Za-z0-9_.-]+)%7D", re.IGNORECASE)
_MAX_DECODINGS = 5
_MAX_URL = 8192


@dataclass(frozen=True, slots=True)
class UrlScope:
    """A base URL and everything below its path."""

    base: URL

    def join(self, suffix: str, query: QueryPairs) -> URL:
        """Return the base with `suffix` below its path and `query` added.

        Raises ToolInvalidArguments where the suffix is no relative path, climbs, or redefines a parameter of the base.
        """
        path, mark, inline = suffix.partition("?")
        if "#" in suffix:
            raise ToolInvalidArguments("path: a fragment (`#`) is not sent; write a literal # as %23")
        if _ABSOLUTE.match(path):
            raise ToolInvalidArguments("path: give what follows the tool's url, not a whole URL")
        refuse_climbing(path, "path")
        segments = [_encode(part) for part in path.split("/") if part]
        below = "/".join(segments) + ("/" if segments and path.endswith("/") else "")
        pairs = query + (parse_query(inline) if mark else [])
        raw_path = f"{self.base.raw_path.rstrip('/')}/{below}" if below else self.base.raw_path
        return build_url(self.base, raw_path, pairs)

    def holds(self, url: URL) -> bool:
        """Say whether `url` has the base's scheme, host and port, and a path equal to the base's or below it."""
        if url.origin() != self.base.origin() or url.raw_user is not None or url.raw_password is not None:
            return False
        try:
            refuse_climbing(url.raw_path, "path")
        except ToolInvalidArguments:
            return False
        floor = self.base.raw_path.rstrip("/")
        return url.raw_path in (floor, self.base.raw_path) or url.raw_path.startswith(f"{floor}/")


@dataclass(frozen=True)
class UrlTemplate:
    """A URL with `{name}` placeholders in path or query. `text` is encoded already, so filling it is one pass."""

    text: str
    names: tuple[str, ...]
    in_path: frozenset[str]

    @classmethod
    def of(cls, text: str) -> "UrlTemplate":
        """Return the template of a URL that is encoded already (a placeholder is `%7Bname%7D` there)."""
        in_path = frozenset(_PLACEHOLDER.findall(text.partition("?")[0]))
        return cls(text, tuple(dict.fromkeys(_PLACEHOLDER.findall(text))), in_path)

    @cached_property
    def place(self) -> str | None:
        """Host and port: no placeholder is filled in there."""
        return place_of(URL(self.text, encoded=True))

    def fill(self, encoded: Mapping[str, str], query: QueryPairs) -> URL:
        """Return the URL with every placeholder replaced by its encoded text (in the path: from `encode_segment`).

        Raises ToolInvalidArguments where the values make up a `..` between them.
        """
        filled = URL(_PLACEHOLDER.sub(lambda match: encoded.get(match[1], match[0]), self.text), encoded=True)
        refuse_climbing(filled.raw_path, "path")
        return build_url(filled, filled.raw_path, query)


def build_url(base: URL, raw_path: str, query: QueryPairs) -> URL:
    """Return the base's origin with an encoded path, the base's query and `query` (which cannot redefine it)."""
    fixed = base.query
    for name, _ in query:
        if name in fixed:
            raise ToolInvalidArguments(f"query: `{name}` is fixed by the tool's url")
    added = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    parts = [part for part in (base.raw_query_string, added) if part]
    origin = str(base.origin())
    text = f"{origin}{raw_path}" + (f"?{'&'.join(parts)}" if parts else "")
    if len(text) > _MAX_URL:
        raise ToolInvalidArguments(f"the URL would be longer than {_MAX_URL} characters")
    return URL(text, encoded=True)


def encode_segment(value: str, name: str) -> str:
    """Return one path segment with nothing in it that separates. Raises ToolInvalidArguments if empty or climbing."""
    if not value:
        raise ToolInvalidArguments(f"{name}: must not be empty: it is part of the URL's path")
    refuse_climbing(value, name)
    return quote(value, safe="")


def refuse_climbing(text: str, name: str) -> None:
    """Raise ToolInvalidArguments where any reading of `text` has a `.` or `..` segment, a backslash or a control.

    Readings are: as it stands, percent-decoded (repeatedly, as chains of proxies do), in Unicode's compatibility form,
    and without the `;parameters` that some servers cut off.
    """
    for reading in _readings(text, name):
        if "\\" in reading or any(ord(c) < 0x20 or ord(c) == 0x7F for c in reading):
            raise ToolInvalidArguments(f"{name}: no backslash or control character is allowed")
        for segment in reading.split("/"):
            if segment.partition(";")[0].strip() in (".", ".."):
                raise ToolInvalidArguments(f"{name}: no `.` or `..` segment is allowed, in any encoding")


def _readings(text: str, name: str) -> Iterable[str]:
    for _ in range(_MAX_DECODINGS):
        yield text
        compatible = unicodedata.normalize("NFKC", text)
        if compatible != text:
            yield compatible
        if "%" not in text:
            return
        try:
            decoded = unquote_to_bytes(text).decode()
        except UnicodeDecodeError:
            raise ToolInvalidArguments(f"{name}: what it percent-encodes is not UTF-8") from None
        if decoded == text:
            return
        text = decoded
    raise ToolInvalidArguments(f"{name}: percent-encoded too many times over")


def _encode(segment: str) -> str:
    return quote(_STRAY_PERCENT.sub("%25", segment), safe="%:@!$&'()*+,;=~")


def parse_query(text: str) -> QueryPairs:
    """Return the pairs of a query string that the model wrote into the path."""
    return parse_qsl(text, keep_blank_values=True)


def query_pairs(query: Mapping[str, Any]) -> QueryPairs:
    """Return what `query` becomes: a list repeats its name, None is left out, an object is its JSON."""
    pairs: QueryPairs = []
    for name, value in query.items():
        values = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, plain(item)) for item in values if item is not None]
    return pairs


def plain(value: Any) -> str:
    """Return a JSON value as it stands in a URL or a header: a string as it is, anything else as compact JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
