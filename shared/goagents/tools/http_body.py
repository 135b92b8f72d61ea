"""Reading a response's body with bounds: on the wire, and again once decompressed."""

import zlib
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from goagents.errors import ToolFailed

_WIRE_SLACK = 65_536  # compressed bytes may outnumber plain ones a little; without end they must not
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Body:
    """`content` is decompressed. `cut`: there was more than the limit. `size`: of the whole in bytes, where known."""

    content: bytes
    media_type: str
    charset: str | None
    cut: bool
    size: int | None


async def read_body(response: aiohttp.ClientResponse, limit: int, image_limit: int, *, head: bool) -> Body:
    """Read at most `limit` bytes (`image_limit` of an image). Raises ToolFailed for a body that cannot be decoded."""
    media_type = _media_type(response)
    if media_type.startswith("image/") and media_type != "image/svg+xml":
        limit = image_limit
    decoder = _decoder(response.headers.get("Content-Encoding", ""))
    content, cut = (b"", False) if head else await _read(response, decoder, limit)
    if cut:
        response.close()  # the rest is not wanted; a connection with a rest cannot be used again
    size = response.content_length if isinstance(decoder, _Plain) else None
    return Body(content, media_type, response.charset, cut, size if cut or head else len(content))


async def _read(response: aiohttp.ClientResponse, decoder: "_Decoder", limit: int) -> tuple[bytes, bool]:
    content = bytearray()
    wire = 0
    async for chunk in response.content.iter_chunked(_CHUNK):
        wire += len(chunk)
        content += decoder.decode(chunk, limit + 1 - len(content))
        if len(content) > limit or wire > limit + _WIRE_SLACK:
            return bytes(content[:limit]), True
    if not decoder.complete:
        raise ToolFailed(f"the compressed answer of {response.url.raw_host} ended before it was complete")
    return bytes(content), False


class _Decoder(Protocol):
    @property
    def complete(self) -> bool: ...

    def decode(self, data: bytes, limit: int) -> bytes:
        """Return at most `limit` decoded bytes; what lies beyond them in `data` may be lost."""
        ...


class _Plain:
    complete = True

    def decode(self, data: bytes, limit: int) -> bytes:
        return data[:limit]


class _Inflate:
    """gzip (also of several members) and deflate (with or without the zlib header that RFC 9110 asks for)."""

    def __init__(self, encoding: str) -> None:
        self._gzip = encoding != "deflate"
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16) if self._gzip else None
        self._started = False

    @property
    def complete(self) -> bool:
        return not self._started or self._inflater is None or self._inflater.eof

    def decode(self, data: bytes, limit: int) -> bytes:
        self._started = self._started or bool(data)
        try:
            return self._decode(data, limit)
        except zlib.error as error:
            raise ToolFailed("the answer is not compressed the way its Content-Encoding says") from error

    def _decode(self, data: bytes, limit: int) -> bytes:
        if self._inflater is None:
            self._inflater = zlib.decompressobj(_deflate_window(data))
        decoded = self._inflater.decompress(data, limit)
        while self._gzip and self._inflater.eof and self._inflater.unused_data and len(decoded) < limit:
            rest = self._inflater.unused_data
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            decoded += self._inflater.decompress(rest, limit - len(decoded))
        return decoded


def _deflate_window(data: bytes) -> int:
    has_header = len(data) > 1 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS


def _decoder(encoding: str) -> _Decoder:
    match encoding.strip().lower():
        case "" | "identity":
            return _Plain()
        case "gzip" | "x-gzip" | "deflate" as known:
            return _Inflate(known)
        case _:
            raise ToolFailed("the answer is compressed in a way that was not asked for")


def _media_type(response: aiohttp.ClientResponse) -> str:
    """Return the media type in lower case, "" where the server names none (aiohttp would say octet-stream)."""
    return response.content_type.lower() if "Content-Type" in response.headers else ""
