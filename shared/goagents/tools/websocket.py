"""The `websocket` tool: one message and its answer, or the messages that come until a condition holds."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from yarl import URL

from goagents.errors import ConfigurationError, GoAgentsError, ToolError, ToolFailed, ToolTimedOut, ToolUnavailable
from goagents.net.guarded import Lookup, place_of, system_lookup
from goagents.spec.tools import WebsocketToolSpec
from goagents.tools.base import Tool, ToolContext, ToolDefinition, ToolEnvironment, ToolResult, Toolset
from goagents.tools.naming import safe_name
from goagents.tools.websocket_connection import Connection, Lost
from goagents.tools.websocket_exchange import MAX_MESSAGES, Bounds, ask, collect
from goagents.tools.websocket_keeper import Keeper, Terms
from goagents.tools.websocket_message import Message, Resolve, Template, read_limit, render
from goagents.tools.websocket_secrets import Secrets
from goagents.tools.websocket_session import Address, WebsocketSession

_log = logging.getLogger(__name__)
_SLACK = 1.0  # seconds at most that a collecting call ends before its timeout, so that its messages are not lost
_DOUBT = "; whether the message took effect is unknown"


def build(spec: WebsocketToolSpec, environment: ToolEnvironment) -> Toolset:
    """Return the toolset of one `type: websocket` entry. Raises ConfigurationError for an unreadable
    `allow.addresses`."""
    return WebsocketToolset(spec, environment)


class WebsocketToolset:
    """One tool. Nothing is connected before its first call. `lookup` finds a name's addresses."""

    def __init__(
        self,
        spec: WebsocketToolSpec,
        environment: ToolEnvironment,
        terms: Terms | None = None,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._spec = spec
        self._environment = environment
        self._terms = terms or Terms()
        self._session = WebsocketSession(
            environment.allowed_addresses, environment.ca_bundle, lookup, environment.allowed_hosts
        )
        self._keeper: Keeper | None = None

    async def open(self) -> Sequence[Tool]:
        """Return the tool. Raises ToolUnavailable: an unset variable, a refused address."""
        spec = self._spec
        secrets = Secrets(spec, self._environment)
        try:
            secrets.headers()
            address = Address(self._url(), spec.subprotocols, spec.heartbeat or None)
            description = self._environment.resolve(spec.description) if spec.description else _description(spec)
        except GoAgentsError as error:
            raise ToolUnavailable(f"{spec.name}: {secrets.redactor().redact(str(error))}") from error
        if self._keeper is not None and self._keeper.address != address:
            await self._let_go()
        if self._keeper is None:
            self._keeper = Keeper(self._session, address, secrets.headers, spec, self._terms)
        definition = ToolDefinition(
            safe_name(spec.name), description, spec.arguments, spec.effect or "unsafe", spec.timeout, spec.max_output
        )
        return [WebsocketTool(definition, spec, address.place, self._keeper, secrets, self._environment.resolve)]

    async def aclose(self) -> None:
        await self._let_go()
        await self._session.aclose()

    async def _let_go(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.aclose()

    def _url(self) -> URL:
        """Return `url` resolved and checked as far as is possible without a look-up."""
        try:
            url = URL(self._environment.resolve(self._spec.url)).with_fragment(None)
        except ValueError as error:
            raise ToolUnavailable("url is no URL") from error
        if url.scheme not in ("ws", "wss") or not url.raw_host:
            raise ToolUnavailable("url has to start with wss:// or ws:// and name a host")
        if url.raw_user is not None or url.raw_password is not None:
            raise ToolUnavailable("credentials belong into `headers`, not into the url")
        self._session.check_handshake(url)
        return url


@dataclass(frozen=True, slots=True)
class WebsocketTool:
    definition: ToolDefinition
    spec: WebsocketToolSpec
    place: str
    keeper: Keeper = field(repr=False)
    secrets: Secrets = field(repr=False)
    resolve: Resolve = field(repr=False)
    message: Template = field(init=False, repr=False)
    farewell: Template = field(init=False, repr=False)

    def __post_init__(self) -> None:
        path = self.spec.correlation.field if self.spec.correlation is not None else None
        object.__setattr__(self, "message", Template(self.spec.message, path))
        object.__setattr__(self, "farewell", Template(self.spec.unsubscribe))

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Ask, or collect. Raises ToolError.

        Repeated once, on a new connection, where the message was never sent or repeating it does no harm.
        """
        try:
            return await self._timed(arguments, context.idempotency_key)
        except ConfigurationError as error:
            raise ToolFailed(self.secrets.redactor().redact(str(error))) from None
        except ToolError as error:
            clean = self.secrets.redactor().redact(error.detail)
            if clean == error.detail:
                raise
            raise error.saying(clean) from None

    def destination(self, arguments: Mapping[str, Any]) -> str | None:  # noqa: ARG002 - the model has no say in the host
        return place_of(self.keeper.address.url)

    async def _timed(self, arguments: Mapping[str, Any], key: str) -> ToolResult:
        seconds = self.spec.timeout
        try:
            async with asyncio.timeout(seconds):
                return await self._persistent(arguments, key)
        except TimeoutError:
            if self.keeper.trouble is not None:
                late = ToolTimedOut(f"no connection within {seconds:g} s: {self.keeper.trouble}")
                raise late.because("server", sent=False) from None
            doubt = _DOUBT if self.definition.effect == "unsafe" else ""
            raise ToolTimedOut(f"{self.place} did not answer within {seconds:g} s{doubt}") from None

    async def _persistent(self, arguments: Mapping[str, Any], key: str) -> ToolResult:
        spec = self.spec
        message = self.message.fill(arguments, key, self.resolve) if spec.sends else None
        farewell = self.farewell.fill(arguments, key, self.resolve) if spec.unsubscribe is not None else None
        unsafe = self.definition.effect == "unsafe"
        end = asyncio.get_running_loop().time() + spec.timeout - min(_SLACK, spec.timeout / 10)
        for attempt in (1, 2):
            try:
                async with self.keeper.lend() as connection:
                    return await self._exchange(connection, message, farewell, end)
            except Lost as lost:
                if attempt == 2 or (lost.sent and unsafe):
                    doubt = _DOUBT if lost.sent and unsafe else ""
                    raise ToolFailed(f"{lost}{doubt}").because("server", sent=lost.sent) from None
                _log.info("tool %s: called again on a new connection", spec.name)
        raise AssertionError("unreachable")

    async def _exchange(
        self, connection: Connection, message: Message | None, farewell: Message | None, end: float
    ) -> ToolResult:
        until = self.spec.until
        redactor = self.secrets.redactor()
        if until is None:
            if message is None:
                raise ToolFailed("a message to send is missing")
            return render([await ask(connection, message)], redactor)
        size = read_limit(self.definition.max_output, redactor)
        left = max(0.0, end - asyncio.get_running_loop().time())
        bounds = Bounds(left, self.spec.max_messages or MAX_MESSAGES, size)
        found = await collect(connection, until, bounds, message, farewell)
        number = len(found.messages)
        note = f"{number} message{'' if number == 1 else 's'}; ended by: {found.ended}"
        return render(found.messages, redactor, note, is_error=found.failed)


def _description(spec: WebsocketToolSpec) -> str:
    what = "Sends a message and returns the answer" if spec.mode == "request" else "Collects messages"
    return f"{what}, over a WebSocket to {spec.url}."
