"""How far one message got: noted by the transports, read by whoever decides whether a call may be repeated."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass

MAX_MESSAGE = 16 << 20  # bytes of one message of a server
TRANSPORT_FAILED = -32098  # the code of the errors that our transports answer with in a server's place


@dataclass(slots=True)
class Delivery:
    """`sent`: the server may have read it. `status`: of the HTTP answer. `failure`: what went wrong below the protocol.

    `session`: the request named a session. `task` waits for the answer; it is cancelled where none can come.
    """

    sent: bool = False
    status: int | None = None
    failure: str | None = None
    session: bool = False
    task: "asyncio.Task[object] | None" = None

    def fail(self, failure: str, *, sent: bool) -> None:
        self.failure, self.sent = failure, sent

    @property
    def session_is_gone(self) -> bool:
        """Servers answer 404 to a session they do not know, as the protocol says, or 400, as many do."""
        return self.session and self.status in (400, 404)


DELIVERY: ContextVar[Delivery | None] = ContextVar("goagents_mcp_delivery", default=None)


def current() -> Delivery:
    """Return the delivery of this context; outside a call, one that nobody reads."""
    return DELIVERY.get() or Delivery()
