"""The chunks of a Gemini stream, put together to one answer."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from goagents.errors import ProviderInvalidRequest, ProviderProtocolError, ProviderRefused
from goagents.ids import new_id
from goagents.messages import ImagePart, Message, Part, ReasoningPart, StopReason, TextPart, ToolCallPart, Usage
from goagents.providers.base import ModelResponse, ReasoningDelta, TextDelta
from goagents.providers.gemini_request import NAME

_REFUSALS = frozenset(
    {"SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "IMAGE_SAFETY"}
    | {"IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"}
)
_BROKEN = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"})
_CUT_SHORT = frozenset({"MAX_TOKENS", "CONTINUATION"})


@dataclass(slots=True)
class _Words:
    """Text or thought while its pieces arrive. A signature ends it: signed parts are not joined with others."""

    thought: bool
    pieces: list[str] = field(default_factory=list)
    signature: str | None = None

    def parts(self) -> Iterator[Part]:
        text = "".join(self.pieces)
        if self.thought:
            yield ReasoningPart(text, signature=self.signature)
            return
        if text:
            yield TextPart(text)
        if self.signature is not None:
            yield ReasoningPart("", signature=self.signature)


class Answer:
    """Takes the stream's chunks in order; `response` is the whole, once the stream has ended.

    `names` maps the tools' names on the wire to ours. Both methods raise ProviderProtocolError where the vendor's
    shape does not hold.
    """

    def __init__(self, model: str, names: Mapping[str, str]) -> None:
        self._asked = model
        self._names = names
        self._reported = model
        self._id: str | None = None
        self._items: list[_Words | ToolCallPart | ImagePart] = []
        self._finish: str | None = None
        self._why = ""
        self._blocked: str | None = None
        self._usage: Mapping[str, Any] = {}

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[TextDelta | ReasoningDelta]:
        try:
            yield from self._feed(chunk)
        except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
            raise ProviderProtocolError(f"{NAME} sent a chunk that is no GenerateContentResponse") from error

    def _feed(self, chunk: Mapping[str, Any]) -> Iterator[TextDelta | ReasoningDelta]:
        self._usage = chunk.get("usageMetadata") or self._usage
        self._id = self._id or chunk.get("responseId")
        self._reported = chunk.get("modelVersion") or self._reported
        if feedback := chunk.get("promptFeedback"):
            self._blocked = feedback.get("blockReason") or self._blocked
        candidates = chunk.get("candidates")
        if not candidates:
            return
        candidate = candidates[0]
        if finish := candidate.get("finishReason"):
            self._finish, self._why = str(finish), str(candidate.get("finishMessage") or "")
        for part in (candidate.get("content") or {}).get("parts") or ():
            delta = self._part(part)
            if delta is not None:
                yield delta

    def _part(self, part: Mapping[str, Any]) -> TextDelta | ReasoningDelta | None:
        signature = part.get("thoughtSignature")
        if "functionCall" in part:
            self._items.append(self._call(part["functionCall"], signature))
        elif "inlineData" in part:
            self._items.append(ImagePart(part["inlineData"]["mimeType"], part["inlineData"]["data"]))
        elif "text" in part:
            return self._words(part["text"], thought=bool(part.get("thought")), signature=signature)
        elif signature is not None:
            return self._words("", thought=False, signature=signature)
        return None

    def _words(self, text: Any, *, thought: bool, signature: str | None) -> TextDelta | ReasoningDelta | None:
        if not isinstance(text, str):
            raise TypeError(f"{type(text).__name__} where text belongs")
        last = self._items[-1] if self._items else None
        if not isinstance(last, _Words) or last.thought != thought or last.signature is not None:
            last = _Words(thought)
            self._items.append(last)
        last.pieces.append(text)
        last.signature = signature
        if not text:
            return None
        return ReasoningDelta(text) if thought else TextDelta(text)

    def _call(self, call: Mapping[str, Any], signature: str | None) -> ToolCallPart:
        call_id = str(call.get("id") or new_id("call"))  # the vendor gives none in most cases
        name = self._names.get(str(call["name"]), str(call["name"]))
        arguments = call.get("args")
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raw = arguments if isinstance(arguments, str) else json.dumps(arguments)
            return ToolCallPart(call_id, name, {}, malformed=raw, signature=signature)
        return ToolCallPart(call_id, name, arguments, signature=signature)

    def response(self) -> ModelResponse:
        """Return the whole answer. Raises ProviderRefused where the safety filter left nothing of it."""
        if self._finish is None and self._blocked is not None:
            raise ProviderRefused(f"{NAME}'s safety filter refused the conversation: {self._blocked}")
        if self._finish is None:
            raise ProviderProtocolError(f"{NAME} ended its stream before the answer was finished")
        message = Message("assistant", tuple(self._parts()), provider=NAME, model=self._asked)
        return ModelResponse(message, self._stop_reason(message), _usage(self._usage), self._reported, self._id)

    def _parts(self) -> Iterator[Part]:
        for item in self._items:
            if isinstance(item, _Words):
                yield from item.parts()
            else:
                yield item

    def _stop_reason(self, message: Message) -> StopReason:
        finish = self._finish or ""
        why = f"{finish}: {self._why}" if self._why else finish
        if finish in _BROKEN:
            raise ProviderProtocolError(f"{NAME} broke off its answer: {why}")
        if finish == "MISSING_THOUGHT_SIGNATURE":
            raise ProviderInvalidRequest(f"{NAME} misses a thought signature in the conversation: {why}")
        if finish in _REFUSALS:
            if not message.text:
                raise ProviderRefused(f"{NAME}'s safety filter ended the answer: {why}")
            return "refusal"
        if finish in _CUT_SHORT:
            return "max_tokens"
        if message.tool_calls:
            return "tool_use"
        if finish != "STOP" and not message.parts:
            raise ProviderProtocolError(f"{NAME} ended an empty answer: {why}")
        return "end_turn"


def _usage(usage: Mapping[str, Any]) -> Usage:
    thoughts = int(usage.get("thoughtsTokenCount") or 0)
    return Usage(
        input_tokens=int(usage.get("promptTokenCount") or 0) + int(usage.get("toolUsePromptTokenCount") or 0),
        output_tokens=int(usage.get("candidatesTokenCount") or 0) + thoughts,
        cached_input_tokens=int(usage.get("cachedContentTokenCount") or 0),
        reasoning_tokens=thoughts,
    )
