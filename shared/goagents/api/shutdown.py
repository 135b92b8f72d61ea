"""The end of the process, known to what would otherwise go on for ever.

The server that runs us handles the signals, and waits for open requests. We look on: our handler notes the signal and
calls the one that was there. Runs that would outlast that wait are handed on: after a step if there is time, so that
nothing is lost, or else in the middle of one. Killed, they would wait for their lease to be over.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Self

from goagents import children

if TYPE_CHECKING:  # what serves `/health` must not load the engine
    from goagents.engine.execution.handle import RunHandle
    from goagents.engine.services import Services

GRACE = 6.0  # seconds for runs to finish; `goagents run` ends after 8, Cloud Run after 10
PATIENCE = 0.5  # of them, after which a run is handed on at its next step
_LAST_GRACE = 0.5  # seconds for programs to end
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """`begun` is true from the first SIGTERM or SIGINT on."""

    def __init__(self) -> None:
        self.begun = False
        self._served: list[Services] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None

    def interrupt_late(self, services: "Services") -> None:
        """From the signal on take no more tasks, and within `GRACE` seconds have the runs in progress handed on.

        To be called within the loop.
        """
        self._served = [known for known in self._served if known.tasks and known is not services] + [services]
        self._loop = asyncio.get_running_loop()

    @classmethod
    @cache
    def of_process(cls) -> Self:
        """Return the shutdown of this process, watched from the first call on (where it comes from the main thread)."""
        shutdown = cls()
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                shutdown._watch(number)
        return shutdown

    def _watch(self, number: signal.Signals) -> None:
        before = signal.getsignal(number)
        if not callable(before):
            return  # no server handles it: the process ends at once, as it should

        def note(received: int, frame: FrameType | None) -> None:
            again, self.begun = self.begun, True
            if again or self._loop is None or self._loop.is_closed():
                before(received, frame)
                return
            self._loop.call_soon_threadsafe(self._end, self._loop, lambda: before(received, frame))

        signal.signal(number, note)

    def _end(self, loop: asyncio.AbstractEventLoop, server_ends: Callable[[], object]) -> None:
        """Runs that no request is open for are handed on first: the server would not wait for them."""
        for services in self._served:
            services.ending = True
            services.dispatch.stop()
        alone = [handle for handle in self._handles() if handle.detached]
        for handle in alone:
            handle.stop("hand_off")
        loop.call_later(PATIENCE * GRACE, self._hand_on)
        loop.call_later(GRACE, self._interrupt)
        self._ending = loop.create_task(_after([handle.task for handle in alone if handle.task], server_ends))

    def _handles(self) -> "list[RunHandle]":
        return [handle for services in self._served for handle in services.handles.values()]

    def _hand_on(self) -> None:
        for handle in self._handles():
            handle.stop("hand_off")

    def _interrupt(self) -> None:
        for services in self._served:
            for task in services.tasks:
                task.cancel()
        # The server may end at any moment now, and a program that hangs ends neither with its input nor with its run.
        children.signal_all(signal.SIGTERM)
        if self._loop is not None:
            self._loop.call_later(_LAST_GRACE, children.signal_all, signal.SIGKILL)


async def _after(tasks: list["asyncio.Task[None]"], then: Callable[[], object]) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=GRACE + 1.0)
    then()
