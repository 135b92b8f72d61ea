"""The parts of a `websocket` tool's entry: what is sent, how answers are told apart, when collecting ends.

In a message, `{name}` stands for the argument `name`, `{call.key}` for the key that a repeated call has in common with
the first, and `{{name}}` for `{name}` itself. `${…}` is resolved at each use, as everywhere.
"""

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from .types import Duration, Integer, Model, wrong_at

MAX_MESSAGES = 1000
CALL_KEY = "call.key"
HANDSHAKE_HEADERS = frozenset(
    {
        "host", "connection", "upgrade", "content-length", "transfer-encoding", "sec-websocket-key",
        "sec-websocket-version", "sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-protocol",
    }
)  # fmt: skip
# Not `${name}`: that is a reference, or after `$${` a literal one.
PLACEHOLDER = re.compile(
    r"\{\{(?P<literal>[A-Za-z_][\w.-]*)\}\}|(?<!\$)\{(?P<name>call\.key|[A-Za-z_][\w-]*)\}", re.ASCII
)
_MAX_DEPTH = 32


def placeholders(template: Any) -> Iterator[str]:
    """Yield the names of the arguments in a template, keys of objects excepted: those stay as they are."""
    if isinstance(template, str):
        yield from (found["name"] for found in PLACEHOLDER.finditer(template) if found["name"])
    elif isinstance(template, dict):
        for item in template.values():
            yield from placeholders(item)
    elif isinstance(template, list):
        for item in template:
            yield from placeholders(item)


def _template(value: Any) -> Any:
    if not isinstance(value, str | dict | list):
        raise ValueError("must be a text, or an object or a list that is sent as JSON")  # noqa: TRY004 - pydantic's validators
    _check_json(value, 0)
    return value


def _check_json(value: Any, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("holds a key that is no text; put it in quotes")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_json(item, depth + 1)
        return
    _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number that JSON does not have")
    if value is not None and not isinstance(value, str | int | float | bool):
        raise ValueError("holds a value that JSON does not have; put it in quotes")
    return value


def _ws_url(value: str) -> str:
    if "${" in value or re.match(r"wss?://[^/\s?#]+", value):
        return value
    raise ValueError("is not a WebSocket's URL; it starts with wss:// or ws:// and names a host")


MessageTemplate = Annotated[
    Any, AfterValidator(_template), WithJsonSchema({"type": ["string", "object", "array"]}, mode="validation")
]
Scalar = Annotated[
    Any,
    AfterValidator(_scalar),
    WithJsonSchema({"type": ["string", "number", "boolean", "null"]}, mode="validation"),
]
WebsocketUrl = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_ws_url)]
FieldPath = Annotated[str, StringConstraints(pattern=r"^[^.\s]{1,128}(\.[^.\s]{1,128}){0,7}$")]
Subprotocol = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]


class CorrelationSpec(Model):
    """How an answer is told to belong to a message: by an id that is put into it and that the answer repeats."""

    field: FieldPath = Field(description="Dotted path of the id in the message that is sent (`id`, `header.request`).")
    answer: FieldPath | None = Field(None, description="Dotted path of the id in the answer; by default the same.")
    numeric: bool = Field(False, description="Ids are 1, 2, 3, … within a connection, instead of unique texts.")


class UntilSpec(Model):
    """When collecting ends: with the first of these that holds."""

    count: Integer | None = Field(None, ge=1, le=MAX_MESSAGES, description="So many messages came.")
    field: FieldPath | None = Field(None, description="Dotted path in a message; with `equals`.")
    equals: Scalar = Field(None, description="The value of `field` in the last message; it is part of the result.")
    silence: Duration | None = Field(None, gt=0, description="No message came for so long.")

    @model_validator(mode="after")
    def _condition(self) -> Self:
        if (self.field is None) == ("equals" in self.model_fields_set):
            given = "equals" if self.field is None else "field"
            raise wrong_at((given,), "websocket_until", "`field` and `equals` go together")
        if self.count is None and self.field is None and self.silence is None:
            raise PydanticCustomError("websocket_until", "needs `count`, `field` with `equals`, or `silence`")
        return self


class ReconnectSpec(Model):
    """What happens when a connection cannot be set up for a reason that may pass."""

    attempts: Integer = Field(2, ge=0, le=10, description="Further attempts, within the call's timeout. 0 for none.")
    backoff: Duration = Field(0.5, gt=0, le=60, description="Pause before the second attempt; it doubles each time.")
    max_backoff: Duration = Field(10.0, gt=0, le=300, description="Longest pause.")
