"""A strict fake of Anthropic's Messages API: refuses what the vendor refuses, and can fail in every way it can.

In a test: `with FakeAnthropic() as fake: fake.replies.append(stream(message(text("Hi")))); …`.
As the upstream of a benchmark: `python -m tests.support.fakes.anthropic --port 9002`, with a model `bench-20-100`.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.fakes.wire import FakeServer, Json, Refused, Reply, Request, json_reply, serve, stream

KEY = "sk-ant-test-0123456789abcdef"
MODEL = "claude-sonnet-4-20250514"
INVALID = "invalid_request_error"
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_FIELDS = frozenset(
    {"model", "messages", "max_tokens", "system", "stream", "tools", "tool_choice", "temperature", "top_p", "top_k"}
    | {"stop_sequences", "metadata", "thinking", "output_config", "service_tier", "cache_control", "container"}
)
_ROLES = {"user": {"text", "image", "tool_result"}, "assistant": {"text", "thinking", "redacted_thinking", "tool_use"}}
_MEDIA_TYPES = {"image/png", "image/jpeg", "image/gif", "image/webp"}
_MAX_BREAKPOINTS = 4


# What the model says


def event(name: str, **data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data}, ensure_ascii=False)}\n\n".encode()


def error_event(kind: str, message: str = "something broke") -> bytes:
    return event("error", error={"type": kind, "message": message}, request_id="req_1")


def error(status: int, kind: str, message: str = "refused", **headers: str) -> Reply:
    """Return an error response in the vendor's format; `retry_after="2"` becomes the header Retry-After."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    return json_reply(body, status, fields)


def sign(thinking: str) -> str:
    """The signature this fake gives a thought, and demands back unchanged."""
    return "sig" + base64.b64encode(hashlib.sha256(thinking.encode()).digest()).decode()


def text(content: str) -> list[Json]:
    deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(content)]
    return [{"type": "text", "text": ""}, *deltas]


def thinking(content: str) -> list[Json]:
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(content)]
    start = {"type": "thinking", "thinking": "", "signature": ""}
    return [start, *deltas, {"type": "signature_delta", "signature": sign(content)}]


def redacted(data: str) -> list[Json]:
    return [{"type": "redacted_thinking", "data": data}]


def tool_use(call_id: str, name: str, arguments: Json | str) -> list[Json]:
    """A tool call; `arguments` as a string are sent as they are, valid JSON or not."""
    raw = arguments if isinstance(arguments, str) else json.dumps(arguments)
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *_pieces(raw))]
    return [{"type": "tool_use", "id": call_id, "name": name, "input": {}}, *deltas]


def message(
    *blocks: list[Json], stop_reason: str | None = None, usage: Json | None = None, model: str = MODEL
) -> list[bytes]:
    """Return the events of one answer: `blocks` are each a block's start followed by its deltas."""
    calls = any(block[0]["type"] == "tool_use" for block in blocks)
    counted = {"input_tokens": 25, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, **(usage or {})}
    start = {"id": "msg_01", "type": "message", "role": "assistant", "model": model, "content": []}
    start |= {"stop_reason": None, "stop_sequence": None, "usage": {**counted, "output_tokens": 1}}
    events = [event("message_start", message=start), event("ping")]
    for index, (head, *deltas) in enumerate(blocks):
        events.append(event("content_block_start", index=index, content_block=head))
        events += [event("content_block_delta", index=index, delta=delta) for delta in deltas]
        events.append(event("content_block_stop", index=index))
    reason = stop_reason or ("tool_use" if calls else "end_turn")
    output = {"output_tokens": 15, **{k: v for k, v in counted.items() if k.startswith("output")}}
    events.append(event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=output))
    return [*events, event("message_stop")]


def _pieces(content: str, size: int = 6) -> Iterator[str]:
    return (content[start : start + size] for start in range(0, len(content), size))


# What the vendor refuses


