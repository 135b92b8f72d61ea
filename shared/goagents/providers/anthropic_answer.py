"""The events of a Messages stream, put together to one answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from goagents.errors import ProviderProtocolError, ProviderRefused
from goagents.ids import new_id
from goagents.messages import Message, Part, ReasoningPart, StopReason, TextPart, ToolCallPart, Usage
from goagents.providers.anthropic_request import NAME
from goagents.providers.base import ModelResponse, ReasoningDelta, TextDelta

_STOP_REASONS: dict[str, StopReason] = {
    "end_turn": "end_turn",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "refusal": "refusal",
}


@dataclass(slots=True)
class _Block:
    """One content block while its pieces arrive; `pieces` are text, thought or the JSON of a call's arguments."""

    start: Mapping[str, Any]
    pieces: list[str] = field(default_factory=list)
    signature: str = ""
    open: bool = True

    @property
    def kind(self) -> str:
        return str(self.start["type"])

    def part(self) -> Part | None:
        text = "".join(self.pieces)
        if self.kind == "text":
            return TextPart(text) if text else None
        if self.kind == "thinking":
            return ReasoningPart(text, signature=self.signature or None)
        if self.kind == "redacted_thinking":
            return ReasoningPart("", signature=str(self.start["data"]), redacted=True)
        if self.kind == "tool_use":
            return self._call(text)
        return None  # a server tool's block: we ask for none

    def _call(self, raw: str) -> ToolCallPart:
        call_id, name = str(self.start.get("id") or new_id("call")), str(self.start["name"])
        try:
            arguments = json.loads(raw) if raw.strip() else self.start.get("input") or {}
        except (ValueError, RecursionError):
            return ToolCallPart(call_id, name, {}, malformed=raw)
        if not isinstance(arguments, dict):
            return ToolCallPart(call_id, name, {}, malformed=raw)
        return ToolCallPart(call_id, name, arguments)


class Answer:
    """Takes the stream's events in order; `response` is the whole, once `finished`.

    Both raise ProviderProtocolError where the vendor's shape does not hold.
    """

    def __init__(self, model: str) -> None:
        self.finished = False
        self._asked = model
        self._reported = model
        self._id: str | None = None
        self._blocks: dict[int, _Block] = {}
        self._stop: str | None = None
        self._usage: dict[str, Any] = {}

    def feed(self, event: Mapping[str, Any]) -> TextDelta | ReasoningDelta | None:
        try:
            return self._feed(event)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise ProviderProtocolError(f"{NAME} sent an event that is none of the Messages API") from error

    def _feed(self, event: Mapping[str, Any]) -> TextDelta | ReasoningDelta | None:
        kind = event["type"]
        if kind == "content_block_delta":
            return self._delta(self._blocks[event["index"]], event["delta"])
        if kind == "content_block_start":
            return self._start(event["index"], event["content_block"])
        if kind == "content_block_stop":
            self._blocks[event["index"]].open = False
        elif kind == "message_start":
            message = event["message"]
            self._id, self._reported = message.get("id"), message.get("model") or self._asked
            self._count(message.get("usage") or {})
        elif kind == "message_delta":
            self._stop = event["delta"].get("stop_reason") or self._stop
            self._count(event.get("usage") or {})
        elif kind == "message_stop":
            self.finished = True
        return None  # ping, and what the vendor may add

    def _start(self, index: int, start: Mapping[str, Any]) -> TextDelta | ReasoningDelta | None:
        block = self._blocks[index] = _Block(start, signature=start.get("signature") or "")
        if block.kind == "text" and start.get("text"):
            return self._delta(block, {"type": "text_delta", "text": start["text"]})
        if block.kind == "thinking" and start.get("thinking"):
            return self._delta(block, {"type": "thinking_delta", "thinking": start["thinking"]})
        return None

    def _delta(self, block: _Block, delta: Mapping[str, Any]) -> TextDelta | ReasoningDelta | None:
        kind = delta["type"]
        if kind == "text_delta":
            text = _string(delta["text"])
            block.pieces.append(text)
            return TextDelta(text) if text else None
        if kind == "thinking_delta":
            text = _string(delta["thinking"])
            block.pieces.append(text)
            return ReasoningDelta(text) if text else None
        if kind == "input_json_delta":
            block.pieces.append(_string(delta["partial_json"]))
        elif kind == "signature_delta":
            block.signature += _string(delta["signature"])
        return None  # citations, and what the vendor may add

    def _count(self, usage: Mapping[str, Any]) -> None:
        # The last event's counts are cumulative, but it need not repeat those of the first.
        self._usage.update({name: value for name, value in usage.items() if value is not None})

    def response(self) -> ModelResponse:
        """Return the whole answer. Raises ProviderRefused where the model refused and said nothing."""
        if not self.finished or self._stop is None:
            raise ProviderProtocolError(f"{NAME} ended its stream before the answer was finished")
        if any(block.open for block in self._blocks.values()):
            raise ProviderProtocolError(f"{NAME} ended its answer within a content block")
        parts = tuple(part for _, block in sorted(self._blocks.items()) if (part := block.part()) is not None)
        message = Message("assistant", parts, provider=NAME, model=self._asked)
        return ModelResponse(message, self._stop_reason(message), _usage(self._usage), self._reported, self._id)

    def _stop_reason(self, message: Message) -> StopReason:
        reason = _STOP_REASONS.get(self._stop or "", "end_turn")
        if reason == "tool_use" and not message.tool_calls:
            raise ProviderProtocolError(f"{NAME} said it calls tools, and named none")
        if reason == "refusal" and not message.text:
            raise ProviderRefused(f"{NAME}'s safety filter refused to answer")
        return "tool_use" if reason == "end_turn" and message.tool_calls else reason


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text belongs")
    return value


def _usage(usage: Mapping[str, Any]) -> Usage:
    read = int(usage.get("cache_read_input_tokens") or 0)
    written = int(usage.get("cache_creation_input_tokens") or 0)
    return Usage(
        input_tokens=int(usage.get("input_tokens") or 0) + read + written,
        output_tokens=int(usage.get("output_tokens") or 0),
        cached_input_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=int((usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0),
    )
