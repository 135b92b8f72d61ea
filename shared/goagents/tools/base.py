"""The tool port: a named action with a JSON Schema. One entry of the YAML is a toolset that offers one tool or many."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

from goagents.attempts import Fault
from goagents.logins import LoginRecord
from goagents.messages import Content, TextPart
from goagents.spec.config import McpServerConfig

Effect = Literal["read", "idempotent", "unsafe"]


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """What the engine knows of a tool.

    `name` fits `^[A-Za-z0-9_-]{1,64}$`. `effect` says what repeating a call does: nothing (`read`), nothing more
    (`idempotent`), or harm (`unsafe`). `timeout` is in seconds; `max_output` in bytes of UTF-8, cut by the engine.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    effect: Effect = "unsafe"
    timeout: float = 30.0
    max_output: int = 65_536


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Who calls, and the key that makes a repeated call recognisable (`{run}/{step}/{call}`)."""

    run_id: str
    session_id: str
    tenant: str
    agent: str
    call_id: str
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call came to. `fault` as in ToolError and `retry_after` (in seconds), where the server answered with an
    error that may pass."""

    content: tuple[Content, ...]
    is_error: bool = False
    fault: Fault | None = None
    retry_after: float | None = None


def text_result(text: str, *, is_error: bool = False) -> ToolResult:
    return ToolResult((TextPart(text),), is_error)


class Tool(Protocol):
    @property
    def definition(self) -> ToolDefinition: ...

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Do it. Raises ToolError; the engine has validated the arguments, and holds the timeout and the bound."""
        ...


@runtime_checkable
class NetworkTool(Tool, Protocol):
    """A tool whose calls go to a server over the network."""

    def destination(self, arguments: Mapping[str, Any]) -> str | None:
        """Return host and port that a call with these arguments goes to (`api.example.com:443`, `[::1]:80`); None
        where it goes to no host. What it is redirected to is held to `allowed_hosts` by the tool itself."""
        ...


class Toolset(Protocol):
    """One entry under `tools:`. `open` may connect and discover; called on first use and again after a failure."""

    async def open(self) -> Sequence[Tool]:
        """Return the tools on offer. Raises ToolUnavailable: the cluster lives on without them, and status says so."""
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class ChangingToolset(Toolset, Protocol):
    """A toolset whose tools may change while it is open."""

    @property
    def stale(self) -> bool:
        """Whether `open`, called again, would return other tools. Those it returned before can still be called."""
        ...


@dataclass(frozen=True, slots=True)
class KeptLogin:
    """`version` changes with every write; `read_at` is the store's time of the read."""

    record: LoginRecord
    version: str
    read_at: datetime


class Logins(Protocol):
    """The logins of a tenant at servers, by the server's name in the configuration."""

    async def read(self, server: str) -> KeptLogin | None:
        """Raises StoreUnavailable."""
        ...

    async def write(self, record: LoginRecord, version: str | None) -> str:
        """Put the record in the place of that `version` (None: of nothing), and return its own.

        Raises StoreConflict where another one is there, StoreUnavailable, and OutcomeUnknown.
        """
        ...


@dataclass(frozen=True, slots=True)
class ToolEnvironment:
    """What the server lends to toolsets: how to resolve `${…}`, which private networks are allowed, which CA to trust.

    `resolve` raises ConfigurationError for an unset or forbidden variable. `allowed_addresses` holds CIDR blocks and
    host names that the address guard lets pass. `trusted` is whether the cluster comes from a file of the server's
    operator: only then may an entry name a program to start. `mcp_servers` are those of the configuration.
    `python_path` are the folders to look for modules in, `allowed_python` the targets that other clusters may name.
    `allowed_hosts` are the only hosts that the agent's tools may connect to; None for all. `logins` are those of the
    cluster's tenant.
    """

    resolve: Callable[[str], str]
    allowed_addresses: tuple[str, ...] = ()
    ca_bundle: str | None = None
    trusted: bool = False
    mcp_servers: Mapping[str, McpServerConfig] = field(default_factory=dict)
    python_path: tuple[str, ...] = ()
    allowed_python: frozenset[str] = frozenset()
    allowed_hosts: tuple[str, ...] | None = None
    logins: Logins | None = None
