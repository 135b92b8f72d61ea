"""`stream`: what happens in a run, as it happens."""

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from goagents.events import RunEvent

from .calls import call_of
from .sse import EventStream, encode
from .starting import start_run


async def stream(request: Request) -> ASGIApp:
    handle = await start_run(request, "stream")
    call = call_of(request)

    def encoded(event: RunEvent) -> bytes:
        if event.type == "run.failed":
            call.error_code = event.data["error"]["code"]
        return encode(event.type, event.data, event.id)

    return EventStream(handle.events(), encoded, finished=handle.finished)


routes = [Route("/api/v1/agents/{id}/stream", stream, methods=["POST"])]
