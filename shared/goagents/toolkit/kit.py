"""The toolkit: functions become tools by a decorator, all of them together one HTTP function."""

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import ParamSpec, TypeVar, overload

import flask

from goagents.errors import ConfigurationError

from .callers import Callers
from .declaring import Declared, Effect, declare
from .keys import KeyStore, MemoryKeyStore
from .page import openapi_page
from .serving import Limits, Serving

P = ParamSpec("P")
R = TypeVar("R")

_MAX_TOOLS = 128  # what the providers take
_MAX_NAME = 128


class Toolkit:
    """Tools that are deployed together.

    `name` and `description` are for the OpenAPI page. `api_keys` are SHA-256 hashes, as in `auth.api_keys`: with some,
    a bearer of one is served; without, whom Cloud Run's IAM let through, and elsewhere this machine only. `store` keeps
    the results of idempotent calls, in this process by default. `max_body` is in bytes, `patience` the seconds that a
    repetition waits for the first call's result. Raises ConfigurationError.
    """

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        version: str = "1",
        api_keys: Sequence[str] = (),
        store: KeyStore | None = None,
        max_body: int = 1 << 20,
        patience: float = 10.0,
    ) -> None:
        if not 0 < len(name) <= _MAX_NAME:
            raise ConfigurationError(f"name: a toolkit's name has 1 to {_MAX_NAME} characters")
        if max_body < 1 or patience < 0:
            raise ConfigurationError("max_body is at least 1 byte, patience at least 0 seconds")
        self._name = name
        self._description = description
        self._version = version
        self._callers = Callers(api_keys, on_cloud_run="K_SERVICE" in os.environ)
        self._store: KeyStore = MemoryKeyStore() if store is None else store
        self._limits = Limits(max_body, patience)
        self._tools: dict[str, Declared] = {}
        self._page: bytes | None = None

    @overload
    def tool(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def tool(
        self, /, *, name: str | None = None, description: str | None = None, effect: Effect = "unsafe"
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def tool(
        self,
        function: Callable[P, R] | None = None,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        effect: Effect = "unsafe",
    ) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
        """Make a function a tool, and leave it as it is. Its name and docstring are the tool's, unless given here.

        `effect` says what repeating a call does: nothing (`read`), nothing more (`idempotent`), or harm (`unsafe`).
        Raises ConfigurationError for a function that cannot be one: async, without types, of a name already taken.
        """

        def declared(function: Callable[P, R]) -> Callable[P, R]:
            self._add(declare(function, name, description, effect))
            return function

        return declared if function is None else declared(function)

    @cached_property
    def function(self) -> Callable[[flask.Request], flask.Response]:
        """The entry point for functions-framework: assign it to a name of the module, and give that as `--target`."""
        serving = Serving(self._name, self._tools, self.openapi, self._callers, self._store, self._limits)

        def serve(request: flask.Request) -> flask.Response:  # a plain function, the framework takes nothing else
            return serving.answer(request)

        serve.__name__ = serve.__qualname__ = "tools"
        return serve

    def openapi(self) -> bytes:
        """Return the OpenAPI page as JSON."""
        if self._page is None:
            self._page = openapi_page(
                list(self._tools.values()),
                title=self._name,
                description=self._description,
                version=self._version,
                by_key=self._callers.by_key,
            )
        return self._page

    def _add(self, tool: Declared) -> None:
        if tool.name in self._tools:
            raise ConfigurationError(f"tool {tool.name}: there is one of this name already; set `name=`")
        if len(self._tools) >= _MAX_TOOLS:
            raise ConfigurationError(f"tool {tool.name}: a toolkit has at most {_MAX_TOOLS} tools; make another one")
        self._tools[tool.name] = tool
        self._page = None
