"""Runs as the engine's tests start them, and models that behave as told."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from tests.support.engine import ALICE

from goagents.engine import runs, sessions
from goagents.engine.services import Services
from goagents.messages import Message, TextPart, Usage
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, TextDelta
from goagents.records import Paths
from goagents.resources import ChatRequest, ChatResponse
from goagents.store.base import Query

PATHS = Paths("default")


async def chat(services: Services, message: str = "hi", session: str | None = None, **more: Any) -> ChatResponse:
    request = ChatRequest(message=message, session_id=session)
    handle = await runs.start(services, ALICE, "support.helper", request, kind="chat", **more)
    return await handle.result()


async def conversation(services: Services, session: str) -> list[Message]:
    return [item.message for item in (await sessions.list_messages(services, ALICE, session, 100, None)).items]


async def at_rest(services: Services, session: str) -> None:
    """Assert that nothing points at a run any more."""
    assert (await sessions.get_session(services, ALICE, session)).active_run is None
    for collection in (PATHS.slots("default", "support"), PATHS.instances("default", "support")):
        page = await services.store.query(Query(collection, limit=500))
        assert [d.data.get("run") for d in page.documents] == [None] * len(page.documents)


class Held:
    """A model that answers when told to, and counts how many calls are open."""

    name = "scripted"

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.entered = asyncio.Event()
        self.open = self.most = 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.open += 1
        self.most = max(self.most, self.open)
        self.entered.set()
        try:
            await self.release.wait()
            await asyncio.sleep(0.01)
            yield TextDelta("done")
            yield ModelResponse(Message("assistant", (TextPart("done"),)), "end_turn", Usage(3, 1), request.model)
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        pass


class Talkative(Held):
    """Says `text` in deltas of `size` characters."""

    def __init__(self, text: str, size: int) -> None:
        super().__init__()
        self.text, self.size = text, size

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        for start in range(0, len(self.text), self.size):
            yield TextDelta(self.text[start : start + self.size])
        yield ModelResponse(Message("assistant", (TextPart(self.text),)), "end_turn", Usage(1, 1), request.model)


CALLS: list[Mapping[str, Any]] = [
    {
        "tool_calls": [
            {"name": "lookup", "arguments": {"id": 1}},
            {"name": "lookup", "arguments": {"id": 2}},
            {"name": "lookup", "arguments": {"id": "x"}},
            {"name": "broken", "arguments": {}},
            {"name": "slow", "arguments": {}},
            {"name": "absent", "arguments": {}},
        ]
    },
    {"after": "*", "text": "done"},
]
