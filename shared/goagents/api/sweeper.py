"""`sweeper`: find what was left behind, for the scheduler.

Cloud Scheduler calls again at the next time whatever the answer is, and sooner after one that is not 2xx, if it is
told to. A sweep that fails half-way has done no harm: the next one begins anew.
"""

from starlette.requests import Request
from starlette.responses import Response

from goagents.engine.recovery.sweep import sweep

from .calls import call_of, session_of
from .responses import resource
from .routing import InternalRoute
from .shutdown import Shutdown


async def sweep_all(request: Request) -> Response:
    services, _ = session_of(request)
    Shutdown.of_process().interrupt_late(services)  # what is dispatched locally runs in this process
    report = await sweep(services)
    call_of(request).quiet = not (report.redispatched or report.expired or report.deliveries or report.purged)
    return resource(report)


routes = [InternalRoute("/sweep", sweep_all, methods=["POST"])]
