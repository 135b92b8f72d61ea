"""Dispatch within this process: each task is an asyncio task.

For one process that serves everything (`goagents run`, Kubernetes and Compose without a queue). What is lost with the
process stands in the store, and the sweeper finds it.
"""

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from goagents.clock import Clock, SystemClock
from goagents.errors import DispatchFailed, GoAgentsError, StoreError

from .base import Task

REMEMBERED = 3600.0  # seconds a name is refused after its task ended, as Cloud Tasks does
MAX_NAMES = 10_000
MAX_PENDING = 10_000
ATTEMPTS = 12  # about as long as `runs.dispatch_grace`, after which the sweeper dispatches anew
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 5.0
MAX_RETRY_AFTER = 60.0

Name = tuple[str, str, str, str, str | None]
_log = logging.getLogger("goagents.dispatch")


class LocalDispatch:
    """`perform` carries a task out, and is tried again where it raises what may pass (a limit, the store)."""

    def __init__(self, perform: Callable[[Task], Awaitable[None]], clock: Clock | None = None) -> None:
        self._perform = perform
        self._clock = clock or SystemClock()
        self._pending: dict[Name, asyncio.Task[None]] = {}
        self._performing: set[Name] = set()
        self._ended: OrderedDict[Name, float] = OrderedDict()
        self._closed = False

    async def enqueue(self, task: Task) -> None:
        """Raises DispatchFailed where too many tasks wait, and after `aclose`."""
        name = _name(task)
        if self._closed:
            raise DispatchFailed("This process is ending and takes no more tasks; the sweeper finds what is left.")
        if self._is_known(name):
            return
        if len(self._pending) >= MAX_PENDING:
            raise DispatchFailed(f"{MAX_PENDING} tasks wait in this process; configure `dispatch.queue` for more.")
        self._pending[name] = started = asyncio.create_task(self._carry_out(name, task))
        started.add_done_callback(lambda _: self._forget(name))

    def stop(self) -> None:
        """Drop what has not begun."""
        self._closed = True
        dropped = [task for name, task in self._pending.items() if name not in self._performing]
        if dropped:
            _log.info("%d tasks are left to the sweeper", len(dropped))
        for task in dropped:
            task.cancel()

    async def aclose(self) -> None:
        """Drop what has not begun, and wait for what runs."""
        self.stop()
        while self._pending:
            await asyncio.wait(set(self._pending.values()))

    def _is_known(self, name: Name) -> bool:
        since = self._clock.monotonic() - REMEMBERED
        while self._ended and next(iter(self._ended.values())) <= since:
            self._ended.popitem(last=False)
        return name in self._pending or name in self._ended

    def _forget(self, name: Name) -> None:
        del self._pending[name]
        self._ended[name] = self._clock.monotonic()
        if len(self._ended) > MAX_NAMES:
            self._ended.popitem(last=False)

    async def _carry_out(self, name: Name, task: Task) -> None:
        if task.delay > 0:
            await self._clock.sleep(task.delay)
        for attempt in range(1, ATTEMPTS + 1):
            error = await self._try(name, task)
            if error is None:
                return
            if attempt == ATTEMPTS or self._closed:
                _log.warning("%s is left to the sweeper after %d attempts: %s", _described(task), attempt, error.detail)
                return
            await self._clock.sleep(_pause(attempt, error))

    async def _try(self, name: Name, task: Task) -> GoAgentsError | None:
        """Return the error after which the task is to be tried again, None where it is done with."""
        self._performing.add(name)
        try:
            await self._perform(task)
        except GoAgentsError as error:
            if error.retryable or isinstance(error, StoreError):
                return error
            _log.error("%s failed: %s", _described(task), error.detail)
        except Exception:  # noqa: BLE001 - the last resort: nobody awaits this task
            _log.exception("%s failed unexpectedly", _described(task))
        finally:
            self._performing.discard(name)
        return None


def _name(task: Task) -> Name:
    return task.kind, task.tenant, task.run, task.token, task.delivery


def _described(task: Task) -> str:
    what = f"the delivery {task.delivery} of the run" if task.kind == "delivery" else "the run"
    return f"{what} {task.run} (tenant {task.tenant})"


def _pause(attempt: int, error: GoAgentsError) -> float:
    growing = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1)  # noqa: S311 - jitter
    return max(growing, min(error.retry_after or 0.0, MAX_RETRY_AFTER))
