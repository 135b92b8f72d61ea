"""The only place that names concrete classes: by dotted name, so that a function loads what its requests need.

`application(name)` is the ASGI app of a deployable function. Nothing is opened when it is made: functions-framework
builds it in a parent process, and forks.
"""

import asyncio
import gc
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goagents.clock import SystemClock
from goagents.dispatch.base import Dispatch, Task
from goagents.engine.logins import StoredLogins
from goagents.engine.services import Services
from goagents.errors import ConfigurationError, DispatchFailed, Invalid
from goagents.identity.base import TokenVerifier
from goagents.providers.base import Provider
from goagents.secrets.environment import EnvironmentSecrets
from goagents.settings import Settings, store_url
from goagents.spec.check import KEY_VARIABLES
from goagents.spec.config import Config, ProviderConfig
from goagents.spec.interpolation import Resolver
from goagents.spec.load import load_files
from goagents.store.base import Store
from goagents.telemetry.base import Hook, Telemetry
from goagents.tools.registry import ToolsetRegistry
from goagents.webhooks.base import Delivery, Receipt, Webhooks

if TYPE_CHECKING:
    from starlette.types import ASGIApp

FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "health": ("health",),
    "clusters": ("clusters",),
    "agents": ("agents",),
    "chat": ("chat",),
    "stream": ("stream",),
    "runs": ("runs",),
    "metrics": ("metrics",),
    "worker": ("worker",),
    "sweeper": ("sweeper",),
    "gateway": ("health", "clusters", "agents", "chat", "stream", "runs", "metrics", "worker", "sweeper"),
}
PROVIDERS: Mapping[str, str] = {
    "anthropic": "goagents.providers.anthropic:AnthropicProvider",
    "openai": "goagents.providers.openai:OpenAIProvider",
    "gemini": "goagents.providers.gemini:GeminiProvider",
    "scripted": "goagents.providers.scripted:ScriptedProvider",
}
TOOLSETS: Mapping[str, str] = {
    "http": "goagents.tools.http:build",
    "mcp": "goagents.tools.mcp:build",
    "websocket": "goagents.tools.websocket:build",
    "python": "goagents.tools.python:build",
}
_log = logging.getLogger("goagents.app")
DISPATCH_SLACK = 15.0  # seconds the queue waits longer than the worker takes
RELOAD_INTERVAL = 1.0  # seconds between looks at the configuration's files


def load_by_name(name: str) -> Any:
    """Return the object at `module:attribute`."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


class ProviderRegistry:
    """The providers of one configuration, made on first use."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self._config = config
        self._environ = environ
        self._made: dict[str, Provider] = {}

    def check(self, name: str) -> None:
        """Raise Invalid for a provider there is not, or one without its key, naming the variable to set."""
        if name not in PROVIDERS:
            raise Invalid(f"There is no provider {name!r}; the providers are {', '.join(PROVIDERS)}.")
        if name in KEY_VARIABLES and self._key(name) is None:
            variable = self._config.unset_reference(f"providers.{name}.api_key") or KEY_VARIABLES[name]
            raise Invalid(f"The provider {name!r} has no API key: set {variable}, or providers.{name}.api_key.")

    async def get(self, name: str) -> Provider:
        if name not in self._made:
            self.check(name)
            # An SDK takes up to a second to import; other requests go on meanwhile.
            adapter = await asyncio.to_thread(load_by_name, PROVIDERS[name])
            if name not in self._made:
                self._made[name] = adapter(**self._arguments(name))
        return self._made[name]

    async def aclose(self) -> None:
        """Close those there are; who asks later gets new ones."""
        while self._made:
            _, provider = self._made.popitem()
            await provider.aclose()

    def _key(self, name: str) -> str | None:
        section = self._config.provider(name)
        if isinstance(section, ProviderConfig) and section.api_key is not None:
            return section.api_key.get_secret_value()
        return self._environ.get(KEY_VARIABLES[name]) or None

    def _arguments(self, name: str) -> dict[str, Any]:
        section = self._config.provider(name)
        given = section.model_dump(exclude={"api_key"}, exclude_none=True) if section else {}
        if name == "scripted":
            return {"models": given.get("models", {})}
        return {**given, "api_key": self._key(name), "ca_bundle": self._config.ca_bundle}


