"""One connection to an MCP server, and the task that owns it from opening to closing.

The SDK's scopes must be left in the task that entered them. So a task of its own opens the connection, keeps it and
closes it; callers only send through it. A call runs in a task, too: whoever waits for it may leave at once, while the
server is still told that the call is cancelled.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2
import mcp_types as types
from mcp import MCPError
from mcp.client import Client, IncomingMessage
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp_types import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from goagents.errors import ToolUnavailable
from goagents.net.guarded import GuardedSession
from goagents.tools.mcp_catalog import Offer, list_offer
from goagents.tools.mcp_delivery import DELIVERY, Delivery
from goagents.tools.mcp_faults import Lost, explain_setup, fault
from goagents.tools.mcp_oauth import Authorization
from goagents.tools.mcp_opening import Opening
from goagents.tools.mcp_stdio import Output
from goagents.tools.mcp_target import Target

_log = logging.getLogger(__name__)
_MAX_PAUSE = 60.0  # seconds until changes are asked for again
_LISTENING = (
    *(MCPError, SubscriptionLost, ListenNotSupportedError, ToolUnavailable),
    *(ValidationError, httpx2.HTTPError, TimeoutError),
)
_NEVER = frozenset({METHOD_NOT_FOUND, INVALID_PARAMS, INVALID_REQUEST})  # it cannot be asked for
T = TypeVar("T")
Work = Callable[[Client], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Terms:
    """How a connection is kept, in seconds: `setup` for opening it, `idle` until an unused one is closed, `drain` for
    calls in progress once no more are taken, `farewell` for closing it, `listen` until changes are asked for again
    where their stream has ended (more each time).

    `sign_in` is for each request of signing in, `again` until what failed of that is tried again, `look` until the
    store is asked again whether a person's login still holds.
    """

    setup: float = 60.0
    idle: float = 300.0
    drain: float = 60.0
    farewell: float = 10.0
    sign_in: float = 10.0
    again: float = 3.0
    look: float = 60.0
    listen: float = 1.0


@dataclass(eq=False)
class Connection:
    """Opened at once. `changed` is called when the server says that its tools have changed; `output` is what a program
    writes besides the protocol. `session` and `authorization` are of a server over HTTP."""

    name: str
    target: Target
    session: GuardedSession | None
    authorization: Authorization | None
    output: Output
    changed: Callable[[], None]
    terms: Terms = field(default_factory=Terms)

    def __post_init__(self) -> None:
        self.over = False
        self.offer = Offer((), None)
        self._client: Client | None = None
        self._leaving, self._closing = asyncio.Event(), asyncio.Event()
        self._calls: set[asyncio.Task[Any]] = set()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())  # nobody may be waiting
        self._used = asyncio.get_running_loop().time()
        self._owner = asyncio.create_task(self._own())

    async def ready(self) -> None:
        """Wait until it is open. Raises ToolUnavailable where it cannot be opened."""
        await asyncio.shield(self._ready)

    async def request(self, work: Work[T]) -> T:
        """Have `work` done with the client. Raises Lost where the connection failed it, and ToolError."""
        await self.ready()
        client = self._client
        if client is None or self.over:
            raise Lost("the connection was closed", never_sent=True, whole=True)
        delivery = Delivery()
        token = DELIVERY.set(delivery)
        try:
            task = asyncio.create_task(_as_task(work(client)))
        finally:
            DELIVERY.reset(token)
        delivery.task = task
        self._calls.add(task)
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and delivery.failure is not None:
                raise Lost(delivery.failure, never_sent=not delivery.sent, whole=True) from None
            task.cancel()
            raise
        except (MCPError, ValidationError, httpx2.HTTPError) as error:
            raise fault(error, delivery) from error

    def abandon(self) -> None:
        """Take no more calls, and close it once those in progress have ended: they wait for their own answers."""
        self.over = True
        self._leaving.set()

    def when_closed(self, tell: "Callable[[Connection], None]") -> None:
        self._owner.add_done_callback(lambda _owner: tell(self))

    async def aclose(self) -> None:
        """Close it: within a bound, whatever the server does."""
        self.over = True
        self._leaving.set()
        self._closing.set()
        if not self._ready.done():
            self._owner.cancel()  # it is still being opened, and looks at nothing else
        _, late = await asyncio.wait({self._owner}, timeout=self.terms.farewell)
        if late:
            self._owner.cancel()
            await asyncio.wait({self._owner}, timeout=self.terms.farewell)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        self._used = asyncio.get_running_loop().time()
        if self.over and not self._calls:
            self._closing.set()
        if not task.cancelled():
            task.exception()  # whoever waited has it; if nobody did, it is of no interest

    async def _own(self) -> None:
        opening = Opening(self.target, self.session, self.authorization, self.output, self._on_message)
        try:
            async with asyncio.timeout(self.terms.setup) as limit, opening.client() as client:
                self.offer = await list_offer(client)
                limit.reschedule(None)
                self._client, self._used = client, asyncio.get_running_loop().time()
                self._ready.set_result(None)
                await self._keep(client)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever ends it: told where it is used
            if not self._ready.done():
                reason = explain_setup(error, self.target, opening.last, self.output.summary(), self.terms.setup)
                self._ready.set_exception(ToolUnavailable(reason))
            else:
                _log.debug("tool %s: the connection ended: %r", self.name, error)
        finally:
            self.over = True
            for task in self._calls:
                task.cancel()

    async def _keep(self, client: Client) -> None:
        """Return when it is to be closed, or was not used for long."""
        loop = asyncio.get_running_loop()
        listening = asyncio.create_task(self._listen(client))
        try:
            while not self._leaving.is_set():
                idle_at = (loop.time() if self._calls else self._used) + self.terms.idle
                if idle_at <= loop.time():
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(idle_at):
                        await self._leaving.wait()
            self.over = True
            if self._calls:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.terms.drain):
                        await self._closing.wait()
        finally:
            self.over = True
            listening.cancel()
            await asyncio.wait({listening})

    async def _listen(self, client: Client) -> None:
        """Hear of changes where the protocol has no notifications unless asked for (2026-07-28).

        A stream that ends (proxies cut them) is asked for again, and the tools are listed: nothing is sent twice.
        """
        tools = client.server_capabilities.tools
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or tools is None or not tools.list_changed:
            return
        loop, pause, missed = asyncio.get_running_loop(), self.terms.listen, False
        while True:
            began = loop.time()
            try:
                async with client.listen(tools_list_changed=True) as subscription:
                    if missed:
                        await self._list_again(client)
                    async for _ in subscription:
                        self.changed()
            except _LISTENING as error:
                _log.debug("tool %s: changes of its server's tools are not heard of: %r", self.name, error)
                if isinstance(error, ListenNotSupportedError) or getattr(error, "code", None) in _NEVER:
                    return
            missed = True
            pause = self.terms.listen if loop.time() - began > _MAX_PAUSE else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE)

    async def _list_again(self, client: Client) -> None:
        offer = await list_offer(client)
        if offer != self.offer:  # which somebody may have listed meanwhile
            self.offer = offer
            self.changed()

    async def _on_message(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.changed()


async def _as_task(work: Awaitable[T]) -> T:
    return await work
