"""The chunks of a Chat Completions stream, put together to one answer."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from goagents.errors import ProviderProtocolError, ProviderRefused, ProviderUnavailable
from goagents.ids import new_id
from goagents.messages import Message, Part, ReasoningPart, StopReason, TextPart, ToolCallPart, Usage
from goagents.providers.base import ModelResponse, ReasoningDelta, TextDelta

_STOP_REASONS: dict[str, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_REASONING_FIELDS = ("reasoning_content", "reasoning")  # vLLM, DeepSeek and others; OpenRouter, Groq, Ollama


@dataclass(slots=True)
class _Call:
    """A tool call while its pieces arrive."""

    id: str
    name: str = ""
    arguments: str = ""

    def part(self) -> ToolCallPart:
        call_id = self.id or new_id("call")  # some servers send none, and the result must name one
        try:
            arguments = json.loads(self.arguments) if self.arguments.strip() else {}
        except (ValueError, RecursionError):
            return ToolCallPart(call_id, self.name, {}, malformed=self.arguments)
        if not isinstance(arguments, dict):
            return ToolCallPart(call_id, self.name, {}, malformed=self.arguments)
        return ToolCallPart(call_id, self.name, arguments)


class Answer:
    """Takes the stream's chunks in order; `response` is the whole, once the stream has ended.

    Both raise ProviderProtocolError where the vendor's shape does not hold.
    """

    def __init__(self, provider: str, model: str) -> None:
        self._provider = provider
        self._model = model
        self._id: str | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._finish: str | None = None
        self._refused = False
        self._usage = Usage()

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[TextDelta | ReasoningDelta]:
        try:
            yield from self._feed(chunk)
        except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
            raise ProviderProtocolError(f"{self._provider} sent a chunk that is no Chat Completions chunk") from error

    def _feed(self, chunk: Mapping[str, Any]) -> Iterator[TextDelta | ReasoningDelta]:
        if usage := chunk.get("usage"):
            self._usage = _usage(usage)
        self._id = self._id or chunk.get("id")
        self._model = chunk.get("model") or self._model
        choices = chunk.get("choices")
        if not choices:
            return
        choice = choices[0]
        if finish := choice.get("finish_reason"):
            self._finish = str(finish)
        delta = choice.get("delta")
        if not delta:
            return
        for field in _REASONING_FIELDS:
            if piece := delta.get(field):
                self._reasoning.append(_string(piece))
                yield ReasoningDelta(piece)
                break  # a server that sends both names sends the same text twice
        if piece := delta.get("content"):
            self._text.append(_string(piece))
            yield TextDelta(piece)
        if piece := delta.get("refusal"):
            self._refused = True
            self._text.append(_string(piece))
            yield TextDelta(piece)
        for call in delta.get("tool_calls") or ():
            self._tool_call(call)

    def _tool_call(self, piece: Mapping[str, Any]) -> None:
        function = piece.get("function") or {}
        call_id, name = piece.get("id") or "", function.get("name") or ""
        index = int(piece.get("index") or 0)
        call = self._by_index.get(index)
        # Some servers give every call index 0: another id with a name is another call.
        if call is None or (name and call_id and call_id != call.id):
            call = _Call(id=_string(call_id))
            self._by_index[index] = call
            self._calls.append(call)
        call.id = call.id or call_id
        call.name = call.name or _string(name)
        arguments = function.get("arguments") or ""
        call.arguments += json.dumps(arguments) if isinstance(arguments, dict) else arguments

    def response(self) -> ModelResponse:
        """Return the whole answer. Raises ProviderRefused where the safety filter left nothing of it."""
        if self._finish is None:
            raise ProviderProtocolError(f"{self._provider} ended its stream before the answer was finished")
        if self._finish == "error":
            raise ProviderUnavailable(f"{self._provider} broke off its answer with an error")
        if any(not call.name for call in self._calls):
            raise ProviderProtocolError(f"{self._provider} sent a tool call without a name")
        parts: list[Part] = []
        if self._reasoning:
            parts.append(ReasoningPart("".join(self._reasoning)))
        if self._text:
            parts.append(TextPart("".join(self._text)))
        parts.extend(call.part() for call in self._calls)
        reason = self._stop_reason()
        if reason == "refusal" and not self._text:
            raise ProviderRefused(f"{self._provider}'s safety filter refused to answer")
        return ModelResponse(
            message=Message("assistant", tuple(parts), provider=self._provider, model=self._model),
            stop_reason=reason,
            usage=self._usage,
            model=self._model,
            response_id=self._id,
        )

    def _stop_reason(self) -> StopReason:
        reason = _STOP_REASONS.get(self._finish or "", "end_turn")
        if self._refused:
            return "refusal"
        if reason == "tool_use" and not self._calls:
            raise ProviderProtocolError(f"{self._provider} said it calls tools, and named none")
        # With a forced tool the vendor says "stop", and so do some servers whenever tools are called.
        return "tool_use" if reason == "end_turn" and self._calls else reason


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text belongs")
    return value


def _usage(usage: Mapping[str, Any]) -> Usage:
    into, out = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
        cached_input_tokens=int(into.get("cached_tokens") or 0),
        cache_write_tokens=int(into.get("cache_write_tokens") or 0),
        reasoning_tokens=int(out.get("reasoning_tokens") or 0),
    )
