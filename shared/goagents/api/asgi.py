"""The ASGI application around the routes: request id, errors, authentication, telemetry.

    Observed     request id and trace, the request's line in the log and in the metrics
      Guarded    an error becomes a problem
        Dispatch route, principal, endpoint

Nothing here makes a thread, a socket or an event loop before the first request: functions-framework builds the
application before its server forks.
"""

import logging
import os
import re
import time
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goagents.errors import ConfigurationError
from goagents.ids import new_id
from goagents.telemetry.base import REQUEST, RequestContext, RequestFinished

from .auth import GetVerifier, internal_caller_of, principal_of
from .calls import Call, GetServices, begin, call_in
from .errors import NotServing, as_error, report, send_error
from .routing import InternalRoute, OpenRoute, RouteTable, not_found

if TYPE_CHECKING:
    from goagents.engine.services import Services
    from goagents.identity.base import TokenVerifier

METRICS_PORT = "GOAGENTS_METRICS_PORT"

_log = logging.getLogger("goagents.api")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_CLOUD_TRACE = re.compile(rb"([0-9a-fA-F]{32})(?:/(\d{1,20}))?(?:;.*)?")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_CLIENT_GONE = 499  # what nginx logs where nobody was left to answer


async def _no_verifier(_: "Services") -> "TokenVerifier":
    raise RuntimeError("the application was made without a verifier of identity tokens")


def create(routes: Sequence[Route], get_services: GetServices, get_verifier: GetVerifier = _no_verifier) -> ASGIApp:
    """Return the application that serves `routes`.

    `get_services` is called for each request that needs them; it builds them on first use and raises GoAgentsError
    where it cannot. `get_verifier` is called for each identity token that an internal route gets.
    """
    table = RouteTable(routes)
    dispatch = Dispatch(table, get_services, get_verifier)
    return Observed(Guarded(dispatch), table.paths, get_services)


class Observed:
    def __init__(self, app: ASGIApp, paths: frozenset[str], get_services: GetServices) -> None:
        self._app = app
        self._paths = paths
        self._get_services = get_services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this serves HTTP only, not {scope['type']!r}")
        context = _request_context(scope)
        call = Call(context.request_id, scope["method"], self._paths, self._get_services)
        begin(scope, call)
        token = REQUEST.set(context)
        started = time.perf_counter()
        answer = _Answer(send, context.request_id, head=call.method == "HEAD")
        try:
            await self._app(scope, receive, answer)
        finally:
            _tell(call, scope["path"], answer.status, time.perf_counter() - started)
            REQUEST.reset(token)


class _Answer:
    """Passes the answer on: with the request's id, without a body where HEAD asked for none."""

    __slots__ = ("_head", "_request_id", "_send", "status")

    def __init__(self, send: Send, request_id: str, *, head: bool) -> None:
        self._send = send
        self._request_id = request_id.encode()
        self._head = head
        self.status: int | None = None

    def __call__(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._request_id)]
        elif self._head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        return self._send(message)


def _request_context(scope: Scope) -> RequestContext:
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, value)
    given = headers.get(b"x-request-id", b"")
    request_id = given.decode("ascii") if _REQUEST_ID.fullmatch(given) else new_id("req")
    if match := _TRACEPARENT.fullmatch(headers.get(b"traceparent", b"")):
        return RequestContext(request_id, match[1].decode(), match[2].decode())
    if match := _CLOUD_TRACE.fullmatch(headers.get(b"x-cloud-trace-context", b"")):
        span = f"{int(match[2]) & (1 << 64) - 1:016x}" if match[2] else None
        return RequestContext(request_id, match[1].decode().lower(), span)
    return RequestContext(request_id)


def _tell(call: Call, path: str, status: int | None, duration: float) -> None:
    if call.services is None or call.quiet:
        return  # a probe that needed nothing of the server: the platform's own log has it
    call.services.telemetry.emit(
        RequestFinished(
            method=call.method,
            route=call.route,
            path=path,
            status=status or _CLIENT_GONE,
            duration=duration,
            request_id=call.request_id,
            principal=call.principal.id if call.principal else None,
            run_id=call.run_id,
            error_code=call.error_code,
        )
    )


class Guarded:
    """Answers with a problem where the application raised before its answer began."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        def watched(message: Message) -> Awaitable[None]:
            nonlocal begun
            begun = True
            return send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001 - the last resort: whatever it is, the client gets a problem
            call = call_in(scope)
            known = as_error(error, call)
            call.error_code = known.code
            if not begun:
                await send_error(known, call, send)
            elif known is error:
                report(error, call)  # too late to tell the client: it sees an answer without its end


class Dispatch:
    """Finds the route, then the principal, and calls the endpoint."""

    def __init__(self, table: RouteTable, get_services: GetServices, get_verifier: GetVerifier) -> None:
        self._table = table
        self._get_services = get_services
        self._get_verifier = get_verifier
        self._metrics_port_served = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = call_in(scope)
        if os.environ.get(METRICS_PORT) and not self._metrics_port_served:
            await self._serve_metrics_port()
        matched = self._table.find(scope)
        if matched is None:
            if not self._table.needs_configuration:
                raise not_found()
            call.services = await self._services()
            matched = self._table.find_configured(scope, call.services)
        call.route = matched.route.path
        if matched.endpoint is None:
            await Response(status_code=204, headers={"allow": matched.allowed})(scope, receive, send)
            return
        if not isinstance(matched.route, OpenRoute):
            await self._authenticate(scope, call, internal=isinstance(matched.route, InternalRoute))
        scope["path_params"] = matched.path_params
        response = await matched.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    async def _authenticate(self, scope: Scope, call: Call, *, internal: bool) -> None:
        call.services = services = call.services or await self._services()
        try:
            if internal:
                shared = self._table.for_users
                call.principal = await internal_caller_of(scope, services, self._get_verifier, shared=shared)
            else:
                call.principal = principal_of(scope, services)
        except ConfigurationError as error:
            _log.error("Cannot serve: %s", error)
            raise NotServing from error
        scope.setdefault("state", {})["principal"] = call.principal

    async def _services(self) -> "Services":
        try:
            return await self._get_services()
        except ConfigurationError as error:
            _log.error("Cannot serve: %s", error)
            raise NotServing from error

    async def _serve_metrics_port(self) -> None:
        """Metrics are to be had from the first request on, even if that is only a probe."""
        self._metrics_port_served = True
        try:
            services = await self._get_services()
        except ConfigurationError:
            self._metrics_port_served = False  # told where the request needs it, tried again with the next
            return
        port = services.settings.metrics_port
        exposition = services.telemetry.exposition
        if port and exposition:
            exposition.serve(port)
