"""What an error of a tool tells of trying again."""

import copy
from typing import Literal, Self

Fault = Literal["server", "busy"]
_BUSY = frozenset({425, 429})  # come back later, and it may do
_LASTING = frozenset({501, 505, 511})  # of 500 and above: the same another time


def fault_of_status(status: int) -> Fault | None:
    """Return what a status of HTTP tells of another attempt."""
    if status in _BUSY:
        return "busy"
    return "server" if status == 408 or (status >= 500 and status not in _LASTING) else None


class Attempted(Exception):
    """`fault` says why another attempt may come to something else: the server failed ("server": no connection, no
    answer in time, a status of 500 and above), or asks to be called later ("busy"). `sent` is False where the call
    surely never reached it. `defect` is what foreign code raised: its text may hold anything, so whoever catches this
    takes the secrets out and tells the log.
    """

    fault: Fault | None = None
    sent: bool = True
    defect: BaseException | None = None
    detail: str

    def because(self, fault: Fault | None, *, sent: bool = True) -> Self:
        self.fault, self.sent = fault, sent
        return self

    def of_defect(self, defect: BaseException) -> Self:
        self.defect = defect
        return self

    def saying(self, detail: str) -> Self:
        """Return the same error in other words."""
        said = copy.copy(self)
        said.detail, said.args = detail, (detail,)
        return said
