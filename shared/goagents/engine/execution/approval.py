"""What may happen to each call of a step: run it, answer it without, or have the run wait for a person.

A call is never carried out twice unless its effect allows it. What a process that died may have begun is known by the
journal: the call is there, its result is not.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

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
    """The calls of a step, each in one of the three. `edited` tells the model what a person changed.

    `unknown` are the fingerprints of those whose outcome nobody knows, as the model asked and as a person changed them.
    """

    run: list[ToolCallPart] = field(default_factory=list)
    answered: dict[str, ToolResultPart] = field(default_factory=dict)
    waiting: list[WaitingCall] = field(default_factory=list)
    edited: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)


def effect_of(toolbox: Toolbox, name: str, *, missing: Effect = "read") -> Effect:
    """Return a tool's effect; `missing` where there is no such tool: saying so changes nothing."""
    tool = toolbox.tools.get(name)
    return tool.tool.definition.effect if tool else missing


def stricter(one: Effect, other: Effect) -> Effect:
    """Return the one of two effects by which less may be repeated."""
    return max(one, other, key=get_args(Effect).index)


def review(
    calls: Sequence[ToolCallPart],
    toolbox: Toolbox,
    *,
    results: Mapping[str, ToolResultPart],
    effects: Mapping[str, Effect],
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
        effect = effect_of(toolbox, call.name)
        if call.id in effects:
            effect = stricter(effect, effects[call.id])
        decision = decisions.get(call.id)
        sent = as_decided(call, decision)
        if decision is not None and decision.get("decision") == "deny":
            found.answered[call.id] = _answer(call, _denied(decision))
            continue
        in_doubt = effect == "unsafe" and call.id in doubts
        reason = _must_wait(call, toolbox, effect, unknown if in_doubt else {*unknown, *found.unknown})
        if reason == "outcome_unknown" or in_doubt:
            found.unknown.update(fingerprint(one.name, one.arguments) for one in (call, sent))
        if reason is not None and decision is None:
            found.waiting.append(_wait(call, effect, reason))
            continue
        if sent is not call:
            found.edited[call.id] = f"[A person changed the arguments of this call to {json.dumps(sent.arguments)}.]"
        if in_doubt:
            _in_doubt(found, call, sent, toolbox)
        else:
            found.run.append(sent)
    return found


def as_decided(call: ToolCallPart, decision: Mapping[str, Any] | None) -> ToolCallPart:
    """Return the call with the arguments that a person gave it; the call itself, if none."""
    arguments = (decision or {}).get("arguments")
    if not isinstance(arguments, dict) or arguments == call.arguments:
        return call
    return replace(call, arguments=arguments, malformed=None)


def _must_wait(
    call: ToolCallPart, toolbox: Toolbox, effect: Effect, unknown: Collection[str]
) -> Literal["approval", "outcome_unknown"] | None:
    tool = toolbox.tools.get(call.name)
    if tool is None or call.malformed is not None:
        return None  # it is answered with an error anyway
    if tool.spec.approval == "always" or (tool.spec.approval == "unsafe" and effect == "unsafe"):
        return "approval"
    return "outcome_unknown" if effect == "unsafe" and fingerprint(call.name, call.arguments) in unknown else None


def _in_doubt(found: Review, call: ToolCallPart, sent: ToolCallPart, toolbox: Toolbox) -> None:
    """A person is shown what was sent, and so is the model."""
    if asks_a_person(toolbox, sent, found):
        return
    note = found.edited.get(call.id)
    found.answered[call.id] = replace(_answer(call, f"{UNKNOWN}\n{note}" if note else UNKNOWN), unknown=True)


def asks_a_person(toolbox: Toolbox, sent: ToolCallPart, found: Review) -> bool:
    """Have the run wait with a call whose outcome nobody knows, where its tool says so."""
    tool = toolbox.tools.get(sent.name)
    if tool is None or tool.spec.unknown_outcome != "wait":
        return False
    found.waiting.append(_wait(sent, "unsafe", "outcome_unknown"))
    return True


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
