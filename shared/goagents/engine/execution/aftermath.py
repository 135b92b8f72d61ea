"""What stays of a run that ended without an answer: word of the unsafe calls that it made.

Its messages do not go into the session, for one of them may be what no model accepts. Yet an order must not be placed
twice because nobody remembers the first one. What the tools said stays out: it is not for this message to vouch for.
"""

from collections.abc import Sequence

from pydantic_core import to_json

from goagents.messages import Message, TextPart, ToolCallPart, ToolResultPart

MAX_CALLS = 20
MAX_TEXT = 300  # characters of a call's arguments
_ENDED = {"failed": "failed", "cancelled": "was cancelled"}

Carried = tuple[ToolCallPart, ToolResultPart]


def aftermath(carried: Sequence[Carried], status: str) -> Message | None:
    """Return what the session is told of the calls of a run that `failed` or was `cancelled`; None without any."""
    if not carried:
        return None
    left_out = len(carried) - MAX_CALLS
    more = [f"- {left_out} calls before these"] if left_out > 0 else []
    lines = [*more, *(_line(call, result) for call, result in carried[-MAX_CALLS:])]
    told = f"[This turn {_ENDED[status]} before it had an answer. It had made these calls by then:"
    return Message("assistant", (TextPart("\n".join([told, *lines, "]"])),))


def _line(call: ToolCallPart, result: ToolResultPart) -> str:
    came = "nobody knows what it came to" if result.unknown else "an error" if result.is_error else "done"
    arguments = to_json(call.arguments).decode()
    short = arguments if len(arguments) <= MAX_TEXT else f"{arguments[: MAX_TEXT - 1]}…"
    return f"- {call.name} {short}: {came}"
