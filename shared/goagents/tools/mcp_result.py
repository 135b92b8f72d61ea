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
_NOTHING = "(the tool returned nothing)"


def render(result: types.CallToolResult, redactor: Redactor) -> ToolResult:
    """Return a tool's result. Structured content is shown where the text does not say the same already."""
    parts = [_part(block) for block in result.content[:_MAX_PARTS]]
    if len(result.content) > _MAX_PARTS:
        parts.append(TextPart(f"[{len(result.content) - _MAX_PARTS} more parts were left out]"))
    structured = result.structured_content
    if structured is not None and not _says(result.content, structured):
        parts.append(TextPart(_json(structured)))
    return ToolResult(_clean(parts, redactor), result.is_error)


def render_resource(result: types.ReadResourceResult, redactor: Redactor) -> ToolResult:
    """Return a resource's contents."""
    parts = [_contents(contents, named=len(result.contents) > 1) for contents in result.contents[:_MAX_PARTS]]
    return ToolResult(_clean(parts, redactor))


def _clean(parts: Sequence[Content], redactor: Redactor) -> tuple[Content, ...]:
    if not parts:
        return (TextPart(_NOTHING),)
    return tuple(TextPart(redactor.redact(part.text)) if isinstance(part, TextPart) else part for part in parts)


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
