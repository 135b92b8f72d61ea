"""One of several processes that live within a test's own, and can be killed there."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from goagents.engine.services import Services
from goagents.testing.kill_points import never
from goagents.testing.wrapping import Asked, wrapped

T = TypeVar("T")
_ROUNDS = 1000


class ProcessDied(Exception):
    """The process was killed before it had an answer."""


class Severable:
    """A process as far as others can see it: what it asks of its ports. After `sever()` it does nothing any more.

        process = Severable()
        services = process.services(services)
        try:
            answer = await process.run(chat(services, "hi"))
        except ProcessDied:
            ...
        await process.bury()

    A killed process gets no answers: no call of a port returns, neither those it makes afterwards nor those under way,
    whose effect may come about all the same (a commit was sent, a tool was called). Errors instead would let the code
    behind them go on, and tell or write what no killed process does. Clean-up code that still runs, because tasks are
    cancelled in the end, gets no further than its first call.

    `KillSwitch(point, kill=process.sever)` goes inside: `process.services(switch.services(services))`.
    """

    def __init__(self) -> None:
        self._severed = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    def services(self, services: Services) -> Services:
        return wrapped(services, self._around)

    def sever(self) -> None:
        """Kill it."""
        self._severed.set()

    @property
    def dead(self) -> bool:
        return self._severed.is_set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` in this process. Raises ProcessDied as soon as it is killed, and what `work` raises."""
        task, death = asyncio.create_task(work), asyncio.create_task(self._severed.wait())
        self._tasks.add(task)
        try:
            await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
            if self.dead:
                raise ProcessDied
            return task.result()
        finally:
            death.cancel()

    async def bury(self) -> None:
        """End what is left of its tasks. Raises RuntimeError for tasks that withstand it, naming one."""
        self.sever()
        for _ in range(_ROUNDS):
            left = {task for task in self._tasks if not task.done() and task is not asyncio.current_task()}
            if not left:
                break
            for task in left:
                task.cancel()
            await asyncio.sleep(0)
        else:
            raise RuntimeError(f"a task of the killed process does not end: {next(iter(left))!r}")
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.exception()  # nobody else is left to look at it

    async def _around(self, asked: Asked, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 - all alike
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)
        if self.dead:
            await never()
        try:
            return await call()
        finally:
            if self.dead:
                await never()
