"""The serving process of `goagents run`: functions-framework's own server around the gateway.

    python -m goagents.cli.serve HOST PORT [CERT KEY]

Its parent holds the other end of standard input: when the parent ends, even by SIGKILL, so does this; and so does the
worker that it forks, whichever of those above it are killed.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from functions_framework._http import create_server
from functions_framework.aio import create_asgi_app

GRACEFUL_TIMEOUT = 8  # seconds: less than the parent waits
KEEP_ALIVE = 30  # seconds: more than clients keep an idle connection
_LOOK = 1.0  # seconds between looks at the process above


def _end_with_parents(_arbiter: Any, worker: Any) -> None:
    """Runs in the forked worker: nothing with a thread may exist before the fork."""
    threading.Thread(target=_watch, args=(worker.ppid,), name="parents", daemon=True).start()


def _watch(master: int) -> None:
    """Once the process above the master has died have the master end us, who sees to the time it takes; without a
    master, now or while it is at it, end by ourselves."""
    told = False
    while os.getppid() == master:
        if told:
            time.sleep(_LOOK)
        elif select.select([0], [], [], _LOOK)[0] and not os.read(0, 1):
            told = True
            with suppress(ProcessLookupError):  # it died this moment
                os.kill(master, signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACEFUL_TIMEOUT)
    os.kill(os.getpid(), signal.SIGKILL)  # as the master would


OPTIONS: Mapping[str, Any] = {
    "graceful_timeout": GRACEFUL_TIMEOUT,
    "keepalive": KEEP_ALIVE,
    "post_fork": _end_with_parents,
    "control_socket_disable": True,  # gunicorn would make a socket in the user's home
}


def main(arguments: list[str]) -> None:
    host, port, *tls = arguments
    options = dict(OPTIONS)
    if tls:
        options |= {"certfile": tls[0], "keyfile": tls[1]}
    app = create_asgi_app(  # type: ignore[no-untyped-call]
        target="gateway", source=str(Path(__file__).with_name("gateway.py"))
    )
    address = f"[{host}]" if ":" in host else host
    create_server(app, False, **options).run(address, int(port))  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(sys.argv[1:])
