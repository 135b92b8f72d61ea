"""The end of the process, known to what would otherwise go on for ever.

The server that runs us handles the signals, and waits for open requests. We look on: our handler notes the signal and
calls the one that was there.
"""

import signal
import threading
from functools import cache
from types import FrameType
from typing import Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """`begun` is true from the first SIGTERM or SIGINT on."""

    def __init__(self) -> None:
        self.begun = False

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
            before(received, frame)

        signal.signal(number, note)
