"""The dispatchers the contract is tested on, each with a worker that the test sees and steers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from tests.support.asgi_server import AsgiServer
from tests.support.fakes.cloud_tasks import QUEUE, CloudTasks

from goagents.dispatch.base import Dispatch, Task
from goagents.dispatch.cloud_tasks import CloudTasksDispatch
from goagents.dispatch.local import LocalDispatch
from goagents.errors import GoAgentsError


class Worker:
    """Keeps the tasks it was given; `failures` are raised first, one at a time. While `held` is set it does not end."""

    def __init__(self) -> None:
        self.seen: list[Task] = []
        self.failures: list[GoAgentsError] = []
        self.held = False

    async def perform(self, task: Task) -> None:
        self.seen.append(task)
        while self.held:  # noqa: ASYNC110 - set from another thread
            await asyncio.sleep(0.005)
        if self.failures:
            raise self.failures.pop(0)

    async def saw(self, count: int, seconds: float = 10.0) -> None:
        await until(lambda: len(self.seen) >= count, seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The worker as a function that answers HTTP."""
        request = Request(scope, receive)
        body: dict[str, Any] = json.loads(await request.body())
        try:
            await self.perform(Task(**body))
        except GoAgentsError as error:
            response = Response(status_code=error.status)
        else:
            response = Response("{}")
        await response(scope, receive, send)


async def until(done: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not done():  # noqa: ASYNC110 - changed in another thread
            await asyncio.sleep(0.005)


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture(params=["local", "cloud_tasks"])
async def dispatch(
    request: pytest.FixtureRequest, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Dispatch]:
    made: Dispatch
    if request.param == "local":
        made = LocalDispatch(worker.perform)
        yield made
        worker.held = False
        await made.aclose()
        return
    with AsgiServer(worker) as server, CloudTasks() as queue:
        monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", queue.address)
        made = CloudTasksDispatch(queue=QUEUE, worker_url=f"{server.url}/worker", internal_key="k")
        yield made
        worker.held = False
        await made.aclose()
