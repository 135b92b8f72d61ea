"""Where a browser is sent back to at the end of a login: an HTTP server on this machine, for one answer."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from goagents.errors import ConfigurationError, ToolFailed

DEFAULT = "http://127.0.0.1:0/callback"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>GoAgents</title>
<p>%s You may close this window.</p></html>"""
_HEADERS = {"Content-Security-Policy": "default-src 'none'", "Referrer-Policy": "no-referrer"}
_MAX_SAID = 300


class Loopback:
    """`url` is what the client is registered with. It answers what belongs to the login that `expect` named, alone."""

    def __init__(self) -> None:
        self.url = ""
        self._state: str | None = None
        self._answer: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    def expect(self, authorization_url: str) -> None:
        """Wait for the answer to this request: any other's is refused, whoever sends it."""
        (self._state,) = parse_qs(urlsplit(authorization_url).query)["state"]
        self._answer = asyncio.get_running_loop().create_future()

    async def answer(self, seconds: float) -> dict[str, str]:
        """Return the parameters of the redirect. Raises ToolFailed where the login was refused, or took too long."""
        try:
            async with asyncio.timeout(seconds):
                answer = await self._answer
        except TimeoutError as error:
            raise ToolFailed(f"nobody signed in within {seconds:g} s") from error
        if "code" not in answer:
            said = f"{answer.get('error', 'no code')} {answer.get('error_description', '')}".strip()
            raise ToolFailed(f"the authorization server refused the login: {said[:_MAX_SAID]}")
        return answer

    async def handle(self, request: web.Request) -> web.Response:
        """A parameter that is given twice counts as not given: nobody knows which one is meant."""
        given = {name: request.query[name] for name in request.query if len(request.query.getall(name)) == 1}
        state = given.get("state", "").encode()
        if self._state is None or self._answer.done() or not secrets.compare_digest(state, self._state.encode()):
            return _page("This belongs to no login that is under way.", 400)
        self._answer.set_result(given)
        return _page("You are signed in." if "code" in given else "The login was refused.", 200)


@asynccontextmanager
async def loopback(url: str = DEFAULT) -> AsyncIterator[Loopback]:
    """Listen at `url`; port 0 stands for any free one. Raises ConfigurationError where the port is taken."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    back = Loopback()
    app = web.Application()
    app.router.add_get(parts.path or "/", back.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, parts.port or 0).start()
        except OSError as error:
            raise ConfigurationError(
                f"{host}:{parts.port} cannot be listened at ({error.strerror}): end what uses it, or change "
                "`oauth.redirect_url`"
            ) from error
        port = runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        back.url = f"http://{shown}:{port}{parts.path}"
        yield back
    finally:
        await runner.cleanup()


def _page(text: str, status: int) -> web.Response:
    return web.Response(text=_PAGE % text, status=status, content_type="text/html", headers=_HEADERS)
