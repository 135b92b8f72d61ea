"""What a call came to on its way through the pipeline."""

from dataclasses import dataclass
from typing import Literal

from goagents.tools.base import ToolResult

Cache = Literal["hit", "miss", "shared"]


@dataclass(frozen=True, slots=True)
class Done:
    """`outcome` as ToolCallFinished has it. `foreign`: the words are the tool's, not ours.

    `sent` is False where the call surely never reached a server. `cut`: the run's own end cut it short. `cache` is how
    the result cache had to do with it: "shared" is the answer of a call that was under way. `unknown`: an unsafe call
    reached its server, or may have, and no answer came.
    """

    outcome: str
    result: ToolResult
    foreign: bool = False
    sent: bool = True
    cut: bool = False
    attempts: int = 1
    cache: Cache | None = None
    unknown: bool = False

    @property
    def retry_after(self) -> float | None:
        return self.result.retry_after
