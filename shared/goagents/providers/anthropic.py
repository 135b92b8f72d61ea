"""Anthropic's Messages API over the official SDK."""

import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx2

from goagents.errors import ConfigurationError, ProviderError
from goagents.providers.anthropic_answer import Answer
from goagents.providers.anthropic_faults import body_fault, sdk_fault
from goagents.providers.anthropic_request import NAME, request_body
from goagents.providers.base import ModelEvent, ModelRequest
from goagents.providers.faults import Deadline, check_event_stream, drain, parse_json, refuse_outside
from goagents.providers.sse import EventDecoder

DEFAULT_BASE_URL = "https://api.anthropic.com"
# Not the SDK's 2026-10-21, whose only change for us is that it refuses temperature, top_p and top_k of every model.
DEFAULT_VERSION = "2023-06-01"
_VERSION_HEADER = re.compile(r"[\w.-]+")
_CONNECT_TIMEOUT = 10.0  # seconds
_KEEPALIVE = 30.0  # seconds


class AnthropicProvider:
    """The `anthropic` provider.

    The SDK makes the request (credentials, headers, retries before the first byte, errors); the event stream is read
    here, at a fraction of the SDK's cost a chunk. `base_url` may end with or without `/v1`; `version` is the header
    `anthropic-version` (default: 2023-06-01); `ca_bundle` is a PEM file trusted besides the system's.

    Settings are passed through as fields of the request, known to the SDK or not, except `reasoning` and `max_tokens`
    (see `request_body`) and `betas`, a list that becomes the header `anthropic-beta`. A refusal with some text is a
    response whose stop reason is `refusal`; one without any raises ProviderRefused.

    Raises ConfigurationError for an empty key, a malformed `base_url` or `version`, an unreadable `ca_bundle`, and
    with GOAGENTS_OFFLINE=1 for a server that is not on loopback.
    """

    name = NAME

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        version: str | None = None,
        max_connections: int = 1000,
        max_retries: int = 2,
        ca_bundle: str | None = None,
    ) -> None:
        if not api_key:
            raise ConfigurationError("providers.anthropic.api_key is empty: set ANTHROPIC_API_KEY")
        version = version or DEFAULT_VERSION
        if not _VERSION_HEADER.fullmatch(version):
            raise ConfigurationError("providers.anthropic.version must be a version of the API, such as 2023-06-01")
        self._api_key = api_key
        self._base_url = plain_base_url(base_url or DEFAULT_BASE_URL)
        refuse_outside(self._base_url)
        self._headers = {"anthropic-version": version}
        self._max_connections = max_connections
        self._max_retries = max_retries
        self._tls = None if ca_bundle is None else _tls(ca_bundle)
        self._client: anthropic.AsyncAnthropic | None = None

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Call the model; see the port. The connection closes as soon as this generator does."""
        deadline = Deadline(request.timeout, self.name)
        body = request_body(request)
        try:
            opening = self._open(body, request.timeout)
            response = await deadline.wait(opening.__aenter__())
            try:
                async for event in self._read(response.http_response, request.model, deadline):
                    yield event
            finally:
                await opening.__aexit__(None, None, None)
        except ProviderError:
            raise
        except Exception as error:  # every fault of SDK and wire; what is neither of them goes on as it is
            fault = sdk_fault(error, self._api_key)
            if fault is None:
                raise
            raise fault from error

    def _open(self, body: dict[str, Any], timeout: float) -> AbstractAsyncContextManager[Any]:
        headers = {"Accept": "text/event-stream"}
        if betas := body.pop("betas", None):
            headers["anthropic-beta"] = ",".join([betas] if isinstance(betas, str) else betas)
        # Everything goes as extra_body: the SDK then neither walks the whole history to transform it, nor refuses
        # parameters newer than itself, nor warns on each call of models that it considers old.
        return self._connected().messages.with_streaming_response.create(
            model="",
            max_tokens=0,
            messages=(),
            stream=True,
            extra_body=body,
            extra_headers=headers,
            timeout=httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT)),
        )

    def _connected(self) -> anthropic.AsyncAnthropic:
        if self._client is None:
            limits = httpx2.Limits(
                max_connections=self._max_connections,
                max_keepalive_connections=self._max_connections,
                keepalive_expiry=_KEEPALIVE,
            )
            tls: Any = {} if self._tls is None else {"verify": self._tls}
            self._client = anthropic.AsyncAnthropic(
                api_key=self._api_key,
                base_url=self._base_url,
                default_headers=self._headers,
                max_retries=self._max_retries,
                http_client=anthropic.DefaultAioHttpClient(limits=limits, **tls),
            )
        return self._client

    async def _read(self, http: httpx2.Response, model: str, deadline: Deadline) -> AsyncGenerator[ModelEvent, None]:
        check_event_stream(http.headers.get("content-type", ""), NAME)
        answer, decoder = Answer(model), EventDecoder(self.name)
        chunks: Any = http.aiter_bytes()
        try:
            while not answer.finished:
                try:
                    received = await deadline.wait(anext(chunks))
                except StopAsyncIteration:
                    break
                for name, data in decoder.feed(received):
                    event = parse_json(data, self.name)
                    if name == "error" or event.get("type") == "error":
                        raise body_fault(event, self._api_key)
                    delta = answer.feed(event)
                    if delta is not None:
                        yield delta
            yield answer.response()
            await drain(chunks, NAME)
        finally:
            await chunks.aclose()


def plain_base_url(base_url: str) -> str:
    """Return `base_url` without a trailing `/v1`, which the SDK adds. Raises ConfigurationError."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"providers.anthropic.base_url must be an http(s) URL, such as {DEFAULT_BASE_URL}")
    path = parts.path.rstrip("/").removesuffix("/messages").removesuffix("/v1")
    return parts._replace(path=path).geturl()


def _tls(ca_bundle: str) -> ssl.SSLContext:
    context = httpx2.create_ssl_context()
    try:
        context.load_verify_locations(ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"providers.anthropic.ca_bundle {ca_bundle} is no readable PEM file: {error}"
        ) from error
    return context
