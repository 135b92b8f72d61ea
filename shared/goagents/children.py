"""Programs that this process has started, and that must not outlive it, even where they hang."""

import os
import signal
from contextlib import suppress

_groups: set[int] = set()


def began(pid: int) -> None:
    """`pid` leads a process group of its own."""
    _groups.add(pid)


def ended(pid: int) -> None:
    _groups.discard(pid)


def signal_all(number: signal.Signals) -> None:
    """Send it to all programs that have not ended, and to what they have started."""
    for pid in _groups:
        signal_group(pid, number)


def signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
