"""What may happen to each call of a step: run it, answer it without, or have the run wait for a person.

A call is never carried out twice unless its effect allows it. What a process that died may have begun is known by the
journal: the call is there, its result is not.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from goagents.engine.loaded import Toolbox
from goagents.messages import Message, TextPart, ToolCallPart, ToolResultPart
from goagents.resources import WaitingCall
from goagents.spec.tools import Effect

UNKNOWN = (
    "Nobody knows what this call came to: the process that made it died before the answer was recorded. It may or may "
    "not have taken effect. Find out before you do it again; the same call again needs a person's approval."
)


@dataclass(frozen=True, slots=True)
class Review:
    """The calls of a step, each in one of the three. `edited` tells the model what a person changed."""

    run: list[ToolCallPart] = field(default_factory=list)
    answered: dict[str, ToolResultPart] = field(default_factory=dict)
    waiting: list[WaitingCall] = field(default_factory=list)
    edited: dict[str, str] = field(default_factory=dict)


def effect_of(toolbox: Toolbox, name: str) -> Effect:
    tool = toolbox.tools.get(name)
    return tool.tool.definition.effect if tool else "read"  # there is none: saying so changes nothing


def review(
    calls: Sequence[ToolCallPart],
    toolbox: Toolbox,
    *,
    results: Mapping[str, ToolResultPart],
    effects: Mapping[str, str],
    doubts: Collection[str],
    decisions: Mapping[str, Mapping[str, Any]],
    unknown: Collection[str],
) -> Review:
    """Sort the calls of a step. `results` and `effects` are those recorded.

    `doubts` are the ids of calls that may have been carried out though no result is recorded. `unknown` are the
    fingerprints of calls whose outcome nobody knows.
    """
    found = Review()
    for call in calls:
        if call.id in results:
            continue
        effect: Effect = effects.get(call.id) or effect_of(toolbox, call.name)  # type: ignore[assignment]
        decision = decisions.get(call.id)
        if decision is not None and decision.get("decision") == "deny":
            found.answered[call.id] = _answer(call, _denied(decision))
            continue
        reason = _must_wait(call, toolbox, effect, unknown)
        if reason is not None and decision is None:
            found.waiting.append(_wait(call, effect, reason))
        elif effect == "unsafe" and call.id in doubts:
            _in_doubt(found, call, toolbox)
        else:
            _allow(found, call, decision or {})
    return found


def _must_wait(
    call: ToolCallPart, toolbox: Toolbox, effect: Effect, unknown: Collection[str]
) -> Literal["approval", "outcome_unknown"] | None:
    tool = toolbox.tools.get(call.name)
    if tool is None or call.malformed is not None:
        return None  # it is answered with an error anyway
    if tool.spec.approval == "always" or (tool.spec.approval == "unsafe" and effect == "unsafe"):
        return "approval"
    return "outcome_unknown" if effect == "unsafe" and fingerprint(call.name, call.arguments) in unknown else None


def _in_doubt(found: Review, call: ToolCallPart, toolbox: Toolbox) -> None:
    tool = toolbox.tools.get(call.name)
    if tool is not None and tool.spec.unknown_outcome == "wait":
        found.waiting.append(_wait(call, "unsafe", "outcome_unknown"))
        return
    found.answered[call.id] = replace(_answer(call, UNKNOWN), unknown=True)


def _allow(found: Review, call: ToolCallPart, decision: Mapping[str, Any]) -> None:
    arguments = decision.get("arguments")
    if isinstance(arguments, dict) and arguments != call.arguments:
        found.edited[call.id] = f"[A person changed the arguments of this call to {json.dumps(arguments)}.]"
        call = replace(call, arguments=arguments, malformed=None)
    found.run.append(call)


def _wait(call: ToolCallPart, effect: Effect, reason: Literal["approval", "outcome_unknown"]) -> WaitingCall:
    return WaitingCall(call_id=call.id, name=call.name, arguments=call.arguments, effect=effect, reason=reason)


def _answer(call: ToolCallPart, text: str) -> ToolResultPart:
    return ToolResultPart(call.id, call.name, (TextPart(text),), is_error=True)


def _denied(decision: Mapping[str, Any]) -> str:
    reason = decision.get("reason")
    return f"A person did not allow this call: {reason}" if reason else "A person did not allow this call."


def unknown_calls(said: Iterable[Message]) -> set[str]:
    """Return the fingerprints of the calls in the conversation whose outcome nobody knows."""
    said = tuple(said)
    doubtful = {
        part.call_id for message in said for part in message.parts if isinstance(part, ToolResultPart) and part.unknown
    }
    if not doubtful:
        return set()
    calls = (call for message in said for call in message.tool_calls if call.id in doubtful)
    return {fingerprint(call.name, call.arguments) for call in calls}


def fingerprint(name: str, arguments: Mapping[str, Any]) -> str:
    """Return what tells a call from every other one, in 32 characters: the same tool with the same arguments."""
    return hashlib.sha256(json.dumps([name, arguments], sort_keys=True).encode()).hexdigest()[:32]
