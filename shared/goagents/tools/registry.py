"""Makes the toolset of an entry under `tools:`: which adapter it is, and what the server lends it.

Adapters are loaded by name, which is `app`'s to do: `load` is given.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from goagents.errors import ToolUnavailable
from goagents.spec.config import Config
from goagents.spec.interpolation import Resolver
from goagents.spec.plugins import GROUP, PluginError, names, tool_type
from goagents.spec.tools import McpToolSpec, ToolSpec
from goagents.tools.base import ChangingToolset, Logins, Tool, ToolEnvironment, Toolset
from goagents.tools.threads import import_apart

Load = Callable[[str], Any]
SLOW = {"mcp": "mcp"}  # types whose SDK takes up to a second to import, and the extra that installs it


class Resolvers(Protocol):
    def __call__(self, *, trusted: bool) -> Resolver: ...


class ToolsetRegistry:
    """`toolsets` are the builders by type, as `module:attribute`; `load` returns what is there. `logins` returns those
    of a tenant."""

    def __init__(
        self,
        config: Config,
        resolvers: Resolvers,
        toolsets: Mapping[str, str],
        load: Load,
        logins: Callable[[str], Logins] | None = None,
    ) -> None:
        self._config = config
        self._resolvers = resolvers
        self._toolsets = toolsets
        self._load = load
        self._logins = logins

    def check(self, spec: ToolSpec) -> None:
        """Raise ToolUnavailable for a type that came with a package which is not installed here. Imports nothing."""
        kind: str = spec.type
        if kind not in self._toolsets and kind not in names():
            raise ToolUnavailable(
                f"No package here brings the tool type {kind!r}: install the one that has it among its entry points in "
                f"the group `{GROUP}`, wherever agents are executed."
            )

    def build(
        self,
        spec: ToolSpec,
        *,
        trusted: bool,
        allowed_hosts: tuple[str, ...] | None = None,
        tenant: str = "default",
    ) -> Toolset:
        self.check(spec)
        if isinstance(spec, McpToolSpec):
            self._refuse_unset(spec)
        environment = ToolEnvironment(
            resolve=self._resolvers(trusted=trusted).resolve,
            allowed_addresses=self._config.allow.addresses,
            ca_bundle=self._config.ca_bundle,
            trusted=trusted,
            mcp_servers=self._config.mcp_servers,
            python_path=self._config.python.path,
            allowed_python=frozenset(self._config.allow.python),
            allowed_hosts=allowed_hosts,
            logins=self._logins(tenant) if self._logins is not None and isinstance(spec, McpToolSpec) else None,
        )
        kind: str = spec.type
        if kind not in self._toolsets:
            return LazyToolset(spec, environment, lambda: self._of_package(spec, trusted=trusted), apart=kind)
        name = self._toolsets[kind]
        if kind in SLOW:
            return LazyToolset(spec, environment, lambda: self._load(name))
        toolset: Toolset = self._load(name)(spec, environment)
        return toolset

    def _of_package(self, spec: ToolSpec, *, trusted: bool) -> Any:
        """Return what makes toolsets of a type that a package brings. Raises ToolUnavailable."""
        kind: str = spec.type
        if not trusted and kind not in self._config.allow.tool_types:
            raise ToolUnavailable(
                f"{spec.name}: the type {kind!r} is not on the server's `allow.tool_types` list; a cluster received "
                "over HTTP needs it there"
            )
        try:
            found = tool_type(kind)
            build = self._load(found.build)
        except BaseException as error:  # a package may raise anything, in a thread of its own
            reason = str(error) if isinstance(error, PluginError | ImportError) else type(error).__name__
            text = f"{spec.name}: the tool type {kind!r} cannot be loaded: {reason}"
            raise ToolUnavailable(text).of_defect(error) from error
        if not isinstance(spec, found.spec):  # read when the package was not here, or was another one
            raise ToolUnavailable(f"{spec.name}: the tool type {kind!r} has changed; start the server anew")
        return build

    def _refuse_unset(self, spec: McpToolSpec) -> None:
        """Without a header or variable that its configuration names, a server would be called as somebody else."""
        unset = self._config.unset_below(f"mcp_servers.{spec.server}")
        if unset:
            named = ", ".join(f"{place} needs {variable}" for place, variable in unset.items())
            raise ToolUnavailable(f"{spec.name}: not set in the server's environment: {named}")


class LazyToolset:
    """A toolset whose adapter is loaded when it is opened, off the event loop: other requests go on meanwhile.

    `apart` names a package that nobody here wrote, whose import may never end.
    """

    def __init__(
        self, spec: ToolSpec, environment: ToolEnvironment, load: Callable[[], Any], *, apart: str | None = None
    ) -> None:
        self._spec = spec
        self._environment = environment
        self._load = load
        self._apart = apart
        self._made: Toolset | None = None

    async def open(self) -> Sequence[Tool]:
        """Raises ToolUnavailable, also where the SDK is not installed."""
        if self._made is None:
            try:
                build = await (import_apart(self._apart, self._load) if self._apart else asyncio.to_thread(self._load))
            except ModuleNotFoundError as error:
                if error.name is None or error.name.startswith("goagents"):
                    raise
                extra = SLOW[self._spec.type]
                raise ToolUnavailable(
                    f"{self._spec.name}: {error.name} is not installed: pip install 'goagents[{extra}]'"
                ) from error
            self._made = self._made or build(self._spec, self._environment)
        return await self._made.open()

    @property
    def stale(self) -> bool:
        return isinstance(self._made, ChangingToolset) and self._made.stale

    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()
