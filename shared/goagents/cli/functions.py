"""The tool functions that `goagents run` starts beside the server: kept alive, and started anew when they change."""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from goagents.errors import GoAgentsError, Invalid
from goagents.spec.python import ToolFunctionConfig

from .child import Child
from .ports import LOOPBACK, bindable
from .terminal import fail, note, warn

_LOOK = 1.0  # seconds between looks at a function's file
_FIRST_PAUSE = 1.0  # seconds until one that ended is started again, doubled each time
_LONGEST_PAUSE = 30.0
_SOUND = 60.0  # seconds after which the pauses begin anew


class ToolFunctions:
    """One process for each function whose variable is not set yet. `async with` starts them, and ends them after it.

    `server_port` is that of the server beside them, which `--port` may have chosen. Raises Invalid for a file that is
    not there or a port that is taken, before anything is started.
    """

    def __init__(self, functions: Mapping[str, ToolFunctionConfig], server_port: int) -> None:
        self._functions = {name: each for name, each in functions.items() if not os.environ.get(each.variable)}
        self._children: dict[str, Child] = {}
        for name, function in self._functions.items():
            if not Path(function.source).is_file():
                raise Invalid(f"tool_functions.{name}.source: there is no file {function.source}")
            if function.port == server_port:
                raise Invalid(f"tool_functions.{name}.port: {server_port} is the port of the server; choose another")
            bindable(LOOPBACK, function.port, f"tool_functions.{name}.port")

    @property
    def variables(self) -> dict[str, str]:
        """The addresses, by the variables that clusters refer to."""
        return {function.variable: function.url for function in self._functions.values()}

    async def __aenter__(self) -> Self:
        try:
            for name in self._functions:
                await self._start(name)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def ready(self) -> None:
        """Wait until all of them listen. Raises GoAgentsError for the first that does not."""
        for name, function in self._functions.items():
            try:
                await self._children[name].listening(LOOPBACK, function.port)
            except GoAgentsError as error:
                raise GoAgentsError(f"the tool function {name} ({function.source}): {error.detail}") from error
            note(f"tool function {name} is at {function.url} ({function.variable})")

    async def go_on(self) -> None:
        """Start again what ends or changes, until cancelled."""
        if not self._functions:
            await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            for name, function in self._functions.items():
                group.create_task(self._keep(name, function))

    async def _keep(self, name: str, function: ToolFunctionConfig) -> None:
        pause, stamp, begun = _FIRST_PAUSE, _stamp(function.source), time.monotonic()
        while True:
            child = self._children[name]
            ended = asyncio.ensure_future(child.wait())
            try:
                while not ended.done() and _stamp(function.source) in (stamp, None):
                    await asyncio.wait([ended], timeout=_LOOK)
            finally:
                ended.cancel()
            now = _stamp(function.source)
            if now not in (stamp, None):
                stamp = now
                note(f"tool function {name} has changed, and is started anew")
                await child.stop()
                pause = _FIRST_PAUSE
            else:
                pause = _FIRST_PAUSE if time.monotonic() - begun > _SOUND else pause
                fail(f"tool function {name} ended with status {ended.result()}; started again in {pause:g} s")
                child.kill()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            begun = time.monotonic()
            await self._start(name)

    async def _start(self, name: str) -> None:
        function = self._functions[name]
        arguments = [function.source, function.target, str(function.port)]
        environment = {**os.environ, **function.env}
        self._children[name] = await Child.start("goagents.cli.serve_function", arguments, environment)

    async def _end(self) -> None:
        results = await asyncio.gather(*(child.stop() for child in self._children.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                warn(f"a tool function could not be ended: {result}")


def _stamp(source: str) -> tuple[int, int] | None:
    try:
        stat = Path(source).stat()
    except OSError:
        return None  # being replaced
    return stat.st_mtime_ns, stat.st_size