class FakeAnthropic(FakeServer):
    def __init__(self, *, api_key: str = KEY, version: str = "2023-06-01") -> None:
        super().__init__(api_key=api_key)
        self.version = version

    def model(self, request: Request) -> str:
        return str(request.body.get("model"))

    def refusal(self, refused: Refused) -> Reply:
        return error(refused.status, refused.kind, str(refused))

    def validate(self, request: Request) -> None:
        headers = request.headers
        if request.path != "/v1/messages":
            raise Refused(404, "not_found_error", f"Not found: {request.path}")
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if given != self.api_key:
            raise Refused(401, "authentication_error", f"invalid x-api-key: {given}")
        if headers.get("anthropic-version") != self.version:
            raise Refused(400, INVALID, f"anthropic-version: {headers.get('anthropic-version')} is not valid")
        validate(request.body)

    def echo(self, request: Request) -> Reply:
        content = request.body["messages"][-1]["content"]
        said = content if isinstance(content, str) else " ".join(block.get("text", "") for block in content)
        return stream(message(text(said.strip() or "Hello"), model=request.body["model"]))

    def bench(self) -> tuple[bytes, bytes, bytes]:
        events = message(text("word  "))
        return b"".join(events[:3]), events[3], b"".join(events[4:])


def validate(body: Json) -> None:
    if unknown := sorted(body.keys() - _FIELDS):
        raise Refused(400, INVALID, f"{unknown[0]}: Extra inputs are not permitted")
    for name, kind in (("model", str), ("max_tokens", int), ("messages", list)):
        if not isinstance(body.get(name), kind) or not body[name]:
            raise Refused(400, INVALID, f"{name}: Field required")
    if body.get("stream") is not True:
        raise Refused(400, INVALID, "stream: this fake only streams")
    if not 0 <= body.get("temperature", 0) <= 1:
        raise Refused(400, INVALID, "temperature: range: 0..1")
    _validate_thinking(body)
    _validate_tools(body)
    _validate_output(body)
    if isinstance(body.get("system"), list):
        _validate_blocks(body["system"], {"text"}, "system")
    _validate_messages(body)
    if json.dumps(body).count('"cache_control": {') > _MAX_BREAKPOINTS:
        raise Refused(400, INVALID, "A maximum of 4 blocks with cache_control may be provided")


def _validate_thinking(body: Json) -> None:
    config = body.get("thinking") or {"type": "disabled"}
    if config["type"] not in ("enabled", "disabled", "adaptive"):
        raise Refused(400, INVALID, f"thinking.type: {config['type']}")
    if config["type"] == "enabled" and not 1024 <= config.get("budget_tokens", 0) < body["max_tokens"]:
        raise Refused(400, INVALID, "`max_tokens` must be greater than `thinking.budget_tokens` (at least 1024)")
    if config["type"] == "disabled":
        return
    if body.get("temperature", 1) != 1:
        raise Refused(400, INVALID, "`temperature` may only be set to 1 when thinking is enabled")
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise Refused(400, INVALID, "Thinking may not be enabled when tool_choice forces tool use")


def _validate_tools(body: Json) -> None:
    tools = body.get("tools", [])
    if not tools and "tool_choice" in body:
        raise Refused(400, INVALID, "tool_choice: may only be specified while providing tools")
    for number, tool in enumerate(tools):
        if not _NAME.fullmatch(tool.get("name", "")):
            raise Refused(400, INVALID, f"tools.{number}.custom.name: String should match pattern")
        schema = tool.get("input_schema")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            raise Refused(400, INVALID, f"tools.{number}.custom.input_schema.type: Input should be 'object'")
    names = [tool["name"] for tool in tools]
    if len(set(names)) != len(names):
        raise Refused(400, INVALID, "tools: Tool names must be unique.")


def _validate_output(body: Json) -> None:
    wanted = (body.get("output_config") or {}).get("format")
    if wanted is None:
        return
    if wanted.get("type") != "json_schema" or not isinstance(wanted.get("schema"), dict):
        raise Refused(400, INVALID, "output_config.format: expected a json_schema")
    if wanted["schema"].get("type") == "object" and wanted["schema"].get("additionalProperties") is not False:
        raise Refused(400, INVALID, "output_config.format.schema: 'additionalProperties' must be false")


