"""What the model sees of a function's result: text as it is, images as images, everything else as JSON."""

from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from goagents.errors import ToolFailed
from goagents.messages import Content, ImagePart, TextPart
from goagents.tools.base import ToolResult

_NOTHING = "(the function returned nothing)"


def render(value: Any) -> ToolResult:
    """Return the result. Raises ToolFailed for what JSON cannot carry."""
    if isinstance(value, ToolResult):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(part, TextPart | ImagePart) for part in value):
        return ToolResult(tuple(value))
    return ToolResult((_part(value),))


def _part(value: Any) -> Content:
    if value is None:
        return TextPart(_NOTHING)
    if isinstance(value, str):
        return TextPart(value)
    if isinstance(value, TextPart | ImagePart):
        return value
    try:
        text = to_json(value, by_alias=True, bytes_mode="base64", inf_nan_mode="null").decode()
    except (PydanticSerializationError, ValueError):
        raise ToolFailed(
            f"The function is done, and its result cannot be shown: {type(value).__name__} has no form in JSON."
        ) from None
    return TextPart(text)
