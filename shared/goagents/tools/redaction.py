"""Secret values taken out of what tools answer: shared by the engine and by the adapters that send secrets along."""

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, quote_plus

from goagents.errors import GoAgentsError

REDACTED = "[redacted]"
_SCHEMES = frozenset({"bearer", "basic", "token", "apikey"})
_MIN_SECRET = 4  # shorter ones would redact half of every answer, and protect nothing
_MIN_ENCODED = 6  # bytes: the base64 of less is found in other texts by chance
_PERCENT = re.compile(r"%[0-9A-F]{2}")


class Redactor:
    """Replaces secret values, also where JSON, HTML, a URL or base64 spells them differently."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= _MIN_SECRET for form in _spellings(secret)}
        self._forms = sorted(forms, key=lambda form: (-len(form), form))

    @property
    def longest(self) -> int:
        """The length in bytes of the longest spelling."""
        return max((len(form.encode()) for form in self._forms), default=0)

    def redact(self, text: str, *, cut: bool = False) -> str:
        """Return the text without any secret; with `cut`, also without the beginning of one at its very end."""
        for form in self._forms:
            text = text.replace(form, REDACTED)
        return self._without_torn_end(text) if cut else text

    def _without_torn_end(self, text: str) -> str:
        torn = max((_overlap(text, form) for form in self._forms), default=0)
        return text[:-torn] if torn else text


class SecretTexts:
    """What must not be seen of the values that `texts` refer to, resolved anew at each use: a variable may change.

    `resolve` raises a GoAgentsError for what is unset or forbidden.
    """

    def __init__(self, texts: Iterable[str], resolve: Callable[[str], str]) -> None:
        self.resolve = resolve
        self._texts = tuple(dict.fromkeys(texts))
        self._latest: frozenset[str] = frozenset()
        self._redactor = Redactor()

    def redactor(self, *more: str) -> Redactor:
        """Return the redactor for the values of this moment and `more`; it is built again only when one has changed."""
        values = frozenset(part for value in (*map(self.resolved, self._texts), *more) for part in bare(value))
        if values != self._latest:
            self._latest, self._redactor = values, Redactor(values)
        return self._redactor

    def resolved(self, text: str) -> str:
        try:
            return self.resolve(text)
        except GoAgentsError:
            return ""  # nobody sends it; a default that stands in for it is in the file, and no secret


def bare(value: str) -> tuple[str, ...]:
    """Return the value of a header, and its token alone: repeated without its scheme it is as secret as with it."""
    scheme, _, token = value.partition(" ")
    return (value, token) if token and scheme.lower() in _SCHEMES else (value,)


def _overlap(text: str, form: str) -> int:
    """Return how much of the beginning of `form` the text ends with."""
    lengths = range(min(len(form) - 1, len(text)), 0, -1)
    return next((length for length in lengths if text.endswith(form[:length])), 0)


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    escaped = json.dumps(secret)[1:-1]
    yield from (escaped, json.dumps(secret, ensure_ascii=False)[1:-1], json.dumps(escaped)[1:-1])
    yield html.escape(secret)
    for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield quoted
        yield _PERCENT.sub(lambda found: found[0].lower(), quoted)
    yield from _in_base64(secret.encode(errors="replace"))


def _in_base64(secret: bytes) -> Iterator[str]:
    """Yield what a secret becomes within something that is encoded whole, at each of the three places it can lie."""
    if len(secret) < _MIN_ENCODED:
        return
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret).decode()
        # The characters at either end depend on the neighbours, too.
        own = encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield own
        yield own.replace("+", "-").replace("/", "_")
