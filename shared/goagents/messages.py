"""The neutral shape of a conversation. A vendor's shapes never leave that vendor's adapter.

Everything is a frozen dataclass; `MESSAGE` and `CONTENT` validate and serialise them (to and from JSON-ready values).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, with_config

_STRICT = ConfigDict(extra="forbid", defer_build=True)  # built on first use: cold starts that need none pay nothing


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class TextPart:
    text: str
    type: Literal["text"] = "text"


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image: base64 `data` with its `media_type`, or an http(s) `url` that the provider fetches."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    type: Literal["image"] = "image"


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """What the model thought, with the provider's `signature` that must come back unchanged (opaque to us).

    `redacted` thinking has no text, only the signature. A part is replayed only to the provider that made it.
    """

    text: str
    signature: str | None = None
    redacted: bool = False
    type: Literal["reasoning"] = "reasoning"


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """The model asks for a tool. `malformed` is the raw text where the model's arguments were no JSON object."""

    id: str
    name: str
    arguments: dict[str, Any]
    malformed: str | None = None
    signature: str | None = None
    type: Literal["tool_call"] = "tool_call"


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class ToolResultPart:
    """What a call came to. `unknown`: its process died or no answer came, and nobody knows whether it took effect.

    `foreign`: the words are the tool's, and go to the model marked as data.
    """

    call_id: str
    name: str
    content: tuple[Annotated[TextPart | ImagePart, Field(discriminator="type")], ...]
    is_error: bool = False
    unknown: bool = False
    foreign: bool = False
    type: Literal["tool_result"] = "tool_result"


Content = TextPart | ImagePart
Part = TextPart | ImagePart | ReasoningPart | ToolCallPart | ToolResultPart
Role = Literal["user", "assistant", "tool"]
StopReason = Literal["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal"]


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Message:
    """One message. `provider` and `model` say who wrote it (assistant messages only)."""

    role: Role
    parts: tuple[Annotated[Part, Field(discriminator="type")], ...]
    provider: str | None = None
    model: str | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `input_tokens` includes the cached ones, `output_tokens` includes the reasoning ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Usage)})


MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
CONTENT: TypeAdapter[Sequence[Content]] = TypeAdapter(
    Sequence[Annotated[TextPart | ImagePart, Field(discriminator="type")]]
)


def user_message(text: str) -> Message:
    return Message("user", (TextPart(text),))


def read_message(data: Any) -> Message:
    """Read a message as JSON holds it, without the fields that a newer version knows. Raises ValidationError."""
    return MESSAGE.validate_python(data, extra="ignore")


def read_usage(data: Mapping[str, Any]) -> Usage:
    """Read usage as JSON holds it, without the counters that a newer version knows."""
    return Usage(**{name: value for name, value in data.items() if name in _COUNTERS})


_COUNTERS = frozenset(field.name for field in fields(Usage))
