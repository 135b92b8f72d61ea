"""Each method of the clients is written once, as a function that builds its request.

Read from a `Client`, such a method returns the answer; read from an `AsyncClient`, a coroutine of it. Type checkers see
the arguments and the result of each.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import update_wrapper
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from goagents.events import RunEvent
from goagents.resources import ListOf

from .calls import Call, StreamCall
from .drivers import AsyncDriver, SyncDriver
from .errands import Errand
from .following import Following

P = ParamSpec("P")
T = TypeVar("T")
Driver = SyncDriver | AsyncDriver


class operation(Generic[P, T]):  # noqa: N801 - a decorator, as property is
    """One request, one answer."""

    def __init__(self, build: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: SyncDriver, owner: type | None = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncDriver, owner: type | None = None) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, owner: type | None = None) -> "operation[P, T]": ...
    def __get__(self, client: Driver | None, owner: type | None = None) -> Any:
        return self if client is None else _bound(self._build, client, client.call)


class errand(Generic[P, T]):  # noqa: N801
    """As many requests as it takes, one answer."""

    def __init__(self, build: Callable[Concatenate[Any, P], Errand[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: SyncDriver, owner: type | None = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncDriver, owner: type | None = None) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, owner: type | None = None) -> "errand[P, T]": ...
    def __get__(self, client: Driver | None, owner: type | None = None) -> Any:
        return self if client is None else _bound(self._build, client, client.perform)


class listing(Generic[P, T]):  # noqa: N801
    """Every item of a list, page after page."""

    def __init__(self, build: Callable[Concatenate[Any, P], Call[ListOf[T]]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: SyncDriver, owner: type | None = None) -> Callable[P, Generator[T, None, None]]: ...
    @overload
    def __get__(self, client: AsyncDriver, owner: type | None = None) -> Callable[P, AsyncGenerator[T, None]]: ...
    @overload
    def __get__(self, client: None, owner: type | None = None) -> "listing[P, T]": ...
    def __get__(self, client: Driver | None, owner: type | None = None) -> Any:
        return self if client is None else _bound(self._build, client, client.items)


class streaming(Generic[P, T]):  # noqa: N801
    """Server-sent events, as they come."""

    def __init__(self, build: Callable[Concatenate[Any, P], StreamCall[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: SyncDriver, owner: type | None = None) -> Callable[P, Generator[T, None, None]]: ...
    @overload
    def __get__(self, client: AsyncDriver, owner: type | None = None) -> Callable[P, AsyncGenerator[T, None]]: ...
    @overload
    def __get__(self, client: None, owner: type | None = None) -> "streaming[P, T]": ...
    def __get__(self, client: Driver | None, owner: type | None = None) -> Any:
        return self if client is None else _bound(self._build, client, client.events)


class following(Generic[P]):  # noqa: N801
    """The events of a run, over as many connections as it takes."""

    def __init__(self, build: Callable[Concatenate[Any, P], Following]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(
        self, client: SyncDriver, owner: type | None = None
    ) -> Callable[P, Generator[RunEvent, None, None]]: ...
    @overload
    def __get__(
        self, client: AsyncDriver, owner: type | None = None
    ) -> Callable[P, AsyncGenerator[RunEvent, None]]: ...
    @overload
    def __get__(self, client: None, owner: type | None = None) -> "following[P]": ...
    def __get__(self, client: Driver | None, owner: type | None = None) -> Any:
        return self if client is None else _bound(self._build, client, client.follow)


def _bound(build: Callable[..., Any], client: Driver, send: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function that builds the request and sends it, and keeps the builder's name, signature and docstring."""

    bound = MethodType(build, client)

    def method(*args: Any, **kwargs: Any) -> Any:
        return send(bound(*args, **kwargs))

    return update_wrapper(method, bound)
