"""All ports of one process in one hand: what the engine asks of the outside goes through a function of the test's."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import Any, Literal, Protocol, TypeVar

from goagents.clock import Clock
from goagents.dispatch.base import Dispatch, Task
from goagents.engine.services import Providers, Services, Toolsets
from goagents.providers.base import ModelEvent, ModelRequest, Provider
from goagents.spec.tools import ToolSpec
from goagents.store.base import Store
from goagents.testing.stores import Method, PassingStore, Subject
from goagents.tools.base import NetworkTool, Tool, ToolContext, ToolDefinition, ToolResult, Toolset
from goagents.webhooks.base import Delivery, Receipt, Webhooks

T = TypeVar("T")
Port = Literal["store", "provider", "model", "toolset", "tool", "dispatch", "webhook", "clock"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a port.

    | port | method | subject |
    |---|---|---|
    | store | that of the store | writes, paths, a query or None |
    | provider | get | its name |
    | model | stream | the ModelRequest; asked for each event of the stream, which `number` counts from 0, and its end |
    | toolset | open | the ToolSpec |
    | tool | call | the tool's name |
    | dispatch | enqueue | the Task |
    | webhook | deliver | the Delivery |
    | clock | sleep | the seconds |
    """

    port: Port
    method: str
    subject: Any
    number: int = 0


class Around(Protocol):
    async def __call__(self, asked: Asked, call: Callable[[], Awaitable[T]]) -> T:
        """Answer in the port's place, as a rule with what `await call()`, the port itself, answers."""
        ...


def wrapped(services: Services, around: Around) -> Services:
    """Return the services with `around` between the engine and every port that reaches outside the process."""
    return replace(
        services,
        store=_Store(services.store, around),
        clock=_Clock(services.clock, around),
        providers=_Providers(services.providers, around),
        toolsets=_Toolsets(services.toolsets, around),
        dispatch=_Dispatch(services.dispatch, around),
        webhooks=_Webhooks(services.webhooks, around),
    )


class _Store(PassingStore):
    def __init__(self, store: Store, around: Around) -> None:
        super().__init__(store)
        self._around = around

    async def around(self, method: Method, subject: Subject, call: Callable[[], Awaitable[T]]) -> T:
        return await self._around(Asked("store", method, subject), call)


@dataclass(frozen=True, slots=True)
class _Clock:
    clock: Clock
    around: Around

    def now(self) -> datetime:
        return self.clock.now()

    def monotonic(self) -> float:
        return self.clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self.around(Asked("clock", "sleep", seconds), lambda: self.clock.sleep(seconds))


@dataclass(frozen=True, slots=True)
class _Providers:
    providers: Providers
    around: Around

    async def get(self, name: str) -> Provider:
        return _Provider(
            name, await self.around(Asked("provider", "get", name), lambda: self.providers.get(name)), self.around
        )

    def check(self, name: str) -> None:
        self.providers.check(name)

    async def aclose(self) -> None:
        await self.providers.aclose()


@dataclass(slots=True)
class _Provider:
    name: str
    provider: Provider
    around: Around

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        async with aclosing(self.provider.stream(request)) as events:
            for number in count():
                asked = Asked("model", "stream", request, number)
                event = await self.around(asked, lambda: anext(events, None))
                if event is None:
                    return
                yield event

    async def aclose(self) -> None:
        await self.provider.aclose()


@dataclass(frozen=True, slots=True)
class _Toolsets:
    toolsets: Toolsets
    around: Around

    def check(self, spec: ToolSpec) -> None:
        self.toolsets.check(spec)

    def build(
        self,
        spec: ToolSpec,
        *,
        trusted: bool,
        allowed_hosts: tuple[str, ...] | None = None,
        tenant: str = "default",
    ) -> Toolset:
        made = self.toolsets.build(spec, trusted=trusted, allowed_hosts=allowed_hosts, tenant=tenant)
        return _Toolset(spec, made, self.around)


@dataclass(frozen=True, slots=True)
class _Toolset:
    spec: ToolSpec
    toolset: Toolset
    around: Around

    async def open(self) -> Sequence[Tool]:
        tools = await self.around(Asked("toolset", "open", self.spec), self.toolset.open)
        return [_Tool(tool, self.around) for tool in tools]

    async def aclose(self) -> None:
        await self.toolset.aclose()


@dataclass(frozen=True, slots=True)
class _Tool:
    tool: Tool
    around: Around

    @property
    def definition(self) -> ToolDefinition:
        return self.tool.definition

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        asked = Asked("tool", "call", self.definition.name)
        return await self.around(asked, lambda: self.tool.call(arguments, context))

    def destination(self, arguments: Mapping[str, Any]) -> str | None:
        return self.tool.destination(arguments) if isinstance(self.tool, NetworkTool) else None


@dataclass(frozen=True, slots=True)
class _Dispatch:
    dispatch: Dispatch
    around: Around

    async def enqueue(self, task: Task) -> None:
        await self.around(Asked("dispatch", "enqueue", task), lambda: self.dispatch.enqueue(task))

    def stop(self) -> None:
        self.dispatch.stop()

    async def aclose(self) -> None:
        await self.dispatch.aclose()


@dataclass(frozen=True, slots=True)
class _Webhooks:
    webhooks: Webhooks
    around: Around

    def check(self, url: str) -> None:
        self.webhooks.check(url)

    async def deliver(self, delivery: Delivery) -> Receipt:
        return await self.around(Asked("webhook", "deliver", delivery), lambda: self.webhooks.deliver(delivery))

    async def aclose(self) -> None:
        await self.webhooks.aclose()
