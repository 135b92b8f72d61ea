"""An ASGI application on a free loopback port, in a thread of the test process."""

import socket
import threading
import time
from types import TracebackType
from typing import Any, Self

import uvicorn

_START_TIMEOUT = 10.0


class AsgiServer:
    """`with AsgiServer(app) as server: server.url`. The port is bound before uvicorn starts, so it cannot be lost."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(
            app,
            interface="asgi3",
            log_level="critical",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(1024)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        until = time.monotonic() + _START_TIMEOUT
        while not self._server.started:
            if time.monotonic() > until or not self._thread.is_alive():
                raise RuntimeError("the server did not start")
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(_START_TIMEOUT)
        self._socket.close()
        if self._thread.is_alive():
            raise RuntimeError("the server did not stop")
