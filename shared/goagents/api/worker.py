"""`worker`: go on with a run, or deliver a webhook, for the queue.

What Cloud Tasks makes of an answer, which decides ours:

| answer | the queue | ours |
|---|---|---|
| 2xx | is done with the task | nothing (more) is to be done; the store decides that, not the task |
| 429, 503 | slows down, tries again, not before `Retry-After` | no free slot; the store is away |
| any other | tries again, with growing pauses | 401, 403: until the credential is mended; 500: a defect |
| none in time | tries again | `runs.worker_timeout` is less than the queue waits |

No answer says "never again", so a malformed task (422) comes back as long as the queue allows; give the queue a bound
(`--max-attempts`, `--max-retry-duration`). It is refused all the same: after an update an old process may get a new
kind of task, and a new process will take it when it comes back. Losing a task loses nothing: the sweeper finds what
waits.
"""

from typing import Annotated, Literal, Self

from pydantic import StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from goagents.dispatch.base import Task
from goagents.engine.recovery.worker import perform
from goagents.resources import Body, Identifier
from goagents.spec.types import DnsLabel

from .body import read_model
from .calls import call_of, session_of
from .responses import render
from .routing import InternalRoute
from .shutdown import Shutdown


class WorkerTask(Body):
    """A `dispatch.base.Task` as the queue sends it. Its names become parts of paths in the store."""

    kind: Literal["run", "delivery"]
    tenant: DnsLabel
    run: Identifier
    token: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,256}$")]
    delivery: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind == "delivery") != (self.delivery is not None):
            raise PydanticCustomError("task", "`delivery` names what the kind `delivery` delivers, and nothing else's")
        return self

    def task(self) -> Task:
        return Task(self.kind, self.tenant, self.run, self.token, self.delivery)


async def work(request: Request) -> Response:
    task = (await read_model(request, WorkerTask)).task()
    services, _ = session_of(request)
    call_of(request).run_id = task.run
    Shutdown.of_process().interrupt_late(services)
    await perform(services, task)
    return Response(render({}), media_type="application/json")


routes = [InternalRoute("/worker", work, methods=["POST"])]
