"""Decoding of server-sent events (the WHATWG format), free of any transport."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

from .faults import UnexpectedAnswer

MAX_EVENT_SIZE = 32 << 20


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """`id` is the last id seen, as the format defines it."""

    event: str
    data: str
    id: str


class Decoder:
    """Feed it bytes in any cut; it yields each complete event. An event without its closing blank line is dropped."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._event = ""
        self._data: list[str] = []
        self._size = 0
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Raises UnexpectedAnswer for an event beyond 32 MiB of text."""
        for line in self._lines(self._text.decode(chunk)):
            if line:
                self._line(line)
            elif event := self._dispatch():
                yield event

    def _lines(self, text: str) -> list[str]:
        """Return the lines that are complete: each ends with LF, CR LF or CR."""
        text = self._rest + text
        # A CR at the very end may be the first half of a CR LF: it waits for the next chunk.
        held = "\r" if text.endswith("\r") else ""
        lines = text.removesuffix(held).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = lines.pop() + held
        self._bound(len(self._rest))
        return lines

    def _line(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._event = value
            case "data":
                self._size += len(value) + 1
                self._bound(self._size)
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value

    def _dispatch(self) -> ServerSentEvent | None:
        event = ServerSentEvent(self._event or "message", "\n".join(self._data), self._id) if self._data else None
        self._event, self._data, self._size = "", [], 0
        return event

    def _bound(self, size: int) -> None:
        if size > MAX_EVENT_SIZE:
            raise UnexpectedAnswer(f"the server sent an event larger than {MAX_EVENT_SIZE >> 20} MiB")
