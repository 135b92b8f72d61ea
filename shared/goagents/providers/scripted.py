"""A model that follows a script: for tests, demos and trying GoAgents without a key. It uses no network."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any

from goagents.clock import Clock, SystemClock
from goagents.errors import ProviderModelNotFound, ProviderProtocolError, ProviderTimedOut
from goagents.messages import Message, Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart, Usage
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, ReasoningDelta, TextDelta
from goagents.providers.scripted_steps import ANY, FAILURES, Filler, Scene, ScriptedCall, Step, load_steps, scene_of

NAME = "scripted"


class ScriptedProvider:
    """The `scripted` provider. `models` maps a model's name (`*`: any other) to its steps, as the YAML has them.

    The first step that fits answers:

    - A step without `after` answers a user's message. `after: TOOL` (or `*`) answers the result of that tool, when it
      is among the results that just came; `failed: true` or `false` asks whether that result was an error.
      `always: true` answers both.
    - `when` is a regular expression searched for in the last user message (`(?i)` ignores case).
    - `turn` is the number of the user message in the conversation, `round` that of the model's call since that
      message, both from 1.
    - `times` is how often the step may answer in this process; then later steps get their turn.

    What it does: `reasoning`, `text` and `tool_calls: [{name, arguments}]`, streamed after `delay` in pieces of
    `chunk_size` characters, `chunk_delay` apart. `fail` raises the provider error of that code (with `retry_after`)
    after `delay`; `cut_off: N` raises ProviderProtocolError after N characters of text. `stop_reason` and `usage`
    replace the natural ones; usage counts words otherwise.

    Templates in texts and arguments: `{user}`, `{result}` (text of the tool's result), `{json:orders.0.status}` (a
    field of that result's JSON), `{1}` or `{name}` (a group of `when`), `{int:name}` (the same as a number). An
    argument that is one template alone keeps its JSON type. `{json:status|unknown}` has a default, otherwise what is
    missing is empty. `{{` and `}}` are braces.

    Where no step fits, it says that it is the scripted model and repeats what it was given. Raises
    ConfigurationError for a wrong script, ProviderModelNotFound for a model without script where others have one.
    """

    name = NAME

    def __init__(
        self, *, models: Mapping[str, Sequence[Mapping[str, Any]]] | None = None, clock: Clock | None = None
    ) -> None:
        self._scripts = load_steps(models or {})
        self._clock = clock or SystemClock()
        self._used: dict[tuple[str, int], int] = {}

    async def aclose(self) -> None:
        """Nothing to close."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        until = self._clock.monotonic() + request.timeout
        step, filler = self._next(request)
        await self._pause(step.delay, until)
        if step.fail is not None:
            raise FAILURES[step.fail](f"scripted: the script fails here ({step.fail})", retry_after=step.retry_after)
        reasoning, text = filler.text(step.reasoning), filler.text(step.text)
        shown = text if step.cut_off is None else text[: step.cut_off]
        pieces: list[ModelEvent] = [ReasoningDelta(piece) for piece in _pieces(reasoning, step.chunk_size)]
        pieces += [TextDelta(piece) for piece in _pieces(shown, step.chunk_size)]
        for number, piece in enumerate(pieces):
            if number:
                await self._pause(step.chunk_delay, until)
            yield piece
        if step.cut_off is not None:
            raise ProviderProtocolError(f"scripted: the script cuts the answer off after {step.cut_off} characters")
        yield _response(request, step, filler, reasoning, text)

    async def _pause(self, seconds: float, until: float) -> None:
        left = until - self._clock.monotonic()
        if seconds > left:
            await self._clock.sleep(max(left, 0.0))
            raise ProviderTimedOut("scripted did not finish its answer in time")
        if seconds:
            await self._clock.sleep(seconds)

    def _next(self, request: ModelRequest) -> tuple[Step, Filler]:
        model = request.model if request.model in self._scripts else ANY
        if self._scripts and model not in self._scripts:
            known = ", ".join(sorted(self._scripts))
            raise ProviderModelNotFound(f"scripted has no script for the model {request.model}; it has {known}")
        scene = scene_of(request.messages)
        for number, step in enumerate(self._scripts.get(model, ())):
            if step.times is not None and self._used.get((model, number), 0) >= step.times:
                continue
            filler = step.fit(scene)
            if filler is not None:
                self._used[model, number] = self._used.get((model, number), 0) + (step.times is not None)
                return step, filler
        return _echo(scene)


def _echo(scene: Scene) -> tuple[Step, Filler]:
    result = scene.result(ANY)
    if result is not None:
        step = Step(after=result.name, text="The tool answered: {result}")
    else:
        step = Step(text="I am GoAgents' scripted offline model, and my script has no answer to: {user}")
    filler = step.fit(scene)
    if filler is None:  # both steps fit any scene they were made for
        raise ProviderProtocolError("scripted found no answer")
    return step, filler


def _pieces(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def _response(request: ModelRequest, step: Step, filler: Filler, reasoning: str, text: str) -> ModelResponse:
    parts: list[Part] = []
    if reasoning:
        parts.append(ReasoningPart(reasoning))
    if text:
        parts.append(TextPart(text))
    earlier = sum(len(message.tool_calls) for message in request.messages)
    calls = [_call(call, filler, earlier + number) for number, call in enumerate(step.tool_calls, start=1)]
    message = Message("assistant", (*parts, *calls), provider=NAME, model=request.model)
    return ModelResponse(
        message=message,
        stop_reason=step.stop_reason or ("tool_use" if calls else "end_turn"),
        usage=Usage(**step.usage.model_dump()) if step.usage else _counted(request, message),
        model=request.model,
        response_id=f"scripted_{len(request.messages)}",
    )


def _call(call: ScriptedCall, filler: Filler, number: int) -> ToolCallPart:
    return ToolCallPart(id=f"call_{number}", name=call.name, arguments=filler.value(call.arguments))


def _counted(request: ModelRequest, answer: Message) -> Usage:
    """Count words, which is the same on every machine and near enough to tokens for a demo."""
    asked = len((request.system or "").split()) + sum(_words(message) for message in request.messages)
    reasoning = sum(len(part.text.split()) for part in answer.parts if isinstance(part, ReasoningPart))
    return Usage(input_tokens=asked, output_tokens=_words(answer), reasoning_tokens=reasoning)


def _words(message: Message) -> int:
    return sum(_part_words(part) for part in message.parts)


def _part_words(part: Part) -> int:
    if isinstance(part, TextPart | ReasoningPart):
        return len(part.text.split())
    if isinstance(part, ToolCallPart):
        return 1 + len(json.dumps(part.arguments).split())
    if isinstance(part, ToolResultPart):
        return sum(_part_words(item) for item in part.content)
    return 1  # an image
