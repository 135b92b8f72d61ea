"""The Python client of a GoAgents server.

    with Client() as client:
        for event in client.stream("customer-support.intent-classifier", "Where is my order?"):
            print(event.type, event.data)

`Client` and `AsyncClient` have the same methods, written once in `operations`: on the one they return the answer, on
the other a coroutine of it. Layers: this package imports ids, errors, messages, resources and events, nothing of the
server.
"""

from collections.abc import Mapping

import httpx2

from .connection import Connection
from .drivers import AsyncDriver, SyncDriver
from .faults import RunWaiting, ServerTimedOut, ServerUnreachable, StreamEnded, UnexpectedAnswer
from .operations import Operations
from .transcript import Transcript

__all__ = [
    "AsyncClient",
    "Client",
    "RunWaiting",
    "ServerTimedOut",
    "ServerUnreachable",
    "StreamEnded",
    "Transcript",
    "UnexpectedAnswer",
]

TIMEOUT = 30.0
RUN_TIMEOUT = 900.0
RECONNECT_TIMEOUT = 60.0


class Client(SyncDriver, Operations):
    """A client whose methods block.

    `server` is found by the argument, `GOAGENTS_SERVER`, or is http://127.0.0.1:8080. The credential is `api_key`,
    `GOAGENTS_API_KEY`, or for an https server that is not this machine gcloud's identity token. `timeout` (seconds) is
    for what the server answers at once, `run_timeout` for the answer of `chat`. A stream that breaks is taken up again;
    `reconnect_timeout` is how long that may go on without progress until it is given up, 0 never tries. `transport`
    replaces the network. Raises Invalid for an address that is none.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        run_timeout: float = RUN_TIMEOUT,
        reconnect_timeout: float = RECONNECT_TIMEOUT,
        namespace: str = "default",
        headers: Mapping[str, str] | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.namespace = namespace
        self.run_timeout = run_timeout
        self.reconnect_timeout = reconnect_timeout
        super().__init__(Connection.find(server, api_key, timeout, headers), transport)


class AsyncClient(AsyncDriver, Operations):
    """A client whose methods are coroutines and async iterators; the arguments are those of `Client`."""

    def __init__(
        self,
        server: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        run_timeout: float = RUN_TIMEOUT,
        reconnect_timeout: float = RECONNECT_TIMEOUT,
        namespace: str = "default",
        headers: Mapping[str, str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.namespace = namespace
        self.run_timeout = run_timeout
        self.reconnect_timeout = reconnect_timeout
        super().__init__(Connection.find(server, api_key, timeout, headers), transport)
