"""What is Cloud Tasks' own: what a task looks like in the queue, its credentials, and its errors."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from google.cloud.tasks_v2.types import CreateTaskRequest
from google.cloud.tasks_v2.types import Task as QueuedTask
from grpc import StatusCode
from tests.contract.dispatch.conftest import Worker
from tests.support.asgi_server import AsgiServer
from tests.support.fakes.cloud_tasks import QUEUE, CloudTasks
from tests.support.ports import free_port

from goagents.dispatch.base import Task
from goagents.dispatch.cloud_tasks import CloudTasksDispatch, name_of
from goagents.errors import ConfigurationError, DispatchFailed, LimitExceeded

RUN = Task("run", "default", "run_1", "lease_1")
URL = "https://worker.example/worker"
ACCOUNT = "tasks@test.iam.gserviceaccount.com"


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudTasks]:
    with CloudTasks() as made:
        monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", made.address)
        yield made


@pytest.fixture
async def make() -> AsyncIterator[Any]:
    made: list[CloudTasksDispatch] = []

    def build(**options: Any) -> CloudTasksDispatch:
        arguments = {"queue": QUEUE, "worker_url": URL, "internal_key": "the-internal-key", **options}
        made.append(CloudTasksDispatch(**arguments))
        return made[-1]

    yield build
    for one in made:
        await one.aclose()


def seconds(task: QueuedTask) -> float:
    return task.dispatch_deadline.total_seconds()


async def test_a_task_in_the_queue(queue: CloudTasks, make: Any):
    before = datetime.now(UTC)
    await make().enqueue(replace(RUN, delay=60.0))
    ((name, task),) = queue.tasks.items()
    assert name == f"{QUEUE}/tasks/{name_of(RUN)}"
    request = task.http_request
    assert (request.url, request.http_method.name) == (URL, "POST")
    assert json.loads(request.body) == {"kind": "run", "tenant": "default", "run": "run_1", "token": "lease_1"}
    assert dict(request.headers) == {
        "Content-Type": "application/json",
        "Authorization": "Bearer the-internal-key",
    }
    assert not request.oidc_token.service_account_email
    assert seconds(task) == 915
    assert 55 <= (task.schedule_time - before).total_seconds() <= 65


async def test_a_delivery_in_the_queue(queue: CloudTasks, make: Any):
    await make().enqueue(replace(RUN, kind="delivery", delivery="run.completed"))
    (task,) = queue.tasks.values()
    assert json.loads(task.http_request.body)["delivery"] == "run.completed"
    assert task.name.rpartition("/")[2].startswith("delivery-")
    assert not QueuedTask.pb(task).HasField("schedule_time")


async def test_a_service_account_goes_before_the_key(queue: CloudTasks, make: Any):
    await make(service_account=ACCOUNT).enqueue(RUN)
    (task,) = queue.tasks.values()
    assert task.http_request.oidc_token.service_account_email == ACCOUNT
    assert task.http_request.oidc_token.audience == URL
    assert "the-internal-key" not in str(task)


@pytest.mark.parametrize(("asked", "given"), [(5.0, 15), (60.0, 60), (1800.0, 1800), (7200.0, 1800)])
async def test_the_deadline_is_one_that_cloud_tasks_takes(queue: CloudTasks, make: Any, asked: float, given: float):
    await make(deadline=asked).enqueue(RUN)
    assert [seconds(task) for task in queue.tasks.values()] == [given]


async def test_a_delay_of_years_is_one_that_cloud_tasks_takes(queue: CloudTasks, make: Any):
    await make().enqueue(replace(RUN, delay=1e9))
    assert len(queue.tasks) == 1


def test_names_spread_and_fit():
    names = {name_of(replace(RUN, run=f"run_{n}")) for n in range(100)}
    assert len({name[:8] for name in names}) > 60
    assert all(len(name) < 100 for name in names)
    odd = replace(RUN, run="a/b ü")
    assert name_of(odd).isascii()
    assert name_of(RUN) == name_of(replace(RUN, delay=9))


def test_no_credential_is_a_mistake():
    with pytest.raises(ConfigurationError, match="GOAGENTS_INTERNAL_KEY") as raised:
        CloudTasksDispatch(queue=QUEUE, worker_url=URL)
    assert raised.value.errors[0].path == "dispatch.service_account"


@pytest.mark.parametrize("status", [StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED])
async def test_what_may_pass_is_tried_again(queue: CloudTasks, make: Any, status: StatusCode):
    queue.failures.extend([status, status])
    await make().enqueue(RUN)
    assert len(queue.created) == 1
    queue.failures.extend([status] * 3)
    with pytest.raises(DispatchFailed, match=QUEUE):
        await make().enqueue(replace(RUN, run="run_2"))
    assert not queue.failures


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (StatusCode.PERMISSION_DENIED, "roles/cloudtasks.enqueuer"),
        (StatusCode.RESOURCE_EXHAUSTED, "quota"),
        (StatusCode.UNAUTHENTICATED, "gcloud auth"),
        (StatusCode.INVALID_ARGUMENT, "The service is not what it was"),
        (StatusCode.INTERNAL, "The service is not what it was"),
    ],
)
async def test_what_does_not_pass_is_told_at_once(queue: CloudTasks, make: Any, status: StatusCode, remedy: str):
    queue.failures.extend([status, status])
    with pytest.raises(DispatchFailed, match=remedy) as raised:
        await make().enqueue(RUN)
    assert len(queue.failures) == 1
    assert "the-internal-key" not in str(raised.value)


async def test_a_queue_there_is_not(queue: CloudTasks, make: Any):
    with pytest.raises(DispatchFailed, match="gcloud tasks queues create"):
        await make(queue="projects/test/locations/here/queues/other").enqueue(RUN)
    assert not queue.created


async def test_a_service_that_does_not_answer(queue: CloudTasks, make: Any):
    queue.hang = 0.4
    began = time.monotonic()
    with pytest.raises(DispatchFailed, match="Deadline"):
        await make(timeout=0.1).enqueue(RUN)
    assert 0.3 <= time.monotonic() - began < 3


async def test_an_answer_that_came_too_late_is_one_task(queue: CloudTasks, make: Any):
    queue.hang = 0.3
    dispatch = make(timeout=0.2)
    enqueuing = asyncio.create_task(dispatch.enqueue(RUN))
    await asyncio.sleep(0.1)
    queue.hang = 0.0  # the first call is taken after its caller gave up; the second one finds the name in use
    await enqueuing
    await asyncio.sleep(0.3)
    assert len(queue.created) == 1


async def test_a_service_that_is_not_there(make: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    began = time.monotonic()
    with pytest.raises(DispatchFailed, match="Cloud Tasks"):
        await make(timeout=1.0).enqueue(RUN)
    assert time.monotonic() - began < 5


async def test_no_credentials_of_google(make: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/there/is/no/such/file.json")
    with pytest.raises(DispatchFailed, match="application-default login"):
        await make().enqueue(RUN)


async def test_a_connection_of_ones_own(queue: CloudTasks, make: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST")

    def transport() -> CloudTasksGrpcAsyncIOTransport:
        channel = grpc.aio.insecure_channel(queue.address)
        return CloudTasksGrpcAsyncIOTransport(host=queue.address, channel=channel)

    await make(transport=transport).enqueue(RUN)
    assert len(queue.created) == 1


def test_each_event_loop_has_its_own_connection(queue: CloudTasks):
    dispatch = CloudTasksDispatch(queue=QUEUE, worker_url=URL, internal_key="k")

    async def enqueue(run: str) -> None:
        await dispatch.enqueue(replace(RUN, run=run))

    asyncio.run(enqueue("run_1"))
    asyncio.run(enqueue("run_2"))

    async def close() -> None:
        await enqueue("run_3")
        await dispatch.aclose()

    asyncio.run(close())
    assert len(queue.created) == 3


async def test_a_task_is_delivered_until_it_is_taken(queue: CloudTasks, make: Any):
    worker = Worker()
    worker.failures = [LimitExceeded(), LimitExceeded()]
    with AsgiServer(worker) as server:
        dispatch = make(worker_url=f"{server.url}/worker")
        queue.duplicate = True
        await dispatch.enqueue(RUN)
        await asyncio.to_thread(queue.drain)
        assert [one.status for one in queue.deliveries] == [429, 429, 200, 200]
        assert [one.headers["X-CloudTasks-TaskRetryCount"] for one in queue.deliveries] == ["0", "1", "2", "3"]
        await dispatch.enqueue(RUN)  # the name is refused after the task is gone, too
        assert not queue.tasks
        queue.paused = True
        await dispatch.enqueue(replace(RUN, token="lease_2"))
        await asyncio.sleep(0.05)
        assert len(queue.deliveries) == 4
        queue.resume()
        await asyncio.to_thread(queue.drain)
    assert [task.token for task in worker.seen] == ["lease_1"] * 4 + ["lease_2"] * 2


async def test_a_worker_that_is_not_there_is_called_again(queue: CloudTasks, make: Any):
    queue.max_attempts = 3
    await make(worker_url=f"http://127.0.0.1:{free_port()}/worker").enqueue(RUN)
    await asyncio.to_thread(queue.drain)
    assert [one.status for one in queue.deliveries] == [None, None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": f"{QUEUE}/tasks/a b"}, "Task name"),
        ({"name": "projects/x/locations/y/queues/z/tasks/a"}, "Task name"),
        ({"http_request": {"url": "worker", "http_method": "POST"}}, "url"),
        ({"http_request": None}, "message_type"),
        ({"http_request": {"url": URL, "http_method": "GET", "body": b"x"}}, "body"),
        ({"dispatch_deadline": {"seconds": 14}}, "dispatchDeadline"),
        ({"dispatch_deadline": {"seconds": 1801}}, "dispatchDeadline"),
        ({"schedule_time": {"seconds": 4_000_000_000}}, "30 days"),
        ({"http_request": {"url": URL, "oidc_token": {"service_account_email": "nobody"}}}, "email"),
    ],
)
def test_the_fake_refuses_what_the_real_one_refuses(queue: CloudTasks, change: dict[str, Any], message: str):
    task = {"name": f"{QUEUE}/tasks/a", "http_request": {"url": URL, "http_method": "POST"}, **change}
    with grpc.insecure_channel(queue.address) as channel:
        call = channel.unary_unary(
            "/google.cloud.tasks.v2.CloudTasks/CreateTask",
            request_serializer=lambda value: value,
            response_deserializer=lambda value: value,
        )
        with pytest.raises(grpc.RpcError) as raised:
            call(create_request(task), timeout=5)
        assert raised.value.code() is StatusCode.INVALID_ARGUMENT
        assert message in raised.value.details()


def create_request(task: dict[str, Any]) -> bytes:
    return CreateTaskRequest.serialize(CreateTaskRequest(parent=QUEUE, task=task))
