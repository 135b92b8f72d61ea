"""`chat`: one answer."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from goagents.resources import ChatRequest, Run

from .responses import accepted, resource
from .starting import start_run


async def chat(request: Request) -> Response:
    """The answer; or 202 and where the run is, if it takes longer than a request may.

    It returns once this process is done with the run: the platform takes the CPU away as soon as the request ends.
    """
    answer = await (await start_run(request, "chat", ChatRequest)).answer()
    return accepted(answer) if isinstance(answer, Run) else resource(answer)


routes = [Route("/api/v1/agents/{id}/chat", chat, methods=["POST"])]
