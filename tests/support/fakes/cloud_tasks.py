"""Cloud Tasks on loopback: takes tasks over gRPC as the real one does, and really delivers them over HTTP.

Tasks whose URL is not on this machine are taken and never delivered.
"""

import http.client
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import grpc
from google.cloud.tasks_v2.types import CreateTaskRequest, HttpMethod, Task
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

QUEUE = "projects/test/locations/here/queues/runs"
_SERVICE = "google.cloud.tasks.v2.CloudTasks"
_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_MAX_SIZE = 1 << 20
_BODY = {HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH}


@dataclass(frozen=True)
class Delivery:
    """One HTTP request: `status` is None where no answer came."""

    task: str
    attempt: int
    url: str
    headers: dict[str, str]
    body: bytes
    status: int | None
    answer: bytes = b""


@dataclass
class _Waiting:
    task: Task
    due: float
    attempts: int = 0
    status: int | None = None
    again: bool = False  # it has been delivered, and is so a second time


@dataclass
class CloudTasks:
    """`with CloudTasks() as queue:` a server in threads of its own, at `queue.address`.

    `tasks` are those in the queue by name, `created` all it has taken, `deliveries` what came of each request.
    `failures` are the codes with which the next calls are refused; `hang` is how many seconds each call takes first.
    `paused` holds deliveries back; `duplicate` delivers each task once more than needed, as the real one may.
    `token` makes the identity token of a service account for an audience.
    """

    queue: str = QUEUE
    token: Callable[[str, str], str] = lambda email, audience: f"token-of:{email}:{audience}"
    min_backoff: float = 0.05
    max_backoff: float = 1.0
    max_attempts: int = 100
    hang: float = 0.0
    paused: bool = False
    duplicate: bool = False
    address: str = ""
    failures: deque[grpc.StatusCode] = field(default_factory=deque)
    created: list[Task] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._under_way: dict[str, _Waiting] = {}
        self._had: set[str] = set()
        self._changed = threading.Condition()
        self._stopping = False

    def start(self) -> Self:
        handlers = {
            "CreateTask": grpc.unary_unary_rpc_method_handler(
                self._create, request_deserializer=CreateTaskRequest.deserialize, response_serializer=Task.serialize
            )
        }
        self._grpc_threads = ThreadPoolExecutor(8)
        self._server = grpc.server(self._grpc_threads, options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        self._http_threads = ThreadPoolExecutor(16)
        self._loop = threading.Thread(target=self._deliver_what_is_due, daemon=True)
        self._loop.start()
        return self

    def stop(self) -> None:
        """End at once; a delivery under way is waited for."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._server.stop(0).wait()
        self._loop.join()
        self._http_threads.shutdown(cancel_futures=True)
        self._grpc_threads.shutdown()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def tasks(self) -> dict[str, Task]:
        with self._changed:
            return {name: one.task for name, one in (self._waiting | self._under_way).items()}

    def delivered(self, task: str | None = None) -> list[Delivery]:
        """Return the requests that were answered 2xx."""
        with self._changed:
            return [one for one in self.deliveries if one.status and one.status < 300 and task in {None, one.task}]

    def wait(self, done: Callable[[], Any], seconds: float = 10.0) -> None:
        """Return as soon as `done()` holds, which is asked after each change. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(done, seconds):
                raise TimeoutError(f"within {seconds:g} s; in the queue: {sorted(self._waiting)}")

    def drain(self, seconds: float = 10.0) -> None:
        """Wait until the queue is empty."""
        self.wait(lambda: not self._waiting and not self._under_way, seconds)

    def lose(self) -> None:
        """Forget the tasks that wait, as no queue should; their names stay taken."""
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()

    def resume(self) -> None:
        with self._changed:
            self.paused = False
            self._changed.notify_all()

    def _create(self, request: CreateTaskRequest, context: grpc.ServicerContext) -> Task:
        if self.hang:
            time.sleep(self.hang)
        if self.failures:
            context.abort(self.failures.popleft(), "The service is not what it was.")
        task = request.task
        if request.parent != self.queue:
            context.abort(grpc.StatusCode.NOT_FOUND, "Requested entity was not found.")
        if wrong := _wrong(task, self.queue):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)
        with self._changed:
            if task.name in self._waiting or task.name in self._under_way:
                context.abort(grpc.StatusCode.ALREADY_EXISTS, "Requested entity already exists")
            if task.name in self._had:
                existed = "The task cannot be created because a task with this name existed too recently."
                context.abort(grpc.StatusCode.ALREADY_EXISTS, existed)
            raw = Task.pb(task)
            delay = raw.schedule_time.ToDatetime(UTC) - datetime.now(UTC) if raw.HasField("schedule_time") else None
            self._had.add(task.name)
            self._waiting[task.name] = _Waiting(task, time.monotonic() + (delay.total_seconds() if delay else 0.0))
            self.created.append(task)
            self._changed.notify_all()
        return task

    def _deliver_what_is_due(self) -> None:
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                due = [] if self.paused else [one for one in self._waiting.values() if _is_here(one.task)]
                for one in due:
                    if one.due <= now:
                        self._under_way[one.task.name] = self._waiting.pop(one.task.name)
                        self._http_threads.submit(self._deliver, one)
                later = [one.due - now for one in due if one.due > now]
                self._changed.wait(min(later, default=None))

    def _deliver(self, one: _Waiting) -> None:
        one.attempts += 1
        answer, retry_after = self._request(one)
        with self._changed:
            self.deliveries.append(answer)
            del self._under_way[one.task.name]
            one.status = answer.status
            taken = answer.status is not None and 200 <= answer.status < 300
            if taken and self.duplicate and not one.again:
                one.again = True
                self._waiting[one.task.name] = one
            elif not taken and one.attempts < self.max_attempts and not self._stopping:
                backoff = min(self.max_backoff, self.min_backoff * 2.0 ** min(one.attempts - 1, 30))
                one.due = time.monotonic() + max(backoff, retry_after)
                self._waiting[one.task.name] = one
            self._changed.notify_all()

    def _request(self, one: _Waiting) -> tuple[Delivery, float]:
        request = one.task.http_request
        headers = {**request.headers, **self._headers(one)}
        parts = urlsplit(request.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = http.client.HTTPConnection(parts.netloc, timeout=_deadline(one.task))
        status, content, retry_after = None, b"", 0.0
        try:
            connection.request(HttpMethod(request.http_method).name, target, request.body or None, headers)
            response = connection.getresponse()
            content = response.read()
            status = response.status
            given = response.headers.get("retry-after", "")
            retry_after = float(given) if given.isdigit() else 0.0
        except (OSError, http.client.HTTPException):
            status = None  # counts as a failed attempt, as it does there
        finally:
            connection.close()
        name = one.task.name.rpartition("/")[2]
        return Delivery(name, one.attempts, request.url, headers, bytes(request.body), status, content), retry_after

    def _headers(self, one: _Waiting) -> dict[str, str]:
        headers = {
            "User-Agent": "Google-Cloud-Tasks",
            "X-CloudTasks-QueueName": self.queue.rpartition("/")[2],
            "X-CloudTasks-TaskName": one.task.name.rpartition("/")[2],
            "X-CloudTasks-TaskRetryCount": str(one.attempts - 1),
            "X-CloudTasks-TaskExecutionCount": str(one.attempts - 1 if one.status else 0),
            "X-CloudTasks-TaskETA": f"{time.time():.6f}",
        }
        if one.status is not None:
            headers["X-CloudTasks-TaskPreviousResponse"] = str(one.status)
        oidc = one.task.http_request.oidc_token
        if oidc.service_account_email:
            token = self.token(oidc.service_account_email, oidc.audience or one.task.http_request.url)
            headers["Authorization"] = f"Bearer {token}"
        return headers


def _wrong(task: Task, queue: str) -> str | None:
    """Return why the real one refuses the task, or None."""
    parent, _, identifier = task.name.rpartition("/tasks/")
    raw, request = Task.pb(task), task.http_request
    parts = urlsplit(request.url)
    oidc = raw.http_request.HasField("oidc_token")
    rules = {
        f"Task name must be {queue}/tasks/ID, of letters, digits, - and _: {task.name}": task.name
        and (parent != queue or not _ID.fullmatch(identifier)),
        "Task.message_type is required.": raw.WhichOneof("message_type") != "http_request",
        "HttpRequest.url must start with 'http://' or 'https://'.": parts.scheme not in {"http", "https"}
        or not parts.hostname
        or len(request.url) > 2083,
        "HTTP request body is only allowed for POST, PUT and PATCH.": request.body and request.http_method not in _BODY,
        "Task.dispatchDeadline must be between [15s, 30m].": raw.HasField("dispatch_deadline")
        and not 15 <= _seconds(raw.dispatch_deadline) <= 1800,
        "Task.scheduleTime must be at most 30 days in the future.": raw.HasField("schedule_time")
        and _ahead(raw.schedule_time) > timedelta(days=30),
        "The service account email is not valid.": oidc
        and not _EMAIL.fullmatch(request.oidc_token.service_account_email),
        "Task size too large.": len(Task.serialize(task)) > _MAX_SIZE,
    }
    return next((message for message, broken in rules.items() if broken), None)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _ahead(at: Timestamp) -> timedelta:
    return at.ToDatetime(UTC) - datetime.now(UTC)


def _deadline(task: Task) -> float:
    raw = Task.pb(task)
    return _seconds(raw.dispatch_deadline) if raw.HasField("dispatch_deadline") else 600.0


def _is_here(task: Task) -> bool:
    parts = urlsplit(task.http_request.url)
    try:
        return parts.scheme == "http" and ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.scheme == "http" and parts.hostname == "localhost"
