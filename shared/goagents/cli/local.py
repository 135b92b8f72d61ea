"""The parent process of `run`: checks the files, applies the clusters, starts the serving process, watches both."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from operator import attrgetter
from pathlib import Path
from typing import Self

from watchfiles import awatch

from goagents import __version__
from goagents.access.authentication import mode_of
from goagents.access.principal import LOCAL
from goagents.app import close_services, open_services
from goagents.engine.clusters import apply
from goagents.errors import ConfigurationError, GoAgentsError
from goagents.resources import ClusterApplied
from goagents.settings import Settings, store_url
from goagents.spec.config import Config
from goagents.spec.load import Loaded, load_files

from .child import Child
from .functions import ToolFunctions
from .main import explained
from .ports import LOOPBACK, bindable
from .sweeping import Sweeping
from .terminal import fail, note, warn

_FIXED = (  # read at the start only
    "server.host",
    "server.port",
    "server.tls",
    "server.metrics.port",
    "tool_functions",
    "store.url",
)
Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass
class Plan:
    """What is served, and where. `loaded` is what the files said when they were last valid.

    `internal_key` opens `/sweep` to us and `/worker` to nobody else.
    """

    files: tuple[Path, ...]
    settings: Settings
    loaded: Loaded
    host: str
    port: int
    internal_key: str = field(repr=False)

    @classmethod
    def read(cls, files: Sequence[Path], settings: Settings, host: str | None, port: int | None) -> Self:
        """Raises ConfigurationError with every error of every file, Invalid where the port cannot be had."""
        loaded = load_files(files)
        server = loaded.config.server
        wanted = host or server.host
        if mode_of(loaded.config.auth, on_cloud_run=False) == "none" and not _is_loopback(wanted):
            warn(f"no `auth:` is configured, so only this machine is served: {LOOPBACK}, not {wanted}")
            wanted = LOOPBACK
        for warning in loaded.warnings:
            warn(str(warning))
        # Clusters that a reload brings go where the serving process looks, whatever `store:` says by then.
        settings = replace(settings, store=store_url(loaded.config, settings))
        return cls(
            tuple(dict.fromkeys(files)),
            settings,
            loaded,
            wanted,
            bindable(wanted, server.port if port is None else port),
            settings.internal_key or secrets.token_urlsafe(32),
        )

    @property
    def url(self) -> str:
        """Where this machine reaches the server."""
        shown = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        scheme = "https" if self.loaded.config.server.tls else "http"
        return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{self.port}"

    @property
    def certificate(self) -> str | None:
        tls = self.loaded.config.server.tls
        return tls.cert if tls else None

    def arguments(self) -> list[str]:
        tls = self.loaded.config.server.tls
        return [self.host, str(self.port), *((tls.cert, tls.key) if tls else ())]

    def environment(self) -> dict[str, str]:
        metrics = self.loaded.config.server.metrics
        environment = {
            **os.environ,
            "GOAGENTS_CONFIG": os.pathsep.join(self.settings.config_paths),
            "GOAGENTS_STORE": self.settings.store or "",
            "GOAGENTS_INTERNAL_KEY": self.internal_key,
        }
        if metrics.enabled and metrics.port is not None:
            environment["GOAGENTS_METRICS_PORT"] = str(metrics.port)
        return environment


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass
class LocalServer:
    plan: Plan
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _stamp: Stamp = ()

    async def serve(self) -> int:
        """Serve until a signal asks to end (status 0), or the serving process ends (its status)."""
        self._stamp = self._look()
        functions = ToolFunctions(self.plan.loaded.config.tool_functions, self.plan.port)
        applied = await self._apply(self.plan.loaded)
        async with self._signals(), functions, self._child(functions.variables) as child:
            starting = asyncio.create_task(self._ready(functions, child))
            if not await self._unless_stopped(starting):
                return 0
            starting.result()
            self._announce(applied)
            return await self._until_the_end(functions, child)

    async def _ready(self, functions: ToolFunctions, child: Child) -> None:
        await functions.ready()
        await child.ready(self.plan.url, self.plan.certificate)

    async def _until_the_end(self, functions: ToolFunctions, child: Child) -> int:
        ended = asyncio.create_task(child.wait())
        watching = asyncio.create_task(self._watch())
        sweeping = asyncio.create_task(self._sweeping().go_on())
        keeping = asyncio.create_task(functions.go_on())
        try:
            if not await self._unless_stopped(ended, watching, sweeping, keeping):
                note("ending: requests in progress have 8 s")
                return 0
            for task in (watching, sweeping, keeping):
                if task.done():
                    task.result()  # raises why it can go on no longer
            status = await ended
            fail(f"the serving process ended unexpectedly, with status {status}")
            return status or 1
        finally:
            keeping.cancel()
            sweeping.cancel()
            watching.cancel()
            ended.cancel()

    def _sweeping(self) -> Sweeping:
        plan = self.plan
        return Sweeping(plan.url, plan.internal_key, plan.certificate, lambda: plan.loaded.config.runs.sweep_interval)

    async def _unless_stopped(self, *tasks: "asyncio.Task[object]") -> bool:
        """Wait for one of the tasks. Return False if a signal came first."""
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        return not self._stopping.is_set()

    @asynccontextmanager
    async def _signals(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._stopping.set)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    @asynccontextmanager
    async def _child(self, variables: Mapping[str, str]) -> AsyncIterator[Child]:
        child = await Child.start("goagents.cli.serve", self.plan.arguments(), {**self.plan.environment(), **variables})
        try:
            yield child
        finally:
            await child.stop()

    async def _apply(self, loaded: Loaded) -> list[ClusterApplied]:
        services = open_services(self.plan.settings, loaded.config)
        try:
            return [await apply(services, LOCAL, cluster, trusted=True) for cluster in loaded.clusters]
        finally:
            await close_services(services)

    def _announce(self, applied: Sequence[ClusterApplied]) -> None:
        plan = self.plan
        for one in applied:
            note(_line(one))
        note(f"GoAgents {__version__} serves {plan.url} (state in {plan.settings.store})")
        agents = [agent.id for one in applied for agent in one.cluster.agents]
        if agents:
            note("Try it:\n\n  " + curl(plan, agents[0]) + "\n")
        note(f"Watching {', '.join(str(path) for path in plan.files)}. Ctrl-C ends.")

    async def _watch(self) -> None:
        """Apply what changes. Folders are watched, because editors replace files instead of writing to them."""
        folders = {path.resolve().parent for path in self.plan.files} | {
            path.absolute().parent for path in self.plan.files
        }
        # Looking once a second, too, finds what no event tells: links that are switched, files on a network.
        changes = awatch(
            *folders,
            recursive=False,
            step=100,
            rust_timeout=1000,
            yield_on_timeout=True,
            ignore_permission_denied=True,
            stop_event=self._stopping,
        )
        async for _ in changes:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                await self._reload()

    def _look(self) -> Stamp:
        return tuple(_stamp_of(path) for path in self.plan.files)

    async def _reload(self) -> None:
        try:
            loaded = load_files(self.plan.files)
            applied = await self._apply(loaded)
        except ConfigurationError as error:
            fail(f"not reloaded, the old configuration stays:\n{error}")
            return
        except GoAgentsError as error:
            fail(f"not reloaded, the old configuration stays: {explained(error)}")
            return
        self._report(loaded, applied)
        self.plan.loaded = loaded

    def _report(self, loaded: Loaded, applied: Sequence[ClusterApplied]) -> None:
        note("reloaded")
        for one in applied:
            if one.outcome != "unchanged":
                note(_line(one))
        before = {(c.namespace, c.name) for c in self.plan.loaded.clusters}
        for namespace, name in sorted(before - {(c.namespace, c.name) for c in loaded.clusters}):
            note(f"cluster {namespace}/{name} is no longer in the files, and stays: delete it by `goagents delete`")
        if _fixed(self.plan.loaded.config) != _fixed(loaded.config):
            warn(f"{', '.join(_FIXED)} take effect when you start `goagents run` anew")


def _fixed(config: Config) -> tuple[object, ...]:
    return tuple(attrgetter(path)(config) for path in _FIXED)


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None  # being replaced
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _line(applied: ClusterApplied) -> str:
    cluster = applied.cluster
    changes = f": {', '.join(applied.changes[:10])}" if applied.outcome == "updated" and applied.changes else ""
    return f"cluster {cluster.namespace}/{cluster.name} {applied.outcome} (generation {cluster.generation}){changes}"


def curl(plan: Plan, agent: str) -> str:
    """Return a command line to paste."""
    auth = plan.loaded.config.auth
    key = ' -H "Authorization: Bearer $GOAGENTS_API_KEY"' if auth and auth.mode == "api_key" else ""
    trust = f" --cacert {plan.certificate}" if plan.certificate else ""
    body = """-H 'Content-Type: application/json' -d '{"message": "Hello!"}'"""
    return f"curl -s{trust} {plan.url}/api/v1/agents/{agent}/chat{key} {body}"
