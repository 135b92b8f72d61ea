"""How much time this process has for a run, and when to hand it on.

A run takes as long as it takes; an invocation does not. Between two steps there is a moment at which another process
can go on without losing anything, so the run is handed on there, before the time is up.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from goagents.clock import Clock

MARGIN = 5.0  # seconds
SHARE = 0.2  # of the whole time, where that is less
TOOLS_SHARE = 0.5  # of the whole time, which is enough for tools that may need more: most need far less


class HandOffDue(Exception):
    """Between two steps, as time or the server's end comes near."""


@dataclass
class Pace:
    """`seconds` is what this process has from now on, `left` what the whole run has left.

    `most`: no other process would have more, so a call that does not fit never will. `wanted` tells whether somebody
    asked for the run to be handed on.
    """

    clock: Clock
    seconds: float
    left: float
    most: bool
    wanted: Callable[[], bool]
    started: float = field(init=False)
    steps: int = 0
    _step_began: float = field(init=False)
    _longest: float = 0.0

    def __post_init__(self) -> None:
        self.started = self._step_began = self.clock.monotonic()

    @property
    def limit(self) -> float:
        """The seconds from the start until this process has to be done, or the run is out of time."""
        return max(0.0, min(self.seconds, self.left))

    @property
    def deadline(self) -> float:
        return self.started + self.limit

    @property
    def remaining(self) -> float:
        return max(0.0, self.deadline - self.clock.monotonic())

    @property
    def is_runs_own(self) -> bool:
        """Whether it is the run that is out of time, not this process."""
        return self.left <= self.seconds

    def check(self, needed: float = 0.0) -> None:
        """Raises HandOffDue where the next step, which may take `needed` seconds, had better be another process's.

        Never before a step was taken here, unless somebody asked for it: a run that is handed on forever gets nowhere.
        """
        if self.wanted():
            raise HandOffDue
        if self.is_runs_own or not self.steps:
            return
        margin = min(MARGIN, SHARE * self.seconds)
        if self.remaining < max(margin, self._longest, min(needed + margin, TOOLS_SHARE * self.seconds)):
            raise HandOffDue

    def step_done(self) -> None:
        now = self.clock.monotonic()
        self.steps += 1
        self._longest = max(self._longest, now - self._step_began)
        self._step_began = now
