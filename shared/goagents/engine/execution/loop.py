"""The agent loop, the only one: model, tools, model, … until a final message or a limit.

An async generator of happenings. `chat` drains it, `stream` forwards it, a worker goes on with it where another process
left off. All state is in the `Turn` it works on.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from goagents.clock import Clock
from goagents.errors import (
    GoAgentsError,
    ProviderContextTooLong,
    ProviderError,
    ProviderProtocolError,
    RunLimitReached,
)
from goagents.events import EventType
from goagents.framing import framed, noted
from goagents.messages import MESSAGE, Message, TextPart, ToolCallPart, ToolResultPart, Usage
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, TextDelta
from goagents.resources import WaitingCall
from goagents.spec.cluster import ContextPolicy
from goagents.telemetry.base import ModelCallFinished, Telemetry

from .aftermath import Carried
from .approval import asks_a_person, effect_of, fingerprint, review, unknown_calls
from .candidate import Candidate
from .compaction import summarize
from .context import History, compact, cut, shrink
from .pace import HandOffDue, Pace
from .steps import Recorded, Steps
from .toolcalls import CallDone, Caller, sound

GRACE = 1.0  # seconds the provider gets beyond the run's own deadline, so that it is the run that times out
SUMMARY_TIMEOUT = 60.0  # seconds a summary may take; without it the older messages are left out
PREVIEW = 2000  # characters of a tool's output in its event

Happening = tuple[EventType, dict[str, Any]]

__all__ = ["HandOffDue", "Parked", "Turn", "run_turn"]


class Parked(Exception):
    """These calls wait for a person."""

    def __init__(self, calls: list[WaitingCall]) -> None:
        super().__init__()
        self.calls = calls


@dataclass
class Turn:
    """One run in progress. `history` is the session before it, `asked` the user's message, which has the number `head`,
    `new` what the run adds.

    `rounds` counts the answers of the model. `open_call` is a message whose calls are not all answered yet, `recorded`
    what earlier attempts left; `doubts` are the ids of calls that may have been carried out though no result is known,
    `decisions` are people's on the calls of the open step, by the call's id. `unknown` are the fingerprints of
    calls, of the session and of this run, whose outcome nobody knows. `asking`: a model's answer is under way.
    `carried` are the unsafe calls that were made, with their results.
    """

    candidates: tuple[Candidate, ...]
    caller: Caller
    steps: Steps
    telemetry: Telemetry
    clock: Clock
    history: History
    asked: Message
    head: int
    policy: ContextPolicy
    system: str | None
    output_schema: Mapping[str, Any] | None
    max_turns: int
    pace: Pace
    recorded: Recorded = field(default_factory=Recorded)
    doubts: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    decisions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    new: list[Message] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    rounds: int = 0
    tool_calls: int = 0
    asking: bool = False
    final: ModelResponse | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation as the model gets it."""
        return (*self.history.prompt(), self.asked, *self.new)

    @property
    def unfinished(self) -> list[str]:
        """The ids of the calls that may have been carried out, and whose result nobody has taken down."""
        return sorted(self.caller.begun | self.doubts)

    def resume(self) -> None:
        """Take up what earlier attempts recorded: nothing of it is computed again."""
        found = self.recorded
        for through, text in found.summaries:
            self.history = compact(self.history, through, text)
        self.new, self.carried = list(found.messages), found.carried
        self.unknown |= unknown_calls((*self.messages, Message("tool", tuple(found.results.values()))))
        self.usage, self.rounds, self.tool_calls = found.usage, found.rounds, found.tool_calls
        self.steps.number = found.number
        if found.open_call is None:
            self.decisions = {}


async def run_turn(turn: Turn) -> AsyncGenerator[Happening, None]:
    """Work until `turn.final` is set.

    Raises HandOffDue, Parked, ProviderError, RunLimitReached, LeaseLost, StoreError.
    """
    turn.resume()
    await _fit(turn)
    if turn.recorded.open_call is not None:
        async with aclosing(_call_tools(turn, turn.recorded.open_call, turn.recorded)) as happenings:
            async for happening in happenings:
                yield happening
    while turn.rounds < turn.max_turns:
        turn.pace.check()
        async with aclosing(_ask_once(turn)) as happenings:
            async for happening in happenings:
                yield happening
        if turn.final is not None:
            return
        turn.pace.check(_longest_call(turn, turn.new[-1]))
        async with aclosing(_call_tools(turn, turn.new[-1], Recorded())) as happenings:
            async for happening in happenings:
                yield happening
    raise RunLimitReached(f"The agent took {turn.max_turns} turns (max_turns) without a final answer.")


