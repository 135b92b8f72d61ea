"""Free ports for what tests start, and when it listens on them."""

import socket
import subprocess
import time


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def await_port(process: "subprocess.Popen[bytes]", port: int, seconds: float) -> None:
    """Wait until `process` listens on 127.0.0.1. Raises AssertionError where it ends before, or takes longer."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AssertionError(f"{process.args!r} ended with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"nothing listens on port {port}")