class ResolverFactory:
    """A cluster from a trusted file may refer to any variable, a posted one to those of `allow:`."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self._trusted = Resolver({"env": EnvironmentSecrets(environ)})
        self._posted = Resolver({"env": EnvironmentSecrets(environ)}, allow=config.allow.references())

    def __call__(self, *, trusted: bool) -> Resolver:
        return self._trusted if trusted else self._posted


class LazyDispatch:
    """The configured dispatch, made with the first task: most processes have none to hand over."""

    def __init__(self, make: Callable[[], Dispatch]) -> None:
        self._make = make
        self._made: Dispatch | None = None
        self._making = asyncio.Lock()
        self._stopped = self._closed = False

    async def enqueue(self, task: Task) -> None:
        async with self._making:
            if self._closed:
                raise DispatchFailed("This process is ending and takes no more tasks; the sweeper finds what is left.")
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)  # an SDK takes its time to import
                if self._stopped:
                    self._made.stop()
        await self._made.enqueue(task)

    def stop(self) -> None:
        self._stopped = True
        if self._made is not None:
            self._made.stop()

    async def aclose(self) -> None:
        async with self._making:
            self._closed = True
        if self._made is not None:
            await self._made.aclose()


class LazyWebhooks:
    """The webhooks of one configuration, made on first use."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._made: Webhooks | None = None

    def _get(self) -> Webhooks:
        if self._made is None:
            config = self._config
            self._made = load_by_name("goagents.webhooks.http:HttpWebhooks")(
                [secret.get_secret_value() for secret in config.webhooks.secrets],
                timeout=config.webhooks.timeout,
                allowed_addresses=config.allow.addresses,
                ca_bundle=config.ca_bundle,
            )
        return self._made

    def check(self, url: str) -> None:
        self._get().check(url)

    async def deliver(self, delivery: Delivery) -> Receipt:
        return await self._get().deliver(delivery)

    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()


def open_dispatch(config: Config, settings: Settings, current: Callable[[], Services]) -> Dispatch:
    """Return where runs go on; `current` are the services that a task in this process works with.

    Raises ConfigurationError where Cloud Tasks lacks a credential.
    """
    if config.dispatch.chosen == "cloud_tasks":
        made: Dispatch = load_by_name("goagents.dispatch.cloud_tasks:CloudTasksDispatch")(
            queue=config.dispatch.queue,
            worker_url=config.dispatch.worker_url,
            service_account=config.dispatch.service_account,
            internal_key=settings.internal_key,
            deadline=config.runs.worker_timeout + DISPATCH_SLACK,
        )
        return made

    async def perform(task: Task) -> None:
        work: Callable[..., Awaitable[None]] = load_by_name("goagents.engine.recovery.worker:perform")
        await work(current(), task, detached=True)

    local: Dispatch = load_by_name("goagents.dispatch.local:LocalDispatch")(perform)
    return local


def open_store(url: str) -> Store:
    """Return the store at `sqlite:///PATH` or `firestore://PROJECT/DATABASE`; nothing is opened yet."""
    scheme, _, rest = url.partition("://")
    store: Store
    if scheme == "sqlite":
        store = load_by_name("goagents.store.sqlite:SQLiteStore")(rest.removeprefix("/"))
    elif scheme == "firestore":
        project, _, database = rest.partition("/")
        store = load_by_name("goagents.store.firestore:FirestoreStore")(project, database or "(default)")
    else:
        raise ConfigurationError(f"store.url: {url!r} is neither sqlite:///PATH nor firestore://PROJECT/DATABASE.")
    return store


def load_config(settings: Settings) -> Config:
    """Read the configuration's files, or return the defaults where there are none. Raises ConfigurationError."""
    if not settings.config_paths:
        return Config()
    return load_files(settings.config_paths).config


def open_services(
    settings: Settings, config: Config | None = None, current: Callable[[], Services] | None = None
) -> Services:
    """Build what the engine works with; connections are made on first use. Raises ConfigurationError.

    `current` returns the services in use, where they may be renewed later.
    """
    config = config or load_config(settings)
    resolvers = ResolverFactory(config, os.environ)
    store = open_store(store_url(config, settings))
    made = Services(
        store=store,
        clock=SystemClock(),
        config=config,
        settings=settings,
        telemetry=Telemetry(_hooks(config, settings)),
        providers=ProviderRegistry(config, os.environ),
        toolsets=ToolsetRegistry(config, resolvers, TOOLSETS, load_by_name, partial(StoredLogins, store)),
        resolvers=resolvers,
        dispatch=LazyDispatch(lambda: open_dispatch(config, settings, current or (lambda: made))),
        webhooks=LazyWebhooks(config),
    )
    return made


