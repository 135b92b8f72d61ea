"""The Python client of a GoAgents server.

    with Client() as client:
        for event in client.stream("customer-support.intent-classifier", "Where is my order?"):
            print(event.type, event.data)

`Client` and `AsyncClient` have the same methods, written once in `operations`: on the one they return the answer, on
the other a coroutine of it. Layers: this package imports errors, messages, resources and events, nothing of the server.
"""

from collections.abc import Mapping

import httpx2

from .connection import Connection
from .drivers import AsyncDriver, SyncDriver
from .faults import ServerTimedOut, ServerUnreachable, StreamEnded, UnexpectedAnswer
from .operations import Operations

__all__ = [
    "AsyncClient",
    "Client",
    "ServerTimedOut",
    "ServerUnreachable",
    "StreamEnded",
    "UnexpectedAnswer",
]

TIMEOUT = 30.0
RUN_TIMEOUT = 900.0


class Client(SyncDriver, Operations):
    """A client whose methods block.

    `server` is found by the argument, `GOAGENTS_SERVER`, or is http://127.0.0.1:8080. The credential is `api_key`,
    `GOAGENTS_API_KEY`, or for an https server that is not this machine gcloud's identity token. `timeout` (seconds) is
    for what the server answers at once, `run_timeout` for the answer of `chat`. `transport` replaces the network.
    Raises Invalid for an address that is none.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        run_timeout: float = RUN_TIMEOUT,
        namespace: str = "default",
        headers: Mapping[str, str] | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.namespace = namespace
        super().__init__(Connection.find(server, api_key, timeout, run_timeout, headers), transport)


class AsyncClient(AsyncDriver, Operations):
    """A client whose methods are coroutines and async iterators; the arguments are those of `Client`."""

    def __init__(
        self,
        server: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        run_timeout: float = RUN_TIMEOUT,
        namespace: str = "default",
        headers: Mapping[str, str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.namespace = namespace
        super().__init__(Connection.find(server, api_key, timeout, run_timeout, headers), transport)