async def _ask_once(turn: Turn) -> AsyncGenerator[Happening, None]:
    """One answer of the model: recorded before its calls are made, or the final one."""
    turn.asking = True
    response: ModelResponse | None = None
    async with aclosing(_ask(turn)) as events:
        async for event in events:
            if isinstance(event, ModelResponse):
                response = event
            elif isinstance(event, TextDelta):
                yield "message.delta", {"text": event.text}
            else:
                yield "reasoning.delta", {"text": event.text}
    if response is None:
        raise ProviderProtocolError("The provider's stream ended without an answer.")
    response = replace(response, message=sound(response.message))
    turn.usage += response.usage
    turn.rounds += 1
    turn.new.append(response.message)
    yield "message.completed", _completed(response)
    calls = response.message.tool_calls
    if not calls:
        turn.final = response
        return
    turn.tool_calls += len(calls)
    await turn.steps.model_done(
        response, {call.id: effect_of(turn.caller.toolbox, call.name, missing="unsafe") for call in calls}
    )
    turn.asking = False
    turn.pace.step_done()


async def _ask(turn: Turn) -> AsyncGenerator[ModelEvent, None]:
    """Stream the first candidate that answers. Once something was streamed, a failure is final."""
    for position, candidate in enumerate(turn.candidates):
        streamed = False
        try:
            async with aclosing(_call_fitting(turn, candidate)) as events:
                async for event in events:
                    streamed = True
                    yield event
        except ProviderError:
            if streamed or position == len(turn.candidates) - 1:
                raise
        else:
            return


async def _call_fitting(turn: Turn, candidate: Candidate) -> AsyncGenerator[ModelEvent, None]:
    """Call the model; where it says that the conversation is too long, with less and less of the session."""
    while True:
        streamed = False
        try:
            async with aclosing(_call_model(turn, candidate, _request(turn, candidate))) as events:
                async for event in events:
                    streamed = True
                    yield event
        except ProviderContextTooLong:
            keeps_all = streamed or turn.policy.strategy == "none"
            through = None if keeps_all else shrink(turn.history.append(turn.head, turn.asked))
            if through is None:
                raise
            await _compact(turn, through)
        else:
            return


async def _fit(turn: Turn) -> None:
    """Make the session fit into the agent's context, before the run's first answer."""
    if turn.rounds or turn.recorded.summaries:
        return
    through = cut(turn.history, turn.policy, turn.asked)
    if through is not None:
        await _compact(turn, through)


async def _compact(turn: Turn, through: int) -> None:
    text, usage = None, Usage()
    if turn.policy.strategy == "summarize":
        made = await summarize(
            turn.candidates,
            turn.history,
            through,
            turn.policy,
            timeout=min(SUMMARY_TIMEOUT, turn.pace.remaining / 3),
            clock=turn.clock,
            stream=lambda candidate, request: _call_model(turn, candidate, request),
        )
        text, usage = made.text, made.usage
        if made.reason:
            turn.steps.note("model", f"no summary of the session's older messages: {made.reason}", failed=True)
    turn.usage += usage
    await turn.steps.summarised(through, text, usage)
    turn.history = compact(turn.history, through, text)


def _request(turn: Turn, candidate: Candidate) -> ModelRequest:
    return ModelRequest(
        model=candidate.model,
        messages=framed(turn.messages),
        system=noted(turn.system, frames=turn.caller.toolbox.framed),
        tools=turn.caller.toolbox.schemas,
        settings=candidate.settings,
        output_schema=turn.output_schema,
        timeout=turn.pace.remaining + GRACE,
    )


