"""`chat`: one answer."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .responses import resource
from .starting import start_run


async def chat(request: Request) -> Response:
    handle = await start_run(request, "chat")
    try:
        return resource(await handle.result())
    finally:
        await handle.finished()  # the platform takes the CPU away as soon as the request ends


routes = [Route("/api/v1/agents/{id}/chat", chat, methods=["POST"])]
