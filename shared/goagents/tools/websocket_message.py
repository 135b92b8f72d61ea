"""Messages on their way out and in: templates filled, ids put in and found, and what the model sees of an answer."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from goagents.errors import ToolInvalidArguments
from goagents.spec.references import Parts, Reference, escape, parse
from goagents.spec.websocket import CALL_KEY, PLACEHOLDER
from goagents.tools.base import ToolResult, text_result
from goagents.tools.redaction import Redactor

Resolve = Callable[[str], str]

_MAX_READ = 16 << 20  # bytes of messages kept for one result
ABSENT: Any = object()
_Filled = Callable[[Mapping[str, Any], Resolve], Any]


class Received:
    """One message of the server. `text` is None for a binary one of `size` bytes."""

    def __init__(self, text: str | None, size: int) -> None:
        self.text = text
        self.size = size

    @cached_property
    def value(self) -> Any:
        """The JSON value, ABSENT where the message is no JSON."""
        if self.text is None:
            return ABSENT
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return ABSENT

    def at(self, path: str) -> Any:
        """Return what stands at a dotted path, ABSENT where nothing does."""
        value = self.value
        for key in path.split("."):
            if not isinstance(value, dict) or key not in value:
                return ABSENT
            value = value[key]
        return value


def same(value: Any, wanted: Any) -> bool:
    """Whether two JSON values are equal; to Python, 1 and true would be, too."""
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


@dataclass(frozen=True, slots=True)
class Message:
    """What a call sends. `correlation` is the path that an id goes to, in a message that is an object."""

    content: Any
    text: bool
    correlation: str | None = None

    def encode(self, number: str | int | None = None) -> str:
        """Return the text of the frame. Raises ToolInvalidArguments."""
        if self.text:
            return _sendable(str(self.content))
        content = self.content
        if self.correlation is not None and number is not None:
            content = _with(content, self.correlation.split("."), number)
        return _sendable(json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


class Template:
    """A message with `{argument}` and `${…}` in its texts; None sends the arguments themselves."""

    def __init__(self, template: Any, correlation: str | None = None) -> None:
        self._text = isinstance(template, str)
        self._filled = _compile(template) if template is not None else None
        self._correlation = correlation

    def fill(self, arguments: Mapping[str, Any], key: str, resolve: Resolve) -> Message:
        """Return the message. Raises ToolInvalidArguments, and ConfigurationError for an unset variable."""
        if self._filled is None:
            return Message(dict(arguments), False, self._correlation)
        content = self._filled({**arguments, CALL_KEY: key}, resolve)
        if self._text:
            return Message("" if content is ABSENT else _plain(content), True)
        return Message(content, False, self._correlation)


def render(
    received: Iterable[Received], redactor: Redactor, note: str | None = None, *, is_error: bool = False
) -> ToolResult:
    """Return the messages, one below the other, and the note after them."""
    lines = [_shown(message, redactor) for message in received]
    return text_result("\n".join([*lines, *([f"[{redactor.redact(note)}]"] if note else [])]), is_error=is_error)


def read_limit(max_output: int, redactor: Redactor) -> int:
    """Return how many bytes of messages to keep for `max_output` bytes to show: compacting makes them shorter."""
    return min(2 * max_output + redactor.longest, _MAX_READ)


def _shown(message: Received, redactor: Redactor) -> str:
    if message.text is None:
        return f"[a binary message of {message.size} bytes is not shown]"
    if not message.text:
        return "[an empty message]"
    text = message.text
    if message.value is not ABSENT:
        try:
            text = json.dumps(message.value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (ValueError, RecursionError):
            text = message.text  # more than JSON can hold: the model sees what came
    return redactor.redact(text)


def _with(content: Any, path: list[str], number: str | int) -> dict[str, Any]:
    """Return the object with `number` at `path`; what is not there is made, nothing given is changed in place."""
    if not isinstance(content, dict):
        raise ToolInvalidArguments(f"{path[0]}: its place in the message is filled with something that is no object")
    if len(path) == 1:
        return {**content, path[0]: number}
    return {**content, path[0]: _with(content.get(path[0], {}), path[1:], number)}


def _sendable(text: str) -> str:
    try:
        text.encode()
    except UnicodeError as error:
        raise ToolInvalidArguments("the arguments hold half of a surrogate pair, which is no text") from error
    return text


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _compile(template: Any) -> _Filled:
    if isinstance(template, str):
        return _compile_text(template)
    if isinstance(template, dict):
        fields = {key: _compile(item) for key, item in template.items()}
        return lambda arguments, resolve: _present(fields, arguments, resolve)
    if isinstance(template, list):
        items = [_compile(item) for item in template]
        return lambda arguments, resolve: [
            item for filled in items if (item := filled(arguments, resolve)) is not ABSENT
        ]
    return lambda _arguments, _resolve: template


def _present(fields: Mapping[str, _Filled], arguments: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
    """An argument that was left out leaves its field out, so that the service's own default holds."""
    found = {key: filled(arguments, resolve) for key, filled in fields.items()}
    return {key: value for key, value in found.items() if value is not ABSENT}


def _compile_text(text: str) -> _Filled:
    alone = PLACEHOLDER.fullmatch(text)
    if alone is not None and (name := alone["name"]):
        return lambda arguments, _resolve: arguments.get(name, ABSENT)  # with its type
    pieces = [piece for part in parse(text) for piece in _pieces(part)]
    return lambda arguments, resolve: "".join(piece(arguments, resolve) for piece in pieces)


def _pieces(part: str | Reference) -> Iterable[Callable[[Mapping[str, Any], Resolve], str]]:
    """References are resolved one by one: an argument's value is never read as one."""
    if isinstance(part, Reference):
        source = _source(part)
        yield lambda _arguments, resolve: resolve(source)
        return
    end = 0
    for found in PLACEHOLDER.finditer(part):
        yield _literal(part[end : found.start()])
        yield _literal(f"{{{found['literal']}}}") if found["literal"] else _argument(found["name"])
        end = found.end()
    yield _literal(part[end:])


def _literal(text: str) -> Callable[[Mapping[str, Any], Resolve], str]:
    return lambda _arguments, _resolve: text


def _argument(name: str) -> Callable[[Mapping[str, Any], Resolve], str]:
    return lambda arguments, _resolve: _plain(arguments[name]) if name in arguments else ""


def _source(reference: Reference) -> str:
    """Return the text that `reference` was read from."""
    if reference.default is None:
        return f"${{{reference.key}}}"
    return f"${{{reference.key}:-{_default(reference.default)}}}"


def _default(parts: Parts) -> str:
    return "".join(escape(part) if isinstance(part, str) else _source(part) for part in parts)
