"""Dispatch by Cloud Tasks: each task becomes an HTTP request to the worker function, repeated until it answers 2xx.

A task's name is made of what it is about, hashed, because Cloud Tasks spreads its load by names. A name that the queue
has had is refused for an hour or more: that is the same task once again, and no failure.
"""

import asyncio
import hashlib
import json
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import google.auth
import grpc  # type: ignore[import-untyped]  # it ships no types
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from google.cloud.tasks_v2.services.cloud_tasks import CloudTasksAsyncClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from google.cloud.tasks_v2.types import CreateTaskRequest, HttpMethod, HttpRequest, OidcToken
from google.cloud.tasks_v2.types import Task as QueuedTask
from grpc import StatusCode

from goagents.errors import ConfigurationError, DispatchFailed, FieldError

from .base import Task

EMULATOR = "CLOUD_TASKS_EMULATOR_HOST"  # host:port of an emulator, spoken to without TLS and credentials
RPC_TIMEOUT = 10.0
ATTEMPTS = 3
MIN_DEADLINE, MAX_DEADLINE = 15.0, 1800.0  # seconds that Cloud Tasks waits for an HTTP target
MAX_DELAY = 29 * 86_400.0  # Cloud Tasks takes 30 days, of its own clock
_FIRST_PAUSE = 0.1
_CLOSE_GRACE = 5.0
_AGAIN = frozenset({StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED})
_REMEDIES: dict[StatusCode | None, str] = {
    StatusCode.PERMISSION_DENIED: "Give this service account the role roles/cloudtasks.enqueuer, and "
    "roles/iam.serviceAccountUser on the one that `dispatch.service_account` names.",
    StatusCode.UNAUTHENTICATED: "Run `gcloud auth application-default login`, or attach a service account.",
    StatusCode.NOT_FOUND: "Make the queue with `gcloud tasks queues create`, or correct `dispatch.queue`.",
    StatusCode.RESOURCE_EXHAUSTED: "A quota is used up: see the quotas of Cloud Tasks in the console.",
}


class CloudTasksDispatch:
    """`queue` is the queue's resource name. A request shows the worker who sent it by an identity token of
    `service_account`, or else by `internal_key`. `deadline` is how many seconds the worker may take, `timeout` how many
    one call of Cloud Tasks.

    `transport` makes the connection, in the event loop that will use it; by default to Cloud Tasks, or to the emulator
    that CLOUD_TASKS_EMULATOR_HOST names. Raises ConfigurationError where neither of the two credentials is there.
    """

    def __init__(
        self,
        *,
        queue: str,
        worker_url: str,
        service_account: str | None = None,
        internal_key: str | None = None,
        deadline: float = 915.0,
        timeout: float = RPC_TIMEOUT,
        transport: Callable[[], Any] | None = None,
    ) -> None:
        if service_account is None and internal_key is None:
            message = "is not set: name the service account whose token the worker takes, or set GOAGENTS_INTERNAL_KEY"
            raise ConfigurationError("No credential", errors=[FieldError("dispatch.service_account", message)])
        self._queue = queue
        self._worker_url = worker_url
        self._service_account = service_account
        self._internal_key = internal_key
        self._deadline = timedelta(seconds=min(max(deadline, MIN_DEADLINE), MAX_DEADLINE))
        self._timeout = timeout
        self._make = transport
        self._transport: Any = None
        self._client: CloudTasksAsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._making = asyncio.Lock()
        self._closed = False

    async def enqueue(self, task: Task) -> None:
        request = CreateTaskRequest(parent=self._queue, task=self._queued(task))
        attempt = 0
        while True:
            attempt += 1
            client = await self._ready()
            try:
                await client.create_task(request, retry=None, timeout=self._timeout)
            except GoogleAPICallError as error:
                status = error.grpc_status_code
                if status is StatusCode.ALREADY_EXISTS:
                    return
                if status not in _AGAIN or attempt == ATTEMPTS:
                    remedy = _REMEDIES.get(status, "")
                    raise DispatchFailed(f"Cloud Tasks ({self._queue}): {error.message} {remedy}".rstrip()) from error
            else:
                return
            # Sent again under the same name: taken the first time, it is refused the second time.
            await asyncio.sleep(_FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1))  # noqa: S311 - jitter

    def stop(self) -> None:
        """Nothing is carried out here: the queue takes tasks to the end."""

    async def aclose(self) -> None:
        """Let the calls under way finish, within a bound, and close the connection for good."""
        self._closed = True
        transport, self._transport, self._client = self._transport, None, None
        if transport is not None:
            await transport.grpc_channel.close(grace=_CLOSE_GRACE)

    def _queued(self, task: Task) -> QueuedTask:
        body = {"kind": task.kind, "tenant": task.tenant, "run": task.run, "token": task.token}
        if task.delivery is not None:
            body["delivery"] = task.delivery
        request = HttpRequest(
            url=self._worker_url,
            http_method=HttpMethod.POST,
            headers={"Content-Type": "application/json"},
            body=json.dumps(body).encode(),
        )
        if self._service_account is not None:
            request.oidc_token = OidcToken(service_account_email=self._service_account, audience=self._worker_url)
        else:
            request.headers["Authorization"] = f"Bearer {self._internal_key}"
        queued = QueuedTask(
            name=f"{self._queue}/tasks/{name_of(task)}", http_request=request, dispatch_deadline=self._deadline
        )
        if task.delay > 0:
            queued.schedule_time = datetime.now(UTC) + timedelta(seconds=min(task.delay, MAX_DELAY))
        return queued

    async def _ready(self) -> CloudTasksAsyncClient:
        if self._closed:
            raise DispatchFailed("This connection to Cloud Tasks is closed; the sweeper finds what is left.")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a channel belongs to the loop it was made in
            self._loop, self._client, self._making = loop, None, asyncio.Lock()
        if self._client is None:
            async with self._making:
                if self._client is None:
                    self._transport = self._make() if self._make else await _transport()
                    self._client = CloudTasksAsyncClient(transport=self._transport)
        return self._client


def name_of(task: Task) -> str:
    """Return the last part of a task's name in the queue."""
    whole = json.dumps([task.kind, task.tenant, task.run, task.delivery, task.token])
    return f"{task.kind}-{hashlib.sha256(whole.encode()).hexdigest()}"


async def _transport() -> CloudTasksGrpcAsyncIOTransport:
    """Raises DispatchFailed where there are no credentials."""
    emulator = os.environ.get(EMULATOR)
    if emulator:
        return CloudTasksGrpcAsyncIOTransport(host=emulator, channel=grpc.aio.insecure_channel(emulator))
    try:
        # Reads files and may ask the metadata server, which is nothing for the event loop.
        credentials, _ = await asyncio.to_thread(google.auth.default, CloudTasksGrpcAsyncIOTransport.AUTH_SCOPES)
    except GoogleAuthError as error:
        raise DispatchFailed(
            "Cloud Tasks needs credentials: run `gcloud auth application-default login`, or attach a service account."
        ) from error
    return CloudTasksGrpcAsyncIOTransport(credentials=credentials)
