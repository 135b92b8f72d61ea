"""Server-sent events from bytes, cheaply: what an adapter needs to read a vendor's raw stream."""

from collections.abc import Iterator

from goagents.errors import ProviderProtocolError

MAX_EVENT = 16 * 1024 * 1024  # bytes; a vendor's event is a few hundred


class EventDecoder:
    """Turns chunks of bytes, cut anywhere, into `(event name or "", data)` pairs, as the HTML standard says.

    Comments, `id` and `retry` are skipped. An event that the stream's end leaves unfinished is dropped.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield the events that `chunk` completes. Raises ProviderProtocolError for an event over MAX_EVENT bytes."""
        lines = (self._rest + chunk if self._rest else chunk).splitlines(keepends=True)
        # A last line without its end waits for the rest; so does one ending in CR, whose LF may be in the next chunk.
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        if self._size + len(self._rest) > MAX_EVENT:
            raise ProviderProtocolError(f"{self._provider} sent an event of more than {MAX_EVENT} bytes")
        for line in lines:
            event = self._line(line.rstrip(b"\r\n"))
            if event is not None:
                yield event

    def _line(self, line: bytes) -> tuple[str, bytes] | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value)
            if self._size > MAX_EVENT:
                raise ProviderProtocolError(f"{self._provider} sent an event of more than {MAX_EVENT} bytes")
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return None

    def _dispatch(self) -> tuple[str, bytes] | None:
        name, data = self._name, self._data
        self._name, self._data, self._size = "", [], 0
        return (name, data[0] if len(data) == 1 else b"\n".join(data)) if data else None
