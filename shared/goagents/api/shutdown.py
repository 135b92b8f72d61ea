"""The end of the process, known to what would otherwise go on for ever.

The server that runs us handles the signals, and waits for open requests. We look on: our handler notes the signal and
calls the one that was there. Runs that would outlast that wait are interrupted in time to be settled: killed, they
would hold session, slot and instance until their lease is over.
"""

import asyncio
import signal
import threading
from functools import cache
from types import FrameType
from typing import Self

GRACE = 6.0  # seconds for runs to finish; `goagents run` ends after 8, Cloud Run after 10
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """`begun` is true from the first SIGTERM or SIGINT on."""

    def __init__(self) -> None:
        self.begun = False
        self._running: list[set[asyncio.Task[None]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def interrupt_late(self, running: set[asyncio.Task[None]]) -> None:
        """Cancel what is in `running` by then, `GRACE` seconds after the signal. To be called within the loop."""
        self._running = [known for known in self._running if known and known is not running] + [running]
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
            self.begun = True
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._loop.call_later, GRACE, self._interrupt)
            before(received, frame)

        signal.signal(number, note)

    def _interrupt(self) -> None:
        for running in self._running:
            for task in running:
                task.cancel()