def _validate_messages(body: Json) -> None:
    awaited: set[str] = set()
    seen: set[str] = set()
    for number, item in enumerate(body["messages"]):
        place = f"messages.{number}"
        role = "user" if number % 2 == 0 else "assistant"
        if item.get("role") != role:
            raise Refused(400, INVALID, f"{place}: roles must alternate, and the first is user")
        content = item.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        _validate_blocks(content, _ROLES[role], place)
        if role == "user":
            _validate_results(content, awaited, place)
        awaited = {block["id"] for block in content if block["type"] == "tool_use"}
        if awaited and not body.get("tools"):
            raise Refused(400, INVALID, "Requests which include `tool_use` or `tool_result` blocks must define tools")
        if awaited & seen or len(awaited) != sum(block["type"] == "tool_use" for block in content):
            raise Refused(400, INVALID, f"{place}: `tool_use` ids must be unique")
        seen |= awaited
    if len(body["messages"]) % 2 == 0:
        raise Refused(400, INVALID, "This model does not support assistant message prefill")
    _validate_open_turn(body)


def _validate_open_turn(body: Json) -> None:
    """With a thinking budget, the first assistant message of a turn that results continue starts with its thought."""
    messages = body["messages"]
    start = len(messages) - 1
    while start > 1 and messages[start]["content"][0]["type"] == "tool_result":
        start -= 2
    if (body.get("thinking") or {}).get("type") != "enabled" or start == len(messages) - 1:
        return
    first = messages[start + 1]["content"][0]["type"]
    if first not in ("thinking", "redacted_thinking"):
        raise Refused(400, INVALID, f"Expected `thinking` or `redacted_thinking`, but found `{first}`")


def _validate_results(content: list[Json], awaited: set[str], place: str) -> None:
    results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
    if sorted(results) != sorted(awaited):
        raise Refused(400, INVALID, f"{place}: each `tool_use` must have exactly one `tool_result` in the next message")
    if any(block["type"] != "tool_result" for block in content[: len(results)]):
        raise Refused(400, INVALID, f"{place}: tool_result blocks come first")


def _validate_blocks(content: Any, allowed: set[str], place: str) -> None:
    if not isinstance(content, list) or not content:
        raise Refused(400, INVALID, f"{place}: content must be non-empty")
    for number, block in enumerate(content):
        where = f"{place}.content.{number}"
        if block.get("type") not in allowed:
            raise Refused(400, INVALID, f"{where}: unexpected block {block.get('type')}")
        _BLOCKS[block["type"]](block, where)
        if block.get("cache_control", {"type": "ephemeral"})["type"] != "ephemeral":
            raise Refused(400, INVALID, f"{where}.cache_control: unexpected type")


def _text(block: Json, where: str) -> None:
    if not block["text"].strip():
        raise Refused(400, INVALID, f"{where}: text content blocks must contain non-whitespace text")


def _image(block: Json, where: str) -> None:
    source = block["source"]
    if source["type"] == "url" and re.match(r"https?://", source["url"]):
        return
    if source["type"] != "base64" or source.get("media_type") not in _MEDIA_TYPES:
        raise Refused(400, INVALID, f"{where}.source: Input should be a base64 or url source")
    try:
        base64.b64decode(source["data"], validate=True)
    except binascii.Error as fault:
        raise Refused(400, INVALID, f"{where}.source.base64: invalid base64 data") from fault


def _thinking(block: Json, where: str) -> None:
    if block.get("signature") != sign(block["thinking"]) or "cache_control" in block:
        raise Refused(400, INVALID, f"{where}: Invalid `signature` in `thinking` block")


def _redacted(block: Json, where: str) -> None:
    if not block.get("data") or block.keys() != {"type", "data"}:
        raise Refused(400, INVALID, f"{where}.data: Field required")


def _tool_use(block: Json, where: str) -> None:
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]) or not _NAME.fullmatch(block["name"]):
        raise Refused(400, INVALID, f"{where}: String should match pattern")
    if not isinstance(block["input"], dict):
        raise Refused(400, INVALID, f"{where}.input: Input should be a valid dictionary")


def _tool_result(block: Json, where: str) -> None:
    if unknown := block.keys() - {"type", "tool_use_id", "content", "is_error", "cache_control"}:
        raise Refused(400, INVALID, f"{where}.{min(unknown)}: Extra inputs are not permitted")
    if isinstance(block.get("content", []), list) and block.get("content"):
        _validate_blocks(block["content"], {"text", "image"}, where)


_BLOCKS = {
    "text": _text,
    "image": _image,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
}


if __name__ == "__main__":
    serve(FakeAnthropic())
