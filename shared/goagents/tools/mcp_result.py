"""What the model sees of an MCP result: text as it is, images as images, everything else described."""

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from typing import Any

import mcp_types as types

from goagents.messages import Content, ImagePart, TextPart
from goagents.tools.base import ToolResult
from goagents.tools.redaction import Redactor

MAX_IMAGE = 1 << 20  # bytes; providers take a few MiB, but every further turn sends it again
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})  # what all providers accept
_MAX_PARTS = 1000
_MOST = 4 << 20  # characters of texts that are looked at where no bound is told, as of a Python function's result
_LEAST = 1 << 20  # as many as the engine looks at, whatever the bound
_NOTHING = "(the tool returned nothing)"


def render(result: types.CallToolResult, redactor: Redactor, max_output: int = _MOST) -> ToolResult:
    """Return a tool's result. Structured content is shown where the text does not say the same already.

    Of texts that are far longer than `max_output`, a beginning is looked at: the engine would cut them anyway.
    """
    parts = [_part(block) for block in result.content[:_MAX_PARTS]]
    if len(result.content) > _MAX_PARTS:
        parts.append(TextPart(f"[{len(result.content) - _MAX_PARTS} more parts were left out]"))
    structured = result.structured_content
    if structured is not None and not _says(result.content, structured):
        parts.append(TextPart(_json(structured)))
    return ToolResult(_clean(parts, redactor, max_output), result.is_error)


def render_resource(result: types.ReadResourceResult, redactor: Redactor, max_output: int = _MOST) -> ToolResult:
    """Return a resource's contents, of which as much is looked at as of a tool's result."""
    parts = [_contents(contents, named=len(result.contents) > 1) for contents in result.contents[:_MAX_PARTS]]
    return ToolResult(_clean(parts, redactor, max_output))


def _clean(parts: Sequence[Content], redactor: Redactor, max_output: int) -> tuple[Content, ...]:
    """Return the parts without secrets. That they were cut is told first: the engine cuts the end."""
    if not parts:
        return (TextPart(_NOTHING),)
    size = sum(len(part.text) for part in parts if isinstance(part, TextPart))
    most = room = max(max_output, _LEAST) + redactor.longest
    clean: list[Content] = []
    if size > most:
        clean.append(TextPart(f"[cut: of {size} characters {most} are read; ask for less]"))
    for part in parts:
        if isinstance(part, TextPart):
            if room or not part.text:
                clean.append(TextPart(redactor.redact(part.text[:room], cut=len(part.text) > room)))
            room = max(0, room - len(part.text))
        else:
            clean.append(part)
    return tuple(clean)


def _part(block: types.ContentBlock) -> Content:
    if isinstance(block, types.TextContent):
        return TextPart(block.text)
    if isinstance(block, types.ImageContent):
        return _binary(block.data, block.mime_type)
    if isinstance(block, types.AudioContent):
        return TextPart(f"({_described(block.data, block.mime_type)}, not shown)")
    if isinstance(block, types.ResourceLink):
        about = f": {block.description}" if block.description else ""
        return TextPart(f"[resource {block.uri} ({block.title or block.name}){about}]")
    return _contents(block.resource, named=True)


def _contents(contents: types.TextResourceContents | types.BlobResourceContents, *, named: bool) -> Content:
    if isinstance(contents, types.TextResourceContents):
        return TextPart(f"[resource {contents.uri}]\n{contents.text}" if named else contents.text)
    part = _binary(contents.blob, contents.mime_type or "binary data")
    return TextPart(f"[resource {contents.uri}] {part.text}") if isinstance(part, TextPart) else part


def _binary(data: str, media_type: str) -> Content:
    kind = media_type.partition(";")[0].strip().lower()
    if kind in _IMAGES and len(data) <= MAX_IMAGE * 4 // 3 + 4 and _is_base64(data):
        return ImagePart(media_type=kind, data=data)
    return TextPart(f"({_described(data, media_type)}, not shown)")


def _described(data: str, media_type: str) -> str:
    return f"{media_type[:100]}, about {len(data) * 3 // 4} bytes"


def _is_base64(data: str) -> bool:
    try:
        return bool(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        return False


def _says(content: Iterable[types.ContentBlock], structured: Any) -> bool:
    """Whether the text is the structured content, which servers repeat for clients that know no other."""
    texts = [block.text for block in content if isinstance(block, types.TextContent)]
    if any(_parsed(text) == structured for text in texts):
        return True
    if not isinstance(structured, dict) or len(structured) != 1:
        return False
    (value,) = structured.values()  # a value that is no object is put into one
    if isinstance(value, list):
        return len(value) == len(texts) and all(
            text == item or _parsed(text) == item for text, item in zip(texts, value, strict=True)
        )
    return any(text == value or _parsed(text) == value for text in texts)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
