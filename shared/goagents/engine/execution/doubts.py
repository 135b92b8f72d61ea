"""Calls that may have taken effect though nobody knows what came of them. Their session remembers them.

A run that fails leaves no answer in its session, and a compaction leaves messages out: neither may make the same call
look like a new one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from goagents.messages import Message, ToolCallPart, ToolResultPart
from goagents.resources import Waiting, WaitingCall

from .aftermath import Carried
from .approval import as_decided, effect_of, fingerprint, stricter, unknown_calls
from .claim import Claim
from .loop import Turn
from .steps import Recorded, recorded

MAX_DOUBTS = 500  # of a session; beyond that the oldest are forgotten


def remembered(before: Sequence[str], claim: Claim, turn: Turn | None) -> list[str]:
    """Return what the session remembers once the run is over, by fingerprint: what it did `before`, and what is new."""
    return [*before, *sorted(_left_by(claim, turn) - set(before))][-MAX_DOUBTS:]


def carried_out(claim: Claim, turn: Turn | None) -> list[Carried]:
    """Return the unsafe calls that the run made, or may have made, with their results."""
    found = recorded(claim.steps)
    begun = turn is not None and bool(turn.new)
    made = turn.carried if turn is not None and begun else found.carried
    known = [call for call, _ in made]
    decisions = turn.decisions if turn is not None else claim.run.decisions or {}
    doubtful = [as_decided(call, decisions.get(call.id)) for call in _unanswered(claim, turn, found, decisions)]
    doubtful += [ToolCallPart(call.call_id, call.name, call.arguments) for call in _waiting(claim)]
    unknown = [(call, ToolResultPart(call.id, call.name, (), unknown=True)) for call in doubtful if call not in known]
    return [*made, *unknown]


def _left_by(claim: Claim, turn: Turn | None) -> set[str]:
    """Return the fingerprints of the calls whose outcome nobody knows as the run ends."""
    found = recorded(claim.steps)
    results = Message("tool", tuple(found.results.values()))
    left = unknown_calls([*found.messages, results]) | set(claim.run.doubts)
    left |= turn.unknown | turn.steps.doubts if turn else set()
    left |= {fingerprint(call.name, call.arguments) for call in _waiting(claim)}
    decisions = turn.decisions if turn else claim.run.decisions or {}
    for call in _unanswered(claim, turn, found, decisions):
        left |= {fingerprint(one.name, one.arguments) for one in (call, as_decided(call, decisions.get(call.id)))}
    return left


def _waiting(claim: Claim) -> list[WaitingCall]:
    """The calls in doubt that a person was asked about, and that are over without an answer."""
    calls = Waiting.model_validate(claim.run.waiting).calls if claim.run.waiting else []
    return [call for call in calls if call.reason == "outcome_unknown"]


def _unanswered(
    claim: Claim, turn: Turn | None, found: Recorded, decisions: Mapping[str, Mapping[str, Any]]
) -> Iterator[ToolCallPart]:
    """The unsafe calls of the open step that may have been carried out.

    A call that a person allowed counts too: it may be one that was in doubt before, and none of those is lost so.
    """
    asked = turn.new[-1] if turn is not None and turn.new else found.open_call
    if asked is None:
        return
    ids = set(turn.unfinished) if turn is not None else set(claim.in_doubt)
    ids |= {id_ for id_, decision in decisions.items() if decision.get("decision") == "allow"} - found.results.keys()
    effects = found.effects if asked == found.open_call else {}
    for call in asked.tool_calls:
        effect = effects.get(call.id, "read")
        if turn is not None:
            effect = stricter(effect, effect_of(turn.caller.toolbox, call.name))
        if call.id in ids and effect == "unsafe":
            yield call
