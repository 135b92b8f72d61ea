"""A circuit breaker: a server that fails again and again is left alone for a while.

Our own, because no kept library fits: purgatory and aiobreaker (no release in 2025 or 2026) and pybreaker read the wall
clock themselves, so that no test could own the time, and pybreaker is made for threads. State is the process's: a
fresh one begins closed, and finds out within a few calls.
"""

from dataclasses import dataclass
from typing import Literal

from goagents.clock import Clock
from goagents.spec.calling import CircuitBreakerSpec

State = Literal["closed", "half_open", "open"]
PROBING = 1.0  # seconds to tell a caller who comes while another call tries


class CircuitOpen(Exception):
    """The call is not to be made. `left`: seconds until one may be."""

    def __init__(self, left: float) -> None:
        super().__init__(left)
        self.left = left


@dataclass
class CircuitBreaker:
    """Closed until `spec.failures` failures in a row, then open for `spec.reset` seconds; then one call tries."""

    spec: CircuitBreakerSpec
    clock: Clock
    failures: int = 0
    opened: float | None = None
    probing: bool = False

    @property
    def state(self) -> State:
        if self.opened is None:
            return "closed"
        return "open" if self.left > 0 else "half_open"

    @property
    def left(self) -> float:
        """Seconds until a call may try; 0 where one may."""
        if self.opened is None:
            return 0.0
        return max(0.0, self.opened + self.spec.reset - self.clock.monotonic())

    def admit(self) -> bool:
        """Let a call through; True where it is the one that tries. Raises CircuitOpen."""
        if self.opened is None:
            return False
        if self.left > 0 or self.probing:
            raise CircuitOpen(self.left or PROBING)
        self.probing = True
        return True

    def succeeded(self) -> None:
        """The server answered, be it with an error about the arguments."""
        self.failures, self.opened, self.probing = 0, None, False

    def failed(self, *, probe: bool) -> None:
        self.failures += 1
        if probe:
            self.probing, self.opened = False, self.clock.monotonic()
        elif self.opened is None and 0 < self.spec.failures <= self.failures:
            self.opened = self.clock.monotonic()

    def released(self, *, probe: bool) -> None:
        """The call came to nothing that tells of the server: it was cancelled, or the run was out of time."""
        if probe:
            self.probing = False
