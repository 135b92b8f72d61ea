"""The command line on a real (pseudo) terminal."""

import os
import pty
import re
import subprocess
import sys
import time

# Makes the pseudo-terminal the controlling one, as a shell does: only then Ctrl-C becomes a signal.
LAUNCH = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from goagents.cli.main import main
main()
"""


class Terminal:
    """The command on a pseudo-terminal of its own; `screen` is what it has written there."""

    def __init__(self, url: str, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        command = [sys.executable, "-c", LAUNCH, *arguments]
        environment = {**os.environ, "GOAGENTS_SERVER": url, "TERM": "xterm"}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        self.screen = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def await_text(self, pattern: str) -> None:
        until = time.monotonic() + 60
        while not re.search(pattern, self.screen):
            assert time.monotonic() < until, f"{pattern!r} did not appear:\n{self.screen}"
            self._read()
            time.sleep(0.02)

    def _read(self) -> None:
        try:
            self.screen += os.read(self._master, 65536).decode(errors="replace")
        except (BlockingIOError, OSError):
            return

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        os.close(self._master)
