"""Secret values taken out of what tools answer: shared by the engine and by the adapters that send secrets along."""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"
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
