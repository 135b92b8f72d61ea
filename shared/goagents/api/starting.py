"""What starting a run begins with."""

from typing import Literal, TypeVar

from starlette.requests import Request

from goagents.engine import runs
from goagents.engine.watching import Watch
from goagents.resources import ChatRequest

from . import params
from .body import read_model
from .calls import call_of, session_of
from .shutdown import Shutdown

B = TypeVar("B", bound=ChatRequest)


async def start_run(request: Request, kind: Literal["chat", "stream", "background"], body: type[B]) -> Watch:
    """Admit the run that the request asks for. Its ids are known to the answer's errors and to the log from then on."""
    agent, key = params.agent_id(request), params.idempotency_key(request)
    asked = await read_model(request, body)
    services, principal = session_of(request)
    watch = await runs.start(services, principal, agent, asked, kind=kind, idempotency_key=key)
    Shutdown.of_process().interrupt_late(services)
    call = call_of(request)
    call.run_id, call.session_id = watch.run_id, watch.session_id
    return watch
