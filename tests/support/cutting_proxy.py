"""A TCP proxy on 127.0.0.1 that a test tells to fail: to swallow answers, to cut them off, to refuse connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class CuttingProxy:
    """Passes bytes both ways. `mode`: "pass"; "cut" ends each connection as soon as the server answers on it, without
    passing the answer on; "silent" passes nothing back and keeps the connection."""

    def __init__(self, host: str, port: int) -> None:
        self.mode = "pass"
        self.address = ""
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, up_writer}
        ways = [
            asyncio.create_task(self._pump(reader, up_writer, answers=False)),
            asyncio.create_task(self._pump(up_reader, writer, answers=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._writers -= {writer, up_writer}
            for one in (writer, up_writer):
                one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if answers and self.mode == "cut":
                    await asyncio.sleep(0.3)  # the rest of the request arrives, and is carried out
                    return
                if answers and self.mode == "silent":
                    continue
                writer.write(data)
                await writer.drain()

    def disconnect(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def cutting_proxy(address: str) -> AsyncIterator[CuttingProxy]:
    """Run a proxy in front of `address` (`host:port`); its own is `proxy.address`."""
    host, _, port = address.rpartition(":")
    proxy = CuttingProxy(host, int(port))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.disconnect()
        await asyncio.sleep(0.05)  # the handlers see their connections end
