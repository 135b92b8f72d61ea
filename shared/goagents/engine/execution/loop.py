"""The agent loop, the only one: model, tools, model, … until a final message or a limit.

An async generator of happenings. `chat` drains it, `stream` forwards it. All state is in the `Turn` it works on.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from goagents.clock import Clock
from goagents.errors import GoAgentsError, ProviderError, ProviderProtocolError, RunLimitReached
from goagents.events import EventType
from goagents.messages import MESSAGE, Message, ToolResultPart, Usage
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, Provider, TextDelta
from goagents.telemetry.base import ModelCallFinished, Telemetry

from .steps import Steps
from .toolcalls import Caller, sound

GRACE = 1.0  # seconds the provider gets beyond the run's own deadline, so that it is the run that times out
PREVIEW = 2000  # characters of a tool's output in its event

Happening = tuple[EventType, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to ask: the agent's own first, then its fallbacks."""

    provider: Provider
    model: str
    settings: Mapping[str, Any]


@dataclass
class Turn:
    """One run in progress. `messages` is the conversation so far, `new` what this run adds to the session."""

    candidates: tuple[Candidate, ...]
    caller: Caller
    steps: Steps
    telemetry: Telemetry
    clock: Clock
    messages: tuple[Message, ...]
    system: str | None
    output_schema: Mapping[str, Any] | None
    max_turns: int
    deadline: float
    new: list[Message] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    tool_calls: int = 0
    final: ModelResponse | None = None

    def add(self, message: Message) -> None:
        self.messages = (*self.messages, message)
        self.new.append(message)


async def run_turn(turn: Turn) -> AsyncGenerator[Happening, None]:
    """Work until `turn.final` is set. Raises ProviderError, RunLimitReached, LeaseLost, StoreError."""
    for _ in range(turn.max_turns):
        response = None
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
        turn.add(response.message)
        yield "message.completed", _completed(response)
        if not response.message.tool_calls:
            turn.final = response
            return
        await turn.steps.model_done(response)
        async with aclosing(_call_tools(turn, response)) as happenings:
            async for happening in happenings:
                yield happening
    raise RunLimitReached(f"The agent took {turn.max_turns} turns (max_turns) without a final answer.")


async def _ask(turn: Turn) -> AsyncGenerator[ModelEvent, None]:
    """Stream the first candidate that answers. Once something was streamed, a failure is final."""
    for position, candidate in enumerate(turn.candidates):
        streamed = False
        try:
            async with aclosing(_call_model(turn, candidate)) as events:
                async for event in events:
                    streamed = True
                    yield event
        except ProviderError:
            if streamed or position == len(turn.candidates) - 1:
                raise
        else:
            return


async def _call_model(turn: Turn, candidate: Candidate) -> AsyncGenerator[ModelEvent, None]:
    started = turn.clock.monotonic()
    request = ModelRequest(
        model=candidate.model,
        messages=turn.messages,
        system=turn.system,
        tools=turn.caller.toolbox.schemas,
        settings=candidate.settings,
        output_schema=turn.output_schema,
        timeout=max(0.0, turn.deadline - started) + GRACE,
    )
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


async def _call_tools(turn: Turn, response: ModelResponse) -> AsyncGenerator[Happening, None]:
    calls = response.message.tool_calls
    turn.tool_calls += len(calls)
    for call in calls:
        yield "tool.started", {"call_id": call.id, "name": call.name, "arguments": call.arguments}
    results: dict[str, ToolResultPart] = {}
    async with aclosing(turn.caller.call_all(calls, turn.steps.number)) as done:
        async for one in done:
            results[one.call.id] = one.result
            yield (
                "tool.finished",
                {
                    "call_id": one.call.id,
                    "name": one.call.name,
                    "is_error": one.result.is_error,
                    "duration": round(one.duration, 4),
                    "output": "".join(getattr(part, "text", "[image]") for part in one.result.content)[:PREVIEW],
                },
            )
    message = Message("tool", tuple(results[call.id] for call in calls))
    turn.add(message)
    await turn.steps.tools_done(message)


def _completed(response: ModelResponse) -> dict[str, Any]:
    return {
        "message": MESSAGE.dump_python(response.message, mode="json"),
        "stop_reason": response.stop_reason,
        "usage": asdict(response.usage),
    }
