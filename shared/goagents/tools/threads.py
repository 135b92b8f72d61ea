"""Threads for functions that are not async: a bounded number, one for each call."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from goagents.errors import ToolFailed

T = TypeVar("T")
_imports: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Threads]]" = WeakKeyDictionary()


class Threads:
    """At most `most` calls at the same time; a call that waits for its turn can be cancelled, and is not begun then.

    A thread cannot be stopped: one whose caller went away counts until the function returns. They are daemons, because
    a pool's threads would keep the process from ending.
    """

    def __init__(self, most: int, name: str) -> None:
        self._free = asyncio.Semaphore(most)
        self._name = name

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, or raise what it raises; the caller's context variables are set in it."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        target = partial(copy_context().run, self._work, work, loop, done)
        try:
            threading.Thread(target=target, name=f"tool-{self._name}", daemon=True).start()
        except RuntimeError as error:
            self._free.release()
            raise ToolFailed("There is no thread left on this server; try again later.") from error
        return await done

    def _work(self, work: Callable[[], T], loop: asyncio.AbstractEventLoop, done: "asyncio.Future[T]") -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is the caller's: StopIteration and SystemExit included
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            loop.call_soon_threadsafe(self._settle, done, result, failure)

    def _settle(self, done: "asyncio.Future[T]", result: Any, failure: BaseException | None) -> None:
        self._free.release()
        if done.cancelled():
            return
        if failure is None:
            done.set_result(result)
        elif isinstance(failure, Exception) and not isinstance(failure, StopIteration):
            done.set_exception(failure)
        else:  # what a future does not carry, or would end the event loop
            wrapped = RuntimeError(f"the function raised {type(failure).__name__}")
            wrapped.__cause__ = failure
            done.set_exception(wrapped)


async def import_apart(module: str, work: Callable[[], T]) -> T:
    """Return what `work` returns, which imports `module`; others go on meanwhile.

    A module may take for ever to import. So it has a thread of its own, at most one at a time, and takes none of the
    event loop's, which everything else shares.
    """
    threads = _imports.setdefault(asyncio.get_running_loop(), {})
    return await threads.setdefault(module, Threads(1, f"import-{module}")).run(work)