def _hooks(config: Config, settings: Settings) -> list[Hook]:
    server = config.server
    load_by_name("goagents.telemetry.logging:configure")(server.log_level, server.log_format, settings.project)
    hooks: list[Hook] = [load_by_name("goagents.telemetry.logging:LoggingHook")()]
    if server.metrics.enabled:
        hooks.append(load_by_name("goagents.telemetry.prometheus:PrometheusHook")())
    return hooks


async def close_services(services: Services) -> None:
    """Wait for the runs in progress, then close every connection."""
    await services.dispatch.aclose()
    await retire_services(services)
    await services.store.aclose()


async def retire_services(services: Services) -> None:
    """Wait for the runs in progress, then close providers and tools; who comes later opens them anew."""
    while under_way := {*services.beginning, *services.tasks}:
        await asyncio.wait(under_way)
    while services.specs:
        _, cluster = services.specs.popitem()
        await cluster.close()
    while services.closing:
        await asyncio.wait(set(services.closing))
    await services.providers.aclose()
    await services.webhooks.aclose()


class ServicesSource:
    """The services of this process: built with the first request, renewed when the configuration's files change.

    `wrap` puts something of a test around them: a store that fails, a switch that ends the process.
    """

    def __init__(self, settings: Settings, wrap: Callable[[Services], Services] | None = None) -> None:
        self._settings = settings
        self._wrap = wrap or (lambda services: services)
        self._verifier: TokenVerifier | None = None
        self._services: Services | None = None
        self._stamp: tuple[tuple[int, int], ...] = ()
        self._looked = 0.0
        self._retiring: set[asyncio.Task[None]] = set()

    async def __call__(self) -> Services:
        if self._services is None:
            self._stamp = self._files()
            self._services = self._wrap(open_services(self._settings, current=self.current))
            gc.freeze()  # what is loaded by now stays: the collector need not walk it, which took tens of milliseconds
            self._looked = self._services.clock.monotonic()
        elif self._due(self._services):
            self._services = self._renewed(self._services)
        return self._services

    def current(self) -> Services:
        """Return the services in use. Only after the first request has built them."""
        if self._services is None:
            raise AssertionError("nothing is dispatched before there are services")
        return self._services

    async def verifier(self, services: Services) -> TokenVerifier:
        """Return what verifies Google's identity tokens, loaded with the first one."""
        if self._verifier is None:
            made = await asyncio.to_thread(load_by_name, "goagents.identity.google:GoogleTokens")
            self._verifier = self._verifier or made(ca_bundle=services.config.ca_bundle)
        return self._verifier

    def _due(self, services: Services) -> bool:
        now = services.clock.monotonic()
        if not self._settings.config_paths or now - self._looked < RELOAD_INTERVAL:
            return False
        self._looked = now
        stamp, before = self._files(), self._stamp
        self._stamp = stamp
        return stamp != before

    def _files(self) -> tuple[tuple[int, int], ...]:
        found = []
        for path in self._settings.config_paths:
            try:
                stat = Path(path).stat()
            except OSError:
                continue  # being replaced; reading it tells more
            found.append((stat.st_mtime_ns, stat.st_size))
        return tuple(found)

    def _renewed(self, services: Services) -> Services:
        """Return services of the files as they are now; where they are wrong, the old ones go on."""
        try:
            config = load_config(self._settings)
        except (ConfigurationError, OSError) as error:
            _log.warning("The configuration is not reloaded, the old one stays: %s", error)
            return services
        resolvers = ResolverFactory(config, os.environ)
        renewed = replace(  # opened tools keep the addresses and variables they were opened with: they go with the old
            services,
            specs=OrderedDict(),
            tasks=set(),
            closing=set(),
            config=config,
            telemetry=Telemetry(_hooks(config, self._settings)),
            providers=ProviderRegistry(config, os.environ),
            toolsets=ToolsetRegistry(config, resolvers, TOOLSETS, load_by_name, partial(StoredLogins, services.store)),
            resolvers=resolvers,
            webhooks=LazyWebhooks(config),
        )
        task = asyncio.create_task(retire_services(services))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        return renewed


def application(
    name: str, settings: Settings | None = None, wrap: Callable[[Services], Services] | None = None
) -> "ASGIApp":
    """Return the ASGI app of the deployable function `name` (see FUNCTIONS). `wrap`: see ServicesSource."""
    routes = [route for module in FUNCTIONS[name] for route in import_module(f"goagents.api.{module}").routes]
    source = ServicesSource(settings or Settings.from_environ(os.environ), wrap)
    create: Callable[..., ASGIApp] = load_by_name("goagents.api.asgi:create")
    return create(routes, source, source.verifier)
