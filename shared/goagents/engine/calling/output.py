"""What of a tool's result goes to the model, by one rule for all kinds: no secrets, a bound, a note of what was cut."""

import json
import re
from dataclasses import replace
from typing import Any

from goagents.messages import Content, TextPart
from goagents.tools.base import ToolResult
from goagents.tools.redaction import Redactor

MAX_READ = 1 << 20  # characters of one text that are looked at, unless the bound is higher
_LEAST_JSON = 256  # bytes: in less, shortened JSON says nothing
_DEPTH = 32
_REMEDY = "to see the rest, ask for less: a filter, a narrower query, one page"
_NOTHING = Redactor()
_BEGIN = re.compile(r"(?:[^\n]{0,500}\n){0,4}?\s*([{\[])")  # of JSON, after the few lines that may precede it


def bounded(result: ToolResult, limit: int, redactor: Redactor = _NOTHING) -> ToolResult:
    """Return the result without secrets, cut to `limit` bytes of UTF-8 in all, saying so. Images count in base64.

    JSON stays JSON: long lists, objects and texts in it are shortened. Half a surrogate pair, which is no UTF-8,
    becomes a question mark; an image that does not fit becomes a note.
    """
    left = limit
    most = max(limit, MAX_READ)
    room = limit + MAX_READ  # characters of all texts
    content: list[Content] = []
    for part in result.content:
        if isinstance(part, TextPart):
            text, size = _text(part.text, left, min(most, room) if left else 0, redactor)
            content.append(TextPart(text))
            room = max(0, room - len(part.text))
        else:
            size = len(part.data or "")
            note = f"[an image of {size} bytes was left out: over the limit of {limit} bytes]"
            content.append(part if size <= left else TextPart(note))
        left = max(0, left - size)
    return replace(result, content=tuple(content))


def redacted(result: ToolResult, redactor: Redactor) -> ToolResult:
    """Return a result that was bounded before, without the secrets of now. Nothing is cut or marked again: its JSON
    stays JSON, and where `[redacted]` is longer than what it stands for, it may exceed the bound by that."""
    content = (TextPart(redactor.redact(part.text)) if isinstance(part, TextPart) else part for part in result.content)
    return replace(result, content=tuple(content))


def _text(text: str, left: int, most: int, redactor: Redactor) -> tuple[str, int]:
    """Return what is shown of a text, and the size of all of it."""
    read = text[:most]
    encoded = redactor.redact(read, cut=len(read) < len(text)).encode(errors="replace")
    size = len(encoded) if len(read) == len(text) else _size(text)
    if size <= left:
        return encoded.decode(), size
    if len(read) == len(text) and left >= _LEAST_JSON:
        short = _shortened(encoded.decode(), left)
        if short is not None:
            # Read and written again, its texts are escaped in another way than they were.
            short = redactor.redact(short).encode(errors="replace").decode()
            return f"{short}\n[cut: this is a part of {size} bytes of JSON; {_REMEDY}]", size
    kept = encoded[:left].decode(errors="ignore")
    shown = min(left, len(encoded))
    return f"{kept}\n[cut: the first {shown} of {size} bytes are shown; {_REMEDY}]", size


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _shortened(text: str, limit: int) -> str | None:
    """Return JSON of about `limit` bytes that begins like `text`; None where that is no JSON, or nothing of it fits.

    A line or two before it (`HTTP 200 OK`) stay as they are.
    """
    begin = _BEGIN.match(text)
    if begin is None:
        return None
    head, body = text[: begin.start(1)], text[begin.start(1) :]
    try:
        short, _ = _shorten(json.loads(body), limit - len(head.encode()), _DEPTH)
        written = head + _json(short)
    except (ValueError, RecursionError):
        return None
    return written if len(written.encode(errors="replace")) <= limit + limit // 4 else None


def _shorten(value: Any, room: int, depth: int) -> tuple[Any, int]:
    """Return what of `value` fits into `room` bytes, and its size. Something is left even of what does not fit."""
    if isinstance(value, str):
        return _short_text(value, room)
    if not isinstance(value, dict | list) or depth == 0:
        text = _json(value)
        return (value, len(text)) if depth or len(text) <= room else ("[cut]", 7)
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    kept: list[tuple[Any, Any]] = []
    used = 2
    for key, item in entries:
        own = len(_json(key)) + 2 if isinstance(value, dict) else 1
        left = room - used - own
        if left < 16 and kept:
            break
        short, size = _shorten(item, left, depth - 1)
        if size > left and kept:
            break
        kept.append((key, short))
        used += own + size
    note = f"[cut: {len(kept)} of {len(value)} are shown]" if len(kept) < len(value) else None
    if isinstance(value, dict):
        return dict(kept) | ({"…": note} if note else {}), used
    return [item for _, item in kept] + ([note] if note else []), used


def _short_text(text: str, room: int) -> tuple[str, int]:
    size = len(_json(text).encode(errors="replace"))
    if size <= room:
        return text, size
    kept = text[: max(0, room * len(text) // size - 40)]
    return f"{kept}[cut: the first {len(kept)} of {len(text)} characters are shown]", max(room, 48)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
