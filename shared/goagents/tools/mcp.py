"""The `mcp` tool: the tools and resources of a server of the Model Context Protocol, over the official SDK.

Importing this loads the SDK, which takes most of a second: `app` does it when a toolset is opened, in a thread.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp import MCPError
from mcp.client import Client
from mcp_types import HEADER_MISMATCH
from pydantic import TypeAdapter

from goagents.errors import ConfigurationError, ToolError, ToolFailed, ToolUnavailable
from goagents.net.guarded import GuardedSession, Lookup, place_of, system_lookup
from goagents.spec.tools import McpToolSpec
from goagents.tools.base import Effect, Tool, ToolContext, ToolDefinition, ToolEnvironment, ToolResult, Toolset
from goagents.tools.mcp_catalog import Offer, entries, list_offer, meta_of
from goagents.tools.mcp_faults import MAX_ERROR, Lost
from goagents.tools.mcp_logins import authorization_of
from goagents.tools.mcp_oauth import Authorization
from goagents.tools.mcp_result import render, render_resource
from goagents.tools.mcp_session import Connection, T, Terms, Work
from goagents.tools.mcp_stdio import Output
from goagents.tools.mcp_target import Secrets, Site, Target, find_target
from goagents.tools.redaction import Redactor

_log = logging.getLogger(__name__)
_CALLED: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)
_READ: TypeAdapter[types.ReadResourceResult | types.InputRequiredResult] = TypeAdapter(
    types.ReadResourceResult | types.InputRequiredResult
)


def build(spec: McpToolSpec, environment: ToolEnvironment) -> Toolset:
    """Return the toolset of one `type: mcp` entry."""
    return McpToolset(spec, environment)


class McpToolset:
    """One connection, opened on first use, reused by all calls, opened again when it is lost, closed when idle.

    `open` may be called again while it is open: it lists the tools anew, and where that fails all is as it was.
    `lookup` finds a name's addresses.
    """

    def __init__(
        self,
        spec: McpToolSpec,
        environment: ToolEnvironment,
        terms: Terms | None = None,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._spec = spec
        self._environment = environment
        self._terms = terms or Terms()
        self._lookup = lookup
        self._secrets = Secrets(spec, environment)
        self._target: Target | None = None
        self._http: GuardedSession | None = None
        self._authorization: Authorization | None = None
        self._connection: Connection | None = None
        self._abandoned: set[Connection] = set()
        self._listed: Offer | None = None
        self._stale = False

    @property
    def stale(self) -> bool:
        """Whether the server's tools have changed since they were listed."""
        return self._stale

    async def open(self) -> Sequence[Tool]:
        """Return the tools. Raises ToolUnavailable, and then leaves nothing running; what was open before stays so."""
        in_use = self._listed is not None
        try:
            return await self._open()
        except (ToolError, ConfigurationError) as error:
            await self._undo(in_use)
            raise ToolUnavailable(self._logged(f"{self._spec.name}: {error}")) from None
        except BaseException:
            await self._undo(in_use)
            raise

    async def _undo(self, in_use: bool) -> None:
        if in_use:
            self._stale = True  # others' calls go on, and the tools are still to be listed
        else:
            await self.aclose()

    async def aclose(self) -> None:
        connections = {*self._abandoned, *([self._connection] if self._connection is not None else [])}
        self._target = self._connection = self._listed = None
        for connection in connections:
            await connection.aclose()
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()
        authorization, self._authorization = self._authorization, None
        if authorization is not None:
            await authorization.aclose()

    async def call(self, name: str | None, arguments: dict[str, Any], effect: Effect, key: str) -> ToolResult:
        """Call the server's tool `name`; None reads a resource. Raises ToolError.

        Repeated once where the connection failed and the call was never sent, or repeating it does no harm.
        """
        meta = meta_of(effect, key)

        async def work(client: Client) -> ToolResult:
            if name is None:
                read = await self._read(client, str(arguments.get("uri", "")))
                return render_resource(read, self._shown(), self._spec.max_output)
            called = await self._called(client, name, arguments, meta)
            # The redactor is asked for now: the call may have been sent with a fresh token.
            return render(called, self._shown(), self._spec.max_output)

        try:
            return await self._persistent(work, effect)
        except ToolError as error:
            raise error.saying(self._shown().beginning(error.detail, MAX_ERROR)) from None

    @property
    def place(self) -> str | None:
        """Host and port of the server; None where it is a program."""
        return place_of(self._target.url) if isinstance(self._target, Site) else None

    async def _open(self) -> Sequence[Tool]:
        if self._target is None:
            self._target = find_target(self._spec, self._environment)
            if isinstance(self._target, Site):
                self._target.headers()  # an unset variable is told now
                environment = self._environment
                self._http = GuardedSession(
                    self._target.allowed, environment.ca_bundle, self._lookup, environment.allowed_hosts
                )
                self._http.check(self._target.url)
                self._authorization = authorization_of(self._target, environment, self._lookup, self._terms)
        fresh = self._connection is None or self._connection.over
        connection = self._connected()
        await connection.ready()
        self._stale = False
        offer = connection.offer if fresh else await self._persistent(list_offer, "read")
        connection.offer = self._listed = offer
        spec = self._spec
        if spec.description:
            spec = spec.model_copy(update={"description": self._environment.resolve(spec.description)})
        return [McpTool(entry.definition, entry.remote, self) for entry in entries(spec, offer)]

    async def _persistent(self, work: Work[T], effect: Effect) -> T:
        repeatable = effect != "unsafe"
        for attempt in (1, 2):
            connection = self._connected()
            try:
                await connection.ready()
                self._note(connection.offer)
                return await connection.request(work)
            except Lost as lost:
                if lost.whole:
                    self._abandon(connection)
                if attempt == 2 or not (lost.never_sent or repeatable):
                    raise lost.told() from None
                _log.info("tool %s: called again: %s", self._spec.name, self._logged(lost.reason))
        raise AssertionError("unreachable")

    def _connected(self) -> Connection:
        if self._target is None:
            raise ToolUnavailable("the toolset is closed")
        if self._connection is not None and self._connection.over:
            self._abandon(self._connection)
            self._connection = None
        if self._connection is None:
            output = Output(self._spec.name, self._secrets.logged().redact)
            self._connection = Connection(
                self._spec.name, self._target, self._http, self._authorization, output, self._changed, self._terms
            )
        return self._connection

    def _abandon(self, connection: Connection) -> None:
        connection.abandon()
        self._abandoned.add(connection)
        connection.when_closed(self._abandoned.discard)

    def _changed(self) -> None:
        self._stale = True

    def _note(self, offer: Offer) -> None:
        """A server that was connected to anew may have been replaced by one with other tools."""
        if self._listed is not None and offer is not self._listed and offer != self._listed:
            self._stale = True

    async def _called(
        self, client: Client, name: str, arguments: dict[str, Any], meta: Mapping[str, Any] | None
    ) -> types.CallToolResult:
        params = types.CallToolRequestParams(name=name, arguments=arguments, _meta=meta)
        request = types.CallToolRequest(params=params)

        async def send() -> types.CallToolResult | types.InputRequiredResult:
            # Not the client's own `call_tool`, which refuses a result that does not fit the schema its server declared,
            # when the call has already taken effect.
            return await client.session.send_request(request, _CALLED, progress_callback=self._progress(name))

        try:
            result = await send()
        except MCPError as error:
            if error.code != HEADER_MISMATCH:
                raise
            await list_offer(client)  # the headers of a call follow from the tool's schema: it has changed
            result = await send()
        if isinstance(result, types.InputRequiredResult):
            raise ToolFailed("the server asks back for input, which is not in this version")
        return result

    async def _read(self, client: Client, uri: str) -> types.ReadResourceResult:
        params = types.ReadResourceRequestParams(uri=uri)
        result = await client.session.send_request(types.ReadResourceRequest(params=params), _READ)
        if isinstance(result, types.InputRequiredResult):
            raise ToolFailed("the server asks back for input, which is not in this version")
        return result

    def _progress(self, name: str) -> Any:
        async def told(progress: float, total: float | None, message: str | None) -> None:
            of = f" of {total:g}" if total else ""
            text = self._logged(message or "")[:200]
            _log.debug("tool %s: %s is at %g%s %s", self._spec.name, name, progress, of, text)

        return told

    def _shown(self) -> Redactor:
        return self._secrets.shown(*self._tokens())

    def _logged(self, text: str) -> str:
        return self._secrets.logged(*self._tokens()).beginning(text, 2 * MAX_ERROR)

    def _tokens(self) -> tuple[str, ...]:
        return () if self._authorization is None else self._authorization.secrets()


@dataclass(frozen=True, slots=True)
class McpTool:
    definition: ToolDefinition
    remote: str | None
    toolset: McpToolset

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Send one call. Raises ToolError; an error that the tool itself reports is a result."""
        return await self.toolset.call(self.remote, dict(arguments), self.definition.effect, context.idempotency_key)

    def destination(self, arguments: Mapping[str, Any]) -> str | None:  # noqa: ARG002 - the model has no say in the host
        return self.toolset.place
