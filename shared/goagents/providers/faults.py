"""What the adapters of real vendors share: faults of the wire as our errors, a stream's deadline, the offline switch.

An adapter knows its SDK's error classes; what lies beneath them (httpx2, aiohttp, JSON) is the same for all of them.
"""

import asyncio
import ipaddress
import json
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import httpx2

from goagents.errors import (
    ConfigurationError,
    ProviderAuthenticationFailed,
    ProviderConnectionFailed,
    ProviderError,
    ProviderInvalidRequest,
    ProviderModelNotFound,
    ProviderOverloaded,
    ProviderPermissionDenied,
    ProviderProtocolError,
    ProviderRateLimited,
    ProviderTimedOut,
    ProviderUnavailable,
)

DRAIN = 0.1  # seconds
T = TypeVar("T")

OFFLINE_VARIABLE = "GOAGENTS_OFFLINE"
_MAX_DETAIL = 500  # characters of a vendor's message that we repeat
_MAX_RETRY_AFTER = 24 * 3600.0  # seconds; a vendor's clock may be wrong, and nobody waits longer
_MAX_CAUSES = 8

# The first entry that fits decides. aiohttp comes first: the SDKs' aiohttp transport reports a refused connection as a
# timeout, and only the cause beneath it tells the truth.
_AIOHTTP_FAULTS: tuple[tuple[type[BaseException], type[ProviderError]], ...] = (
    (aiohttp.ServerTimeoutError, ProviderTimedOut),
    (aiohttp.ClientConnectionError, ProviderConnectionFailed),
    (aiohttp.ClientPayloadError, ProviderConnectionFailed),
    (aiohttp.ClientError, ProviderProtocolError),
)
_OTHER_FAULTS: tuple[tuple[type[BaseException], type[ProviderError]], ...] = (
    (httpx2.TimeoutException, ProviderTimedOut),
    (httpx2.NetworkError, ProviderConnectionFailed),
    (httpx2.RemoteProtocolError, ProviderConnectionFailed),  # how httpx2 reports a connection cut within a body
    (httpx2.ProxyError, ProviderConnectionFailed),
    (httpx2.RequestError, ProviderProtocolError),
    (httpx2.StreamError, ProviderProtocolError),
    (json.JSONDecodeError, ProviderProtocolError),
    (UnicodeDecodeError, ProviderProtocolError),
    (TimeoutError, ProviderTimedOut),
    (ssl.SSLError, ProviderConnectionFailed),
    (ConnectionError, ProviderConnectionFailed),
    (OSError, ProviderConnectionFailed),
)
_MEANING: dict[type[ProviderError], str] = {
    ProviderTimedOut: "did not answer in time",
    ProviderConnectionFailed: "could not be reached, or the connection broke",
    ProviderProtocolError: "sent an answer that cannot be read",
}

_STATUS_FAULTS: dict[int, type[ProviderError]] = {
    401: ProviderAuthenticationFailed,
    402: ProviderPermissionDenied,
    403: ProviderPermissionDenied,
    404: ProviderModelNotFound,
    408: ProviderTimedOut,
    409: ProviderUnavailable,  # a lock on the vendor's side; their SDKs retry it too
    429: ProviderRateLimited,
    503: ProviderOverloaded,  # so do OpenAI and Gemini document it
    504: ProviderTimedOut,
    529: ProviderOverloaded,
}


