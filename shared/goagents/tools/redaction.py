"""Secret values taken out of what tools answer: shared by the adapters that send secrets along."""

import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"
_MIN_SECRET = 4  # shorter ones would redact half of every answer, and protect nothing


class Redactor:
    """Replaces secret values, also where JSON or a URL spells them differently."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= _MIN_SECRET:
                escaped = json.dumps(secret)[1:-1]
                forms |= {secret, escaped, json.dumps(secret, ensure_ascii=False)[1:-1], json.dumps(escaped)[1:-1]}
                forms |= {quote(secret, safe=""), quote(secret), quote_plus(secret)}
        self._forms = sorted(forms, key=len, reverse=True)

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
        for form in self._forms:
            for length in range(min(len(form) - 1, len(text)), 0, -1):
                if text.endswith(form[:length]):
                    return text[:-length]
        return text
