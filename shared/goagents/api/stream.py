"""`stream`: what happens in a run, as it happens."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from goagents.engine.watching import Watch
from goagents.events import RunEvent
from goagents.resources import ChatRequest

from .calls import call_of
from .sse import EventStream, encode
from .starting import start_run

MAY_REST = frozenset({"run.handed_off", "run.waiting"})
FAILED = frozenset({"run.failed", "run.cancelled"})


async def stream(request: Request) -> ASGIApp:
    watch = await start_run(request, "stream", ChatRequest)
    return event_stream(request, _as_it_happens(watch), watch)


def event_stream(
    request: Request, events: AsyncGenerator[RunEvent, None], watch: Watch, longest: float | None = None
) -> EventStream[RunEvent]:
    """Return what sends a run's events; the log's line of the request says how the run failed."""
    call = call_of(request)

    def encoded(event: RunEvent) -> bytes:
        if event.type in FAILED:
            call.error_code = event.data["error"]["code"]
        return encode(event.type, event.data, event.id)

    return EventStream(events, encoded, finished=watch.let_go, longest=longest)


async def _as_it_happens(watch: Watch) -> AsyncGenerator[RunEvent, None]:
    """Yield the run's events from the first on; end where nothing more is to come soon."""
    async with aclosing(watch.events()) as events:
        async for event in events:
            yield event
            if event.type in MAY_REST and await watch.rests(event):
                return


routes = [Route("/api/v1/agents/{id}/stream", stream, methods=["POST"])]
