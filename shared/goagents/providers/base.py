"""The provider port: one request in, a stream of events out, ended by exactly one `ModelResponse`."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from goagents.messages import Message, StopReason, Usage


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool as the model sees it. `name` fits `^[A-Za-z0-9_-]{1,64}$`; `parameters` is JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model.

    `messages` is the whole conversation: it starts with a user message, every tool call is answered by exactly one
    result in the message that follows it. Messages of the same role may follow one another; an adapter merges them
    where its vendor wants turns to alternate. `settings` are passed through to the vendor unchanged (`model_settings`
    of the YAML). `output_schema` asks for JSON of that schema as the final text. `timeout` is in seconds and covers
    the whole stream.
    """

    model: str
    messages: tuple[Message, ...]
    system: str | None = None
    tools: tuple[ToolSchema, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    output_schema: Mapping[str, Any] | None = None
    timeout: float = 120.0


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """The whole answer, as the stream's last event. `model` and `response_id` are what the vendor reported."""

    message: Message
    stop_reason: StopReason
    usage: Usage
    model: str
    response_id: str | None = None


ModelEvent = TextDelta | ReasoningDelta | ModelResponse


class Provider(Protocol):
    """A vendor's adapter. Its constructor takes plain keyword arguments and opens nothing."""

    name: str

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Call the model. An async generator; closing it ends the vendor's stream.

        Raises ProviderError (each vendor error as the class that fits), also when the vendor's stream ends without
        its closing event: a truncated answer is an error, never an answer.
        """
        ...

    async def aclose(self) -> None: ...
