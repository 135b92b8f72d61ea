"""Escapes of JSON, HTML and URLs: a text without its outer ones, and where each place of it came from."""

import html
import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from html.entities import html5
from itertools import accumulate

_HEX = "[0-9a-fA-F]"
_MORE = "%[89abAB]" + _HEX  # of a character in UTF-8
_UTF8 = rf"%(?:[0-7]{_HEX}|[cCdD]{_HEX}{_MORE}|[eE]{_HEX}{_MORE}{_MORE}|[fF]{_HEX}{_MORE}{_MORE}{_MORE})"
_UTF16 = rf"u(?:[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}|(?![dD][89a-fA-F]){_HEX}{{4}})"
_ENTITY = "&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});"
# Each begins with a character of its own: the engine of `re` skips to those quickly. A run of `\\` is one escape. Half
# of one is none: what is missing may itself be escaped, and there in the next layer.
_ESCAPE = re.compile(rf"(\\(?:\\(?:\\\\)*|{_UTF16}|x{_HEX}{{2}}|[\"'/bfnrt])|{_UTF8}|{_ENTITY})")
_PRINTABLE = re.compile(rf"(\\(?:\\(?:\\\\)*|u00[2-7]{_HEX}|x[2-7]{_HEX}|[\"'/])|%[2-7]{_HEX}|{_ENTITY})")
_TORN = re.compile(
    rf"(?:\\+(?:u{_HEX}{{0,3}}|u[dD][89abAB]{_HEX}{{2}}(?:\\(?:u{_HEX}{{0,3}})?)?|x{_HEX}?)?"
    rf"|%(?:(?:[c-fC-F]{_HEX}|[eE]{_HEX}{_MORE}|[fF]{_HEX}{_MORE}(?:{_MORE})?)(?:%[89abAB]?)?|{_HEX})?"
    r"|&(?:#[0-9]{0,7}|#[xX][0-9a-fA-F]{0,6}|[a-zA-Z0-9]{0,31}))\Z"
)
_TORN_MOST = 40  # characters
_PAIR = len(r"\ud83d\ude00")
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Layer:
    """A text whose escapes are taken off. `before` has what it was: plain and escape, one after the other."""

    def __init__(self, before: Sequence[str]) -> None:
        escapes = before[1::2]
        meant = {escape: _meant(escape) for escape in set(escapes)}
        self._before = before
        self._after = list(before)
        self._after[1::2] = map(meant.__getitem__, escapes)
        self.text = "".join(self._after)

    def origin(self, begin: int, end: int) -> tuple[int, int]:
        """Return where the characters from `begin` to `end` were, each escape with all of it."""
        first = bisect_right(self._ends, begin)
        last = bisect_right(self._ends, end - 1)
        return (
            self._begin(first) + (0 if first % 2 else begin - self._ends[first] + len(self._after[first])),
            self._ends_before[last] - (0 if last % 2 else self._ends[last] - end),
        )

    def _begin(self, piece: int) -> int:
        return self._ends_before[piece] - len(self._before[piece])

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(map(len, self._after)))

    @cached_property
    def _ends_before(self) -> list[int]:
        return list(accumulate(map(len, self._before)))


def peeled(text: str, *, printable: bool = False) -> Layer | None:
    """Return the text without its outer escapes, or with `printable` those of ASCII's printable characters, which is
    faster; None where it has none. Takes time in proportion to the text.
    """
    pieces = (_PRINTABLE if printable else _ESCAPE).split(text)
    if len(pieces) == 1:
        return None
    layer = Layer(pieces)
    return layer if layer.text != text else None  # all may be entities that nobody knows


def torn_escape(text: str) -> int:
    """Return where the escape begins that the text may end in the middle of; the text's length where there is none."""
    found = _TORN.search(text, max(0, len(text) - _TORN_MOST))
    return len(text) if found is None else found.start()


def _meant(escape: str) -> str:
    kind = escape[0]
    if kind == "%":
        return bytes.fromhex(escape.replace("%", "")).decode(errors="replace")
    if kind == "&":
        return _numbered(escape) if escape[1] == "#" else html5.get(escape[1:], escape)
    if escape[1] == "\\":
        return escape[::2]
    if len(escape) == 2:
        return _SHORT.get(escape[1], escape[1])
    if len(escape) == _PAIR:
        return chr(0x10000 + (int(escape[2:6], 16) - 0xD800) * 0x400 + int(escape[8:], 16) - 0xDC00)
    return chr(int(escape[2:], 16))


def _numbered(entity: str) -> str:
    """Return what HTML says of a number. Its slow library is asked about those alone that are no character."""
    code = int(entity[3:-1], 16) if entity[2] in "xX" else int(entity[2:-1])
    plain = 0x20 <= code < 0x7F or 0xA0 <= code < 0xD800 or 0xE000 <= code < 0xFDD0
    return chr(code) if plain or (0x10000 <= code < 0x110000 and code & 0xFFFE != 0xFFFE) else html.unescape(entity)
