"""What the model sees of an HTTP answer: the status and the body, secrets taken out, cut to the tool's bound."""

import base64
import codecs
import json
import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from goagents.attempts import fault_of_status
from goagents.messages import ImagePart, TextPart
from goagents.tools.base import ToolResult
from goagents.tools.http_body import Body
from goagents.tools.http_client import HttpAnswer
from goagents.tools.redaction import Redactor

MAX_IMAGE = 1 << 20  # bytes; providers take a few MiB, but every further turn sends it again
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})  # what all three providers accept
_TEXTUAL = ("json", "xml", "yaml", "javascript", "ecmascript", "x-www-form-urlencoded", "graphql", "toml", "csv", "sql")
_SHOWN_HEADERS = ("Location", "Link", "Retry-After")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_MAX_HEADER = 500
# Codecs that do something other than decode a character set, some of them slowly.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7", "undefined"})


def read_limit(max_output: int, redactor: Redactor) -> int:
    """Return how many bytes to read for `max_output` bytes to show: compacting and redacting make an answer shorter."""
    return 2 * max_output + redactor.longest


def render(answer: HttpAnswer, max_output: int, redactor: Redactor) -> ToolResult:
    """Return the answer as a tool result; a status of 400 and above is an error that the model can mend."""
    is_error = answer.status >= 400
    head = _head(answer, redactor)
    body = answer.body
    if body.media_type in _IMAGES and body.content and not body.cut and not is_error:
        image = ImagePart(media_type=body.media_type, data=base64.b64encode(body.content).decode())
        return ToolResult((TextPart(head.encode(errors="replace").decode()), image), is_error)
    if not body.content:
        shown = "(no body)"
    elif not _is_text(body):
        shown = f"({_described(body)}, not shown)"
    else:
        shown = redactor.redact(_text(body), cut=body.cut)
    text = _bounded(f"{head}\n{shown}", body, max_output)
    return ToolResult((TextPart(text),), is_error, fault_of_status(answer.status), _retry_after(answer))


def _retry_after(answer: HttpAnswer) -> float | None:
    """Return the seconds that the server asks to wait; None where it asks for none, or not in a way that is known."""
    text = answer.headers.get("Retry-After", "").strip()
    if answer.status < 400 or not text:
        return None
    try:
        return _finite(float(text)) if text[:1].isdigit() and text[-1:].isdigit() else _until(text)
    except (ValueError, OverflowError):
        return None


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


def _until(text: str) -> float:
    when = parsedate_to_datetime(text)
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _head(answer: HttpAnswer, redactor: Redactor) -> str:
    lines = [f"HTTP {answer.status} {_PHRASES.get(answer.status, '')}".rstrip()]
    if answer.body.content and answer.body.media_type not in ("", "application/json"):
        lines[0] += f" ({answer.body.media_type})"
    shown = [f"{name}: {answer.headers[name]}" for name in _SHOWN_HEADERS if name in answer.headers]
    lines += [redactor.redact(line)[:_MAX_HEADER] for line in shown]
    return "\n".join(lines)


def _is_text(body: Body) -> bool:
    kind = body.media_type
    if kind.startswith("text/") or any(word in kind for word in _TEXTUAL):
        return True
    if kind not in ("", "application/octet-stream"):
        return False
    return b"\0" not in body.content and _strict(body.content, "utf-8", cut=body.cut) is not None


def _text(body: Body) -> str:
    charset = _charset(body)
    text = _strict(body.content, charset, cut=body.cut)
    if text is None:
        text = _strict(body.content, "utf-8", cut=body.cut)
    if text is None:
        text = body.content.decode(charset, errors="replace")
    return text if body.cut else _compact(text, body.media_type)


def _charset(body: Body) -> str:
    """Return the declared character set if it is one, else what a byte order mark says, else UTF-8."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if body.content.startswith(mark):
            return name
    try:
        codec = codecs.lookup(body.charset or "utf-8")
        b"a".decode(codec.name)
    except (LookupError, UnicodeDecodeError, ValueError):
        return "utf-8"
    return "utf-8" if codec.name.replace("_", "-") in _NO_CHARSETS else codec.name


def _strict(content: bytes, charset: str, *, cut: bool) -> str | None:
    try:
        return codecs.getincrementaldecoder(charset)(errors="strict").decode(content, final=not cut)
    except (UnicodeError, LookupError):
        return None


def _compact(text: str, media_type: str) -> str:
    if "json" not in media_type and not (media_type == "" and text[:1] in ("{", "[")):
        return text
    try:
        value = json.loads(text)
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return text  # not JSON after all, or more than JSON can hold: the model sees what came


def _bounded(text: str, body: Body, max_output: int) -> str:
    encoded = text.encode(errors="replace")  # half a surrogate pair is JSON, but no UTF-8
    if not (body.cut and _is_text(body)):
        return encoded.decode()  # all of it is here: the engine holds the bound, and JSON stays JSON
    whole = f"; its body has {body.size} bytes" if body.size else ""
    marker = f"\n[cut: the answer is longer than the tool's max_output of {max_output} bytes{whole}; ask for less]"
    room = max(0, max_output - len(marker.encode()))
    return encoded[:room].decode(errors="ignore") + marker


def _described(body: Body) -> str:
    size = f"{body.size} bytes" if body.size is not None else "of unknown size"
    if body.cut and body.size is None:
        size = f"more than {len(body.content)} bytes"
    return f"{body.media_type or 'binary data'}, {size}"
