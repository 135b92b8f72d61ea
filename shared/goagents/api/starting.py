"""What chat and stream begin with."""

from typing import Literal

from starlette.requests import Request

from goagents.engine import runs
from goagents.engine.execution.handle import RunHandle
from goagents.resources import ChatRequest

from . import params
from .body import read_model
from .calls import call_of, session_of
from .shutdown import Shutdown


async def start_run(request: Request, kind: Literal["chat", "stream"]) -> RunHandle:
    """Admit the run that the request asks for. Its ids are known to the answer's errors and to the log from then on."""
    agent, key = params.agent_id(request), params.idempotency_key(request)
    body = await read_model(request, ChatRequest)
    services, principal = session_of(request)
    handle = await runs.start(services, principal, agent, body, kind=kind, idempotency_key=key)
    Shutdown.of_process().interrupt_late(services.tasks)
    call = call_of(request)
    call.run_id, call.session_id = handle.run_id, handle.session_id
    return handle
