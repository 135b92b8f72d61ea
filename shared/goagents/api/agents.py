"""Agents and sessions."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from goagents.engine import agents, sessions

from . import params
from .calls import session_of
from .responses import no_content, resource


async def list_agents(request: Request) -> Response:
    namespace, cluster = params.namespace(request), params.label(request, "cluster")
    page = params.page(request)
    return resource(await agents.list_agents(*session_of(request), namespace=namespace, cluster=cluster, **page))


async def get_agent(request: Request) -> Response:
    return resource(await agents.get_agent(*session_of(request), params.agent_id(request)))


async def get_session(request: Request) -> Response:
    return resource(await sessions.get_session(*session_of(request), params.session_id(request)))


async def delete_session(request: Request) -> Response:
    await sessions.delete_session(*session_of(request), params.session_id(request))
    return no_content()


async def list_messages(request: Request) -> Response:
    page = params.page(request)
    return resource(await sessions.list_messages(*session_of(request), params.session_id(request), **page))


routes = [
    Route("/api/v1/agents", list_agents),
    Route("/api/v1/agents/{id}", get_agent),
    Route("/api/v1/sessions/{id}", get_session),
    Route("/api/v1/sessions/{id}", delete_session, methods=["DELETE"]),
    Route("/api/v1/sessions/{id}/messages", list_messages),
]