async def _call_model(turn: Turn, candidate: Candidate, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
    started = turn.clock.monotonic()
    first_token: float | None = None
    response: ModelResponse | None = None
    failure: GoAgentsError | None = None
    try:
        async with aclosing(candidate.provider.stream(request)) as events:
            async for event in events:
                if first_token is None:
                    first_token = turn.clock.monotonic() - started
                if isinstance(event, ModelResponse):
                    response = event
                yield event
    except GoAgentsError as error:
        failure = error
        raise
    finally:
        turn.telemetry.emit(
            ModelCallFinished(
                run_id=turn.caller.run_id,
                cluster=turn.caller.cluster,
                agent=turn.caller.agent,
                provider=candidate.provider.name,
                model=candidate.model,
                duration=turn.clock.monotonic() - started,
                first_token=first_token,
                usage=response.usage if response else Usage(),
                stop_reason=response.stop_reason if response else None,
                error_code=failure.code if failure else None if response else "interrupted",
                error=str(failure) if failure else None,
            )
        )


async def _call_tools(turn: Turn, asked: Message, before: Recorded) -> AsyncGenerator[Happening, None]:
    """Answer the calls of `asked`, of which earlier attempts may have recorded some. Raises Parked."""
    calls = asked.tool_calls
    found = review(
        calls,
        turn.caller.toolbox,
        results=before.results,
        effects=before.effects,
        doubts=turn.doubts,
        decisions=turn.decisions,
        unknown=turn.unknown | turn.steps.doubts,
    )
    turn.steps.doubts |= found.unknown
    turn.steps.resume(calls, before.results)
    results = {**before.results, **found.answered}
    for i, call in enumerate(calls):
        if call.id in found.answered:
            turn.steps.result(i, found.answered[call.id])
            turn.doubts.discard(call.id)
            _remember(turn, call, found.answered[call.id])
            yield _finished(CallDone(call, found.answered[call.id], 0.0))
    for call in found.run:
        yield "tool.started", {"call_id": call.id, "name": call.name, "arguments": call.arguments}
    async with aclosing(turn.caller.call_all(tuple(found.run), turn.steps.number)) as done:
        async for one in done:
            part = _with_note(one.result, found.edited.get(one.call.id))
            if part.unknown:
                asked_for = next(call for call in calls if call.id == one.call.id)
                turn.steps.doubts |= {fingerprint(each.name, each.arguments) for each in (asked_for, one.call)}
                if asks_a_person(turn.caller.toolbox, one.call, found):
                    turn.caller.begun.discard(one.call.id)
                    continue
            results[one.call.id] = part
            _remember(turn, one.call, part)
            yield _finished(one)
            await _take_down(turn, calls, part, last=len(results) == len(calls))
    if found.waiting:
        raise Parked(found.waiting)
    message = Message("tool", tuple(results[call.id] for call in calls))
    turn.new.append(message)
    await turn.steps.tools_done(message)
    turn.decisions = {}
    turn.pace.step_done()


def _longest_call(turn: Turn, asked: Message) -> float:
    """Return the seconds that the calls of `asked`, which are made together, may take."""
    tools = (turn.caller.toolbox.tools.get(call.name) for call in asked.tool_calls)
    return max((tool.tool.definition.timeout for tool in tools if tool is not None), default=0.0)


async def _take_down(turn: Turn, calls: tuple[ToolCallPart, ...], part: ToolResultPart, *, last: bool) -> None:
    """An unsafe call's result is recorded at once, unless the step is complete with it; others wait for the step."""
    index = next(i for i, call in enumerate(calls) if call.id == part.call_id)
    if effect_of(turn.caller.toolbox, part.name) == "unsafe" and not last:
        await turn.steps.result_done(index, part)
    else:
        turn.steps.result(index, part)
    turn.caller.begun.discard(part.call_id)
    turn.doubts.discard(part.call_id)


def _remember(turn: Turn, call: ToolCallPart, result: ToolResultPart) -> None:
    if result.unknown or effect_of(turn.caller.toolbox, call.name) == "unsafe":
        turn.carried.append((call, result))


def _with_note(part: ToolResultPart, note: str | None) -> ToolResultPart:
    return replace(part, content=(*part.content, TextPart(note))) if note else part


def _finished(one: CallDone) -> Happening:
    return (
        "tool.finished",
        {
            "call_id": one.call.id,
            "name": one.call.name,
            "is_error": one.result.is_error,
            "duration": round(one.duration, 4),
            "output": "".join(getattr(part, "text", "[image]") for part in one.result.content)[:PREVIEW],
        },
    )


def _completed(response: ModelResponse) -> dict[str, Any]:
    return {
        "message": MESSAGE.dump_python(response.message, mode="json"),
        "stop_reason": response.stop_reason,
        "usage": asdict(response.usage),
    }
