"""Secret values taken out of what tools answer: shared by the engine and by the adapters that send secrets along."""

import base64
from collections.abc import Callable, Iterable, Iterator

from goagents.errors import GoAgentsError
from goagents.tools.escapes import Layer, peeled, torn_escape

REDACTED = "[redacted]"
_SCHEMES = frozenset({"bearer", "basic", "token", "apikey"})
_MIN_SECRET = 4  # shorter ones would redact half of every answer, and protect nothing
_MIN_ENCODED = 6  # bytes: the base64 of less is found in other texts by chance
_LAYERS = 4  # of escapes within escapes: a log line in JSON, quoted in JSON, in a page
_WIDEST = 7  # characters for one of UTF-16: `\\u002b`, JSON in JSON

Place = tuple[int, int]  # begin and end


class Redactor:
    """Replaces secret values, also where JSON, HTML or a URL escape characters of them, within each other too, and
    where they stand in base64 or hexadecimal.

    Escapes are taken off the text layer by layer, each is searched, and what is found is replaced where it came from:
    any character may be escaped in several ways or not at all, and no list of whole spellings has them all.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        values = [secret for secret in secrets if _is_one(secret)]
        self._forms = tuple(dict.fromkeys(form for value in values for form in _forms(value)))
        self._printable = all(form.isascii() and form.isprintable() for form in self._forms)
        self._longest = max(map(_longest, values), default=0)

    @property
    def longest(self) -> int:
        """The length in bytes of the longest spelling that is common: each character escaped, in JSON within JSON."""
        return self._longest

    def redact(self, text: str, *, cut: bool = False) -> str:
        """Return the text without any secret; with `cut`, also without the beginning of one at its very end.

        Takes some tenths of a second for each million characters, at worst: what others wrote is bounded first.
        """
        places, kept = self._places(text, cut=cut)
        return _without(text[:kept], places)

    def beginning(self, text: str, most: int) -> str:
        """Return the first `most` characters of the text without any secret, and behind them how many there are, where
        these are not all. No more of it is looked at than that takes.
        """
        read = text[: most + self._longest]
        clean = self.redact(read, cut=len(read) < len(text))
        if len(clean) <= most and len(read) == len(text):
            return clean
        return f"{clean[:most]} [cut: the beginning of {len(text)} characters]"

    def ending(self, text: str, most: int) -> str:
        """Return the last `most` characters as `beginning` does the first; nothing of a secret that begins before."""
        begin = len(text) - most
        if begin <= 0:
            return self.redact(text)
        first = max(0, begin - _LAYERS * self._longest)
        places, _ = self._places(text[first:])
        clean = _without(text[first:], places, begin - first)
        return f"[cut: the end of {len(text)} characters]\n{clean[-most:]}"

    def _places(self, text: str, *, cut: bool = False) -> tuple[list[Place], int]:
        """Return where secrets are, and how many characters come before the beginning of one at the very end."""
        places: list[Place] = []
        kept = len(text)
        layers: list[Layer] = []
        shown = text
        while self._forms:
            places += (_origin(place, layers) for form in self._forms for place in _found(shown, form))
            if cut:
                whole = torn_escape(shown)
                kept = min([kept, *(_origin(place, layers)[0] for place in _torn(shown, whole, self._forms))])
                shown = shown[:whole]
            layer = peeled(shown, printable=self._printable) if len(layers) < _LAYERS else None
            if layer is None:
                break
            layers.append(layer)
            shown = layer.text
        return places, kept


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


def _found(text: str, form: str) -> Iterator[Place]:
    begin = text.find(form)
    while begin >= 0:
        yield begin, begin + len(form)
        begin = text.find(form, begin + len(form))


def _origin(place: Place, layers: list[Layer]) -> Place:
    """Return where in the text itself that is which was found below `layers`."""
    for layer in reversed(layers):
        place = layer.origin(*place)
    return place


def _without(text: str, places: list[Place], first: int = 0) -> str:
    """Return the text from `first` on; what overlaps is replaced together: of secrets in each other nothing is left."""
    pieces: list[str] = []
    done = end = first  # of what is replaced
    for begin, its_end in sorted({(max(begin, first), end) for begin, end in places if end > first}):
        if begin >= len(text):
            break
        if begin >= end:
            pieces += (text[done:begin], REDACTED)
        done = end = max(end, its_end)
    return "".join([*pieces, text[done:]])


def _torn(text: str, whole: int, forms: Iterable[str]) -> Iterator[Place]:
    """Yield each beginning of a form that the text ends with, or would without the escape that begins at `whole`."""
    for end in {text, text[:whole]}:
        for form in forms:
            begin = _overlap(end, form)
            if begin < len(end):
                yield begin, len(end)


def _overlap(text: str, form: str) -> int:
    """Return where the longest beginning of `form` begins that the text ends with; its length where there is none."""
    begin = text.find(form[0], max(0, len(text) - len(form) + 1))
    while begin >= 0:
        if form.startswith(text[begin:]):
            return begin
        begin = text.find(form[0], begin + 1)
    return len(text)


def _longest(secret: str) -> int:
    units, size = len(secret.encode("utf-16-le", "surrogatepass")) // 2, len(secret.encode(errors="replace"))
    return max(_WIDEST * units, 3 * size)


def _is_one(value: str) -> bool:
    return len(value) >= _MIN_SECRET and not value.isspace()


def _forms(secret: str) -> Iterator[str]:
    """Yield what to look for in each layer of a text."""
    yield secret
    yield secret.replace(" ", "+")  # in a query
    yield from _encoded(secret.encode(errors="replace"))
    # One that looks escaped itself is no longer so in the layers below.
    for _ in range(_LAYERS):
        layer = peeled(secret)
        if layer is None or not _is_one(layer.text):
            break
        secret = layer.text
        yield secret


def _encoded(secret: bytes) -> Iterator[str]:
    """Yield what a secret becomes within something that is encoded whole; in base64, at each place it can lie."""
    if len(secret) < _MIN_ENCODED:
        return
    yield from (secret.hex(), secret.hex().upper())
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret).decode()
        # The characters at either end depend on the neighbours, too.
        own = encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield own
        yield own.replace("+", "-").replace("/", "_")
