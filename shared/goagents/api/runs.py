"""Runs: started in the background, listed, followed, cancelled, decided upon."""

from typing import get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from goagents.engine import controls, runs
from goagents.engine.watching import START
from goagents.records import TERMINAL, RunStatus
from goagents.resources import ApproveRequest, CancelRequest, RunRequest

from . import params
from .body import read_model, read_optional
from .calls import call_of, session_of
from .responses import accepted, resource
from .shutdown import Shutdown
from .starting import start_run
from .stream import event_stream


async def start(request: Request) -> Response:
    watch = await start_run(request, "background", RunRequest)
    services, principal = session_of(request)
    return accepted(await runs.get_run(services, principal, watch.run_id))


async def list_runs(request: Request) -> Response:
    """The caller's runs, newest first; of one agent, session or cluster, and with one status, if asked."""
    services, principal = session_of(request)
    namespace, cluster = params.namespace(request), params.label(request, "cluster")
    found = await runs.list_runs(
        services,
        principal,
        **params.page(request),
        status=params.choice(request, "status", get_args(RunStatus)),
        agent=params.agent_query(request),
        session=params.session_query(request),
        cluster=(namespace, cluster) if cluster else None,
    )
    return resource(found)


async def get_run(request: Request) -> Response:
    """A run and a page of its steps."""
    return resource(await runs.get_run(*session_of(request), params.run_id(request), **params.page(request)))


async def get_events(request: Request) -> ASGIApp:
    """All events behind the cursor, then those to come, until the run is over or the request takes too long."""
    services, principal = session_of(request)
    Shutdown.of_process().interrupt_late(services)  # a run that was left behind goes on here
    run_id, after = params.run_id(request), params.cursor(request) or START
    watch = await runs.watch(services, principal, run_id, after)
    call_of(request).run_id = run_id
    return event_stream(request, watch.events(after), watch, longest=services.config.server.timeout)


async def cancel(request: Request) -> Response:
    run_id = params.run_id(request)
    asked = await read_optional(request, CancelRequest)
    services, principal = session_of(request)
    Shutdown.of_process().interrupt_late(services)  # the next run of the session may begin here
    run = await controls.cancel(services, principal, run_id, asked.reason if asked else None)
    return resource(run) if run.status in TERMINAL else accepted(run)


async def approve(request: Request) -> Response:
    run_id = params.run_id(request)
    asked = await read_model(request, ApproveRequest)
    services, principal = session_of(request)
    Shutdown.of_process().interrupt_late(services)  # it may go on here
    return accepted(await controls.approve(services, principal, run_id, asked.decisions))


routes = [
    Route("/api/v1/agents/{id}/runs", start, methods=["POST"]),
    Route("/api/v1/runs", list_runs),
    Route("/api/v1/runs/{id}", get_run),
    Route("/api/v1/runs/{id}/events", get_events),
    Route("/api/v1/runs/{id}/cancel", cancel, methods=["POST"]),
    Route("/api/v1/runs/{id}/approve", approve, methods=["POST"]),
]
