"""Google's Gemini API over the official SDK."""

import asyncio
import random
import re
import ssl
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx2
from google import genai
from google.genai import types

from goagents.errors import ConfigurationError, ProviderError, ProviderTimedOut
from goagents.providers.base import ModelEvent, ModelRequest
from goagents.providers.faults import Deadline, check_event_stream, parse_json, refuse_outside
from goagents.providers.gemini_answer import Answer
from goagents.providers.gemini_faults import body_fault, sdk_fault
from goagents.providers.gemini_request import NAME, path, request_body, wire_name
from goagents.providers.sse import EventDecoder

DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"
DEFAULT_API_VERSION = "v1beta"  # the SDK's own `v1` lacks features, and most servers that speak Gemini speak this one
_VERSION = re.compile(r"v\d+\w*")
_KEEPALIVE = 30.0  # seconds
_FIRST_DELAY = 0.5  # seconds before the first retry; doubled for each further one
_MAX_DELAY = 60.0  # seconds; who is asked to wait longer is told so instead
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})


class GeminiProvider:
    """The `gemini` provider: the Gemini API with an API key.

    The SDK makes the request (credentials, headers, errors); the event stream is read here, at a fraction of the
    SDK's cost a chunk, and retries before the first byte are made here, because the SDK's ignore what the vendor says
    about when to come back. `base_url` may end with or without a version, and then overrides `api_version`;
    `project_id` is the project that pays for the quota; `ca_bundle` is a PEM file trusted besides the system's.

    A refusal with some text is a response whose stop reason is `refusal`; one without any raises ProviderRefused.
    For settings see `request_body`.

    Raises ConfigurationError for an empty or ephemeral key, a malformed `base_url`, an unreadable `ca_bundle`, and
    with GOAGENTS_OFFLINE=1 for a server that is not on loopback.
    """

    name = NAME

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        project_id: str | None = None,
        api_version: str = DEFAULT_API_VERSION,
        max_connections: int = 1000,
        max_retries: int = 2,
        ca_bundle: str | None = None,
    ) -> None:
        if not api_key or api_key.startswith("auth_tokens/"):
            raise ConfigurationError("providers.gemini.api_key is empty or an ephemeral token: set GOOGLE_API_KEY")
        self._api_key = api_key
        self._base_url, self._api_version = split_base_url(base_url or DEFAULT_BASE_URL, api_version)
        refuse_outside(self._base_url)
        self._headers = {} if project_id is None else {"x-goog-user-project": project_id}
        self._max_connections = max_connections
        self._max_retries = max_retries
        self._tls = None if ca_bundle is None else _tls(ca_bundle)
        self._client: genai.Client | None = None
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        client, self._client = self._client, None
        session, self._session = self._session, None
        if client is not None:
            await client.aio.aclose()
            client.close()
        if session is not None:
            await session.close()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Call the model; see the port. The connection closes as soon as this generator does."""
        deadline = Deadline(request.timeout, self.name)
        body = request_body(request)
        response = await self._open(path(request.model), body, deadline)
        try:
            async for event in self._read(response, request, deadline):
                yield event
        except ProviderError:
            raise
        except Exception as error:  # every fault of SDK and wire; what is neither of them goes on as it is
            fault = sdk_fault(error, self._api_key)
            if fault is None:
                raise
            raise fault from error
        finally:
            response.close()  # of a body read to its end, this leaves the connection for the next call

    async def _open(self, where: str, body: dict[str, Any], deadline: Deadline) -> aiohttp.ClientResponse:
        for attempt in range(self._max_retries + 1):
            try:
                return await deadline.wait(self._ask(where, body, deadline))
            except ProviderTimedOut:
                raise
            except Exception as error:  # every fault of SDK and wire; what is neither of them goes on as it is
                fault = sdk_fault(error, self._api_key)
                if fault is None:
                    raise
                wait = _delay(fault, attempt)
                if attempt == self._max_retries or not _may_retry(error, fault) or wait > _MAX_DELAY:
                    raise fault from error
            await deadline.wait(asyncio.sleep(wait))
        raise AssertionError("the last attempt returns or raises")

    async def _ask(self, where: str, body: dict[str, Any], deadline: Deadline) -> aiohttp.ClientResponse:
        # The SDK's public stream parses each chunk several times, at 25 times the cost; this is the layer beneath it.
        api: Any = self._connected()._api_client  # noqa: SLF001
        options = types.HttpOptions(timeout=max(1, round(deadline.seconds * 1000)))
        request = api._build_request("post", where, dict(body), options)  # noqa: SLF001
        answer = await api._async_request(request, stream=True)  # noqa: SLF001
        response: aiohttp.ClientResponse = answer.response_stream
        return response

    def _connected(self) -> genai.Client:
        if self._client is None:
            connector = aiohttp.TCPConnector(limit=self._max_connections, keepalive_timeout=_KEEPALIVE)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=True)
            tls = self._tls or httpx2.create_ssl_context()
            self._client = genai.Client(
                vertexai=False,
                api_key=self._api_key,
                http_options=types.HttpOptions(
                    base_url=self._base_url,
                    api_version=self._api_version,
                    headers=self._headers,
                    aiohttp_client=self._session,
                    # One TLS context for all; left alone, the SDK makes three of 17 ms each. And no redirects: one
                    # would carry the key in its header to any other host.
                    client_args={"verify": tls},
                    async_client_args={"ssl": tls, "verify": tls, "allow_redirects": False},
                    # Given, though for one attempt: else the SDK sleeps up to 10 s to retry a refused connection.
                    retry_options=types.HttpRetryOptions(attempts=1),
                ),
            )
        return self._client

    async def _read(
        self, response: aiohttp.ClientResponse, request: ModelRequest, deadline: Deadline
    ) -> AsyncGenerator[ModelEvent, None]:
        check_event_stream(response.content_type, NAME)
        names = {wire_name(tool.name): tool.name for tool in request.tools}
        answer, decoder = Answer(request.model, names), EventDecoder(self.name)
        while received := await deadline.wait(response.content.readany()):
            for _, data in decoder.feed(received):
                chunk = parse_json(data, self.name)
                if "error" in chunk:
                    raise body_fault(chunk, self._api_key)
                for event in answer.feed(chunk):
                    yield event
        yield answer.response()


def _may_retry(error: Exception, fault: ProviderError) -> bool:
    code = getattr(error, "code", None)
    return code in _RETRIED if isinstance(code, int) else fault.retryable and not isinstance(fault, ProviderTimedOut)


def _delay(fault: ProviderError, attempt: int) -> float:
    if fault.retry_after is not None:
        return fault.retry_after
    return _FIRST_DELAY * 2.0**attempt * random.uniform(0.75, 1.25)  # noqa: S311 - spreads clients, hides nothing


def split_base_url(base_url: str, api_version: str) -> tuple[str, str]:
    """Return the URL without its version, and the version: its own, or `api_version`. Raises ConfigurationError."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"providers.gemini.base_url must be an http(s) URL, such as {DEFAULT_BASE_URL}")
    rest, _, last = parts.path.rstrip("/").rpartition("/")
    if _VERSION.fullmatch(last):
        return parts._replace(path=rest).geturl(), last
    return parts._replace(path=parts.path.rstrip("/")).geturl(), api_version


def _tls(ca_bundle: str) -> ssl.SSLContext:
    context = httpx2.create_ssl_context()
    try:
        context.load_verify_locations(ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"providers.gemini.ca_bundle {ca_bundle} is no readable PEM file: {error}") from error
    return context
