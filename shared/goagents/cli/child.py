"""A serving process as its parent sees it: started, awaited, stopped, together with the workers it forks."""

import asyncio
import os
import signal
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import httpx2

from goagents.errors import GoAgentsError

START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0


def trust(certificate: str | None) -> ssl.SSLContext | bool:
    """Return what to verify the serving process by: the certificate it serves, if it does."""
    if certificate is None:
        return False
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False  # it is asked for by its address; the certificate is the file's own
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # and trusted for itself, whoever issued it
    return context


class Child:
    """A process group of its own: Ctrl-C in the terminal reaches the parent only, which ends it in order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> "Child":
        """Start `module`, which ends with this process. Modules of the working directory are none of its own."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            module,
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Wait for its end. Return the exit status, 128 + N after signal N."""
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    async def ready(self, url: str, certificate: str | None) -> None:
        """Wait until it serves; by then it has read its configuration and opened the store.

        Raises GoAgentsError if it ends before, or is not ready within 30 s.
        """
        until = time.monotonic() + START_TIMEOUT
        found = "it does not listen"
        async with httpx2.AsyncClient(verify=trust(certificate), trust_env=False, timeout=5.0) as client:
            while self._process.returncode is None and time.monotonic() < until:
                try:
                    response = await client.get(f"{url}/ready")
                except httpx2.TransportError as error:
                    found = f"it does not answer ({error})"
                else:
                    if response.is_success:
                        return
                    found = response.text
                await asyncio.sleep(0.05)
        if self._process.returncode is None:
            raise GoAgentsError(f"the serving process is not ready within {START_TIMEOUT:.0f} s: {found}")
        raise GoAgentsError(f"the serving process ended with status {await self.wait()} before it served")

    async def listening(self, host: str, port: int) -> None:
        """Wait until it takes connections. Raises GoAgentsError if it ends before, or does not within 30 s."""
        until = time.monotonic() + START_TIMEOUT
        while self._process.returncode is None and time.monotonic() < until:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return
        if self._process.returncode is None:
            raise GoAgentsError(f"it does not listen on {host}:{port} within {START_TIMEOUT:.0f} s")
        raise GoAgentsError(f"it ended with status {await self.wait()} before it served")

    async def stop(self) -> None:
        """Ask it to end, wait 10 s, then end it and what it forked."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM, group=False)
            with suppress(TimeoutError):  # the group is ended below
                await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT)
        self.kill()
        await self._process.wait()

    def kill(self) -> None:
        """End at once what is left of it: a worker outlives its master's SIGKILL."""
        self._signal(signal.SIGKILL, group=True)

    def _signal(self, number: signal.Signals, *, group: bool) -> None:
        try:
            os.killpg(self.pid, number) if group else os.kill(self.pid, number)
        except ProcessLookupError:
            return
