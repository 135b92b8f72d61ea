"""A model for tests: it gives the answers it was told, in order, and keeps what it was asked."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from goagents.clock import Clock
from goagents.errors import ProviderError
from goagents.providers.base import ModelEvent, ModelRequest
from goagents.providers.scripted import ScriptedProvider


class ScriptedModel:
    """`model = ScriptedModel("Hello", {"tool_calls": [{"name": "now"}]}, "It is noon.")`, given as the provider.

    Each step answers one request, in order: a text, or a step as `ScriptedProvider` has them (`fail`, `delay`,
    `cut_off` and all). `requests` are the ModelRequests received. A request more than there are steps raises
    ProviderError, so that a test cannot pass by accident. Raises ConfigurationError for a wrong step.
    """

    def __init__(self, *steps: str | Mapping[str, Any], name: str = "scripted", clock: Clock | None = None) -> None:
        self.name = name
        self.requests: list[ModelRequest] = []
        self._scripts = [ScriptedProvider(models={"*": [_step(step)]}, clock=clock) for step in steps]

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.requests.append(request)
        number = len(self.requests)
        if number > len(self._scripts):
            raise ProviderError(
                f"the scripted model was told {len(self._scripts)} answers, and this is request {number}"
            )
        async with aclosing(self._scripts[number - 1].stream(request)) as events:
            async for event in events:
                yield event

    async def aclose(self) -> None:
        """Nothing to close."""


def _step(step: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(step, str):
        return {"always": True, "text": step.replace("{", "{{").replace("}", "}}")}
    return dict(step) if "after" in step else {"always": True, **step}