def transport_fault(error: BaseException, provider: str) -> ProviderError | None:
    """Return what a fault beneath the SDK means, or None where it is none of ours (a bug, a cancellation).

    Covers httpx2, aiohttp, TLS, sockets, timeouts, malformed JSON and malformed UTF-8, also as the cause of an SDK's
    own error. A connection cut within an answer is ProviderConnectionFailed; an answer that ended cleanly but too
    early the adapter must notice itself, and that is ProviderProtocolError.
    """
    for table in (_AIOHTTP_FAULTS, _OTHER_FAULTS):
        for cause in _causes(error):
            kind = next((kind for fault, kind in table if isinstance(cause, fault)), None)
            if kind is not None:
                reason = vendor_message(str(cause)) or type(cause).__name__
                return kind(f"{provider} {_MEANING[kind]}: {reason}")
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(_MAX_CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__  # not __context__: that may be a bug of ours while handling the fault


def status_fault(status: int) -> type[ProviderError]:
    """Return the class for a vendor's HTTP status, for where its body says nothing more precise."""
    if status in _STATUS_FAULTS:
        return _STATUS_FAULTS[status]
    if status >= 500:
        return ProviderUnavailable
    return ProviderInvalidRequest if status >= 400 else ProviderProtocolError


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a vendor asks us to wait (`Retry-After` as seconds or date, `Retry-After-Ms`), or None.

    `headers` looks names up without regard to case, as httpx2's do.
    """
    seconds = _seconds(headers.get("retry-after-ms"), 0.001)
    if seconds is None:
        seconds = _seconds(headers.get("retry-after"), 1.0)
    if seconds is None:
        return None
    return min(max(0.0, seconds), _MAX_RETRY_AFTER)  # this order makes 0 of a NaN


def _seconds(value: str | None, unit: float) -> float | None:
    if not value:
        return None
    try:
        return float(value) * unit
    except ValueError:
        pass  # then it is a date, or nothing we know
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (aware - datetime.now(UTC)).total_seconds()


def vendor_message(text: str, *secrets: str) -> str:
    """Return a vendor's message on one line, bounded, without the `secrets` some servers repeat in it."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[redacted]")
    line = " ".join(text.split())
    return line if len(line) <= _MAX_DETAIL else line[: _MAX_DETAIL - 1] + "…"


def parse_json(text: str | bytes, provider: str) -> dict[str, Any]:
    """Return the JSON object in `text`. Raises ProviderProtocolError for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProviderProtocolError(f"{provider} sent malformed JSON in its answer") from error
    if not isinstance(value, dict):
        raise ProviderProtocolError(f"{provider} sent {type(value).__name__} where a JSON object belongs")
    return value


class Deadline:
    """The moment by which a whole stream must be over. Raises ProviderTimedOut from `wait` and `each`.

    Each await has its own timer until that moment, rather than one `asyncio.timeout` around the generator: a timer
    left running across a `yield` would cancel whatever the consumer is doing by then.
    """

    def __init__(self, seconds: float, provider: str) -> None:
        self.seconds = seconds
        self.provider = provider
        self._when = asyncio.get_running_loop().time() + seconds

    async def wait(self, awaitable: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout_at(self._when):
                return await awaitable
        except TimeoutError as error:
            raise ProviderTimedOut(f"{self.provider} did not finish its answer within {self.seconds:g} s") from error

    async def each(self, source: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        """Yield what `source` yields; close it (where it can be closed) when the consumer stops or time is up."""
        try:
            while True:
                try:
                    item = await self.wait(anext(source))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()


def refuse_outside(base_url: str) -> None:
    """Raise ConfigurationError where GOAGENTS_OFFLINE=1 and `base_url` is not on this machine's loopback.

    The switch of test suites: with it no test can reach, or pay for, a real model by mistake. Every adapter that
    talks to a vendor calls this in its constructor.
    """
    if os.environ.get(OFFLINE_VARIABLE) != "1":
        return
    host = urlsplit(base_url).hostname or ""
    if _is_loopback(host):
        return
    raise ConfigurationError(
        f"{OFFLINE_VARIABLE}=1 allows model providers on loopback only, and base_url is {host or 'no URL'}: "
        f"point base_url to a local server, or unset {OFFLINE_VARIABLE}"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_event_stream(content_type: str, provider: str) -> None:
    """Raise ProviderProtocolError for an answer that is no stream of events."""
    if content_type.partition(";")[0].strip().lower() != "text/event-stream":
        raise ProviderProtocolError(
            f"{provider} answered with content type {vendor_message(content_type) or 'none'} in place of an event "
            f"stream: check providers.{provider}.base_url"
        )


async def drain(chunks: AsyncIterator[bytes], provider: str) -> None:
    """Read the end of a body whose answer is complete, so that the connection can serve the next call."""
    deadline = Deadline(DRAIN, provider)
    try:
        while True:
            await deadline.wait(anext(chunks))
    except (StopAsyncIteration, ProviderTimedOut, httpx2.HTTPError):
        return  # whatever happened, the answer is whole; the connection is closed where it is not at its end
