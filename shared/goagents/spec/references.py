"""The syntax of `${…}`: what a text refers to.

${VAR}   ${VAR:-default}   ${secret:NAME}   ${aws-secret:NAME}   $${ is a literal ${
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ENVIRONMENT = "env"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}", re.ASCII)
_SCHEMED = re.compile(r"([a-z][a-z0-9-]{0,31}):([A-Za-z0-9_./:@+=-]{1,512})", re.ASCII)
_SPECIAL = re.compile(r"\$\$\{|\$\{|\}")
_NAME_END = re.compile(r"\}|:-")
_MAX_DEPTH = 8
# As a word of its own: `X-Api-Key`, `DB_PASSWORD`, `apiKey`; not `Monkey`, `GIT_AUTHOR`, nor where a secret lies.
_SECRET = re.compile(
    r"(?i:auth(?!or(?!i))|cookie|token|secret|passw|passphrase|credential|(?<![a-z])(?:pat|pwd|pass)(?![a-z])"
    r"|(?<![a-z])(?:api|private|access|signing|encryption|master|account)?keys?(?![a-z]))|(?<=[a-z])Key(?![a-z])"
)
_LOCATION = re.compile(r"(?i:(?:^|[_-])(?:file|path|dir))$")


@dataclass(frozen=True, slots=True)
class Reference:
    """`scheme` is "env" for a variable. `default` is a text that may hold references itself."""

    scheme: str
    name: str
    default: "tuple[str | Reference, ...] | None" = None

    @property
    def key(self) -> str:
        """The name as `allow:` lists it: `VAR`, `secret:NAME`."""
        return self.name if self.scheme == ENVIRONMENT else f"{self.scheme}:{self.name}"

    @property
    def text(self) -> str:
        """What refers to it in a file, without the default."""
        return f"${{{self.key}}}"

    def __str__(self) -> str:
        if self.scheme == ENVIRONMENT:
            return f"the variable {self.name}"
        return f"the secret {self.key}"


Parts = tuple[str | Reference, ...]


def looks_secret(name: str) -> bool:
    """Whether what a header or a variable of this name holds is to be taken for a secret."""
    return _SECRET.search(name) is not None and _LOCATION.search(name) is None


def parse(text: str) -> Parts:
    """Return the literal texts and references of `text`, in order. Raises ValueError that says what is wrong."""
    if "${" not in text:
        return (text,) if text else ()
    parts, _ = _parse(text, 0, 0)
    return parts


def _parse(text: str, start: int, depth: int) -> tuple[Parts, int]:
    """Read up to the end, or inside a default (`depth` > 0) up to the brace that closes it."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"references are nested deeper than {_MAX_DEPTH}")
    parts: list[str | Reference] = []
    literal: list[str] = []
    i = start
    while special := _SPECIAL.search(text, i):
        literal.append(text[i : special.start()])
        i = special.start()
        if special[0] == "$${":
            literal.append("${")
            i = special.end()
        elif special[0] == "${":
            _flush(literal, parts)
            reference, i = _reference(text, i, depth)
            parts.append(reference)
        elif depth:
            break
        else:
            literal.append("}")
            i = special.end()
    else:
        literal.append(text[i:])
        i = len(text)
    _flush(literal, parts)
    return tuple(parts), i


def _flush(literal: list[str], parts: list[str | Reference]) -> None:
    if text := "".join(literal):
        parts.append(text)
    literal.clear()


def _reference(text: str, start: int, depth: int) -> tuple[Reference, int]:
    found = _NAME_END.search(text, start + 2)
    if found is None:
        raise ValueError("'${' is not closed by '}'; write $${ for a literal ${")
    end = found.start()
    scheme, name = _name(text[start + 2 : end])
    if text[end] == "}":
        return Reference(scheme, name), end + 1
    default, close = _parse(text, end + 2, depth + 1)
    if close >= len(text):
        raise ValueError("'${' is not closed by '}'; write $${ for a literal ${")
    return Reference(scheme, name, default), close + 1


def _name(text: str) -> tuple[str, str]:
    if _VARIABLE.fullmatch(text):
        return ENVIRONMENT, text
    if match := _SCHEMED.fullmatch(text):
        return match[1], match[2]
    raise ValueError("'${…}' holds no variable name; write ${NAME}, ${NAME:-default}, ${secret:NAME}, or $${ for ${")


def references(text: str) -> tuple[Reference, ...]:
    """Return every reference in `text`, those in defaults too. Raises ValueError."""
    return tuple(_walk(parse(text)))


def beyond_origin(url: str) -> Iterator[Reference]:
    """Yield the references of a URL but those that make up its origin: hosts are named in errors and in answers.

    Raises ValueError.
    """
    seen = ""
    for part in parse(url):
        if isinstance(part, str):
            seen += part
        elif "/" in seen.partition("://")[2] or "?" in seen:
            yield part


def texts_within(value: Any) -> Iterator[str]:
    """Yield every text of a JSON value, at any depth, but names of fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_within(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_within(item)


def _walk(parts: Parts) -> Iterator[Reference]:
    for part in parts:
        if isinstance(part, Reference):
            yield part
            yield from _walk(part.default or ())


def escape(text: str) -> str:
    """Return the text that resolves to `text` as it stands."""
    return text.replace("${", "$${")
