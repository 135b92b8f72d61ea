"""OpenAI, and every server that speaks its Chat Completions API, over the official SDK."""

import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from goagents.errors import ConfigurationError, ProviderError
from goagents.providers.base import ModelEvent, ModelRequest
from goagents.providers.faults import Deadline, check_event_stream, drain, parse_json, refuse_outside
from goagents.providers.openai_answer import Answer
from goagents.providers.openai_faults import sdk_fault, stream_fault
from goagents.providers.openai_request import request_body
from goagents.providers.sse import EventDecoder

NAME = "openai"
DEFAULT_BASE_URL = "https://api.openai.com/v1"
_VENDOR_HOSTS = ("openai.com", "openai.azure.com")
_VERSION = re.compile(r"v\d+\w*")
_CONNECT_TIMEOUT = 10.0  # seconds
_KEEPALIVE = 30.0  # seconds


class OpenAIProvider:
    """The `openai` provider: Chat Completions, which every OpenAI-compatible server behind `base_url` speaks too.

    The SDK makes the request (credentials, headers, retries before the first byte, errors); the event stream is read
    here, at a fraction of the SDK's cost a chunk. `base_url` may end with or without its version (`/v1`), and one that
    ends in `/chat/completions` is used as it stands. `ca_bundle` is a PEM file trusted besides the system's.

    Settings are passed through, known to the SDK or not, with three exceptions (see `request_body`): `max_tokens` goes
    as `max_completion_tokens` to OpenAI and its reasoning models, `reasoning: LEVEL` as `reasoning_effort`, and
    `tool_choice` and `parallel_tool_calls` only with tools.

    Raises ConfigurationError for an empty key, a malformed `base_url`, an unreadable `ca_bundle`, and with
    GOAGENTS_OFFLINE=1 for a server that is not on loopback.
    """

    name = NAME

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        org_id: str | None = None,
        project_id: str | None = None,
        max_connections: int = 1000,
        max_retries: int = 2,
        ca_bundle: str | None = None,
    ) -> None:
        if not api_key:
            raise ConfigurationError("providers.openai.api_key is empty: set OPENAI_API_KEY")
        url = complete_base_url(base_url or DEFAULT_BASE_URL)
        refuse_outside(url)
        host = urlsplit(url).hostname or ""
        self._modern = any(host == vendor or host.endswith(f".{vendor}") for vendor in _VENDOR_HOSTS)
        self._api_key = api_key
        self._client = openai.AsyncOpenAI(
            api_key=api_key,
            base_url=url,
            max_retries=max_retries,
            http_client=_http_client(max_connections, ca_bundle),
        )
        # Set afterwards: given None, the SDK would take them from the environment, and send them to any base_url.
        self._client.organization = org_id
        self._client.project = project_id

    async def aclose(self) -> None:
        await self._client.close()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Call the model; see the port. The connection closes as soon as this generator does."""
        deadline = Deadline(request.timeout, self.name)
        body = request_body(request, modern=self._modern)
        try:
            opening = self._open(body, request.timeout)
            response = await deadline.wait(opening.__aenter__())
            try:
                async for event in self._read(response, request.model, deadline):
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
        # Everything goes as extra_body: the SDK then neither walks the whole history to transform it, nor refuses
        # parameters newer than itself.
        return self._client.chat.completions.with_streaming_response.create(
            model=body["model"],
            messages=(),
            stream=True,
            extra_body=body,
            extra_headers={"Accept": "text/event-stream"},
            timeout=httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT)),
        )

    async def _read(self, response: Any, model: str, deadline: Deadline) -> AsyncGenerator[ModelEvent, None]:
        http = response.http_response
        check_event_stream(http.headers.get("content-type", ""), self.name)
        answer, decoder = Answer(self.name, model), EventDecoder(self.name)
        chunks = http.aiter_bytes()
        try:
            done = False
            while not done:
                try:
                    received = await deadline.wait(anext(chunks))
                except StopAsyncIteration:
                    break
                for name, data in decoder.feed(received):
                    if data.startswith(b"[DONE]"):
                        done = True
                        break
                    chunk = parse_json(data, self.name)
                    if name == "error" or chunk.get("error"):
                        raise stream_fault(chunk.get("error") or chunk, self._api_key)
                    for event in answer.feed(chunk):
                        yield event
            yield answer.response()
            await drain(chunks, self.name)
        finally:
            await chunks.aclose()


def complete_base_url(base_url: str) -> str:
    """Return `base_url` with `/v1` where no segment of its path is a version. Raises ConfigurationError."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("providers.openai.base_url must be an http(s) URL, such as https://api.openai.com")
    path = parts.path.rstrip("/")
    if path.endswith("/chat/completions"):
        return parts._replace(path=path.removesuffix("/chat/completions")).geturl()
    if not any(_VERSION.fullmatch(segment) for segment in path.split("/")):
        path += "/v1"
    return parts._replace(path=path).geturl()


def _http_client(max_connections: int, ca_bundle: str | None) -> httpx2.AsyncClient:
    limits = httpx2.Limits(
        max_connections=max_connections, max_keepalive_connections=max_connections, keepalive_expiry=_KEEPALIVE
    )
    if ca_bundle is None:
        return openai.DefaultAioHttpClient(limits=limits)
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"providers.openai.ca_bundle {ca_bundle} is no readable PEM file: {error}") from error
    return openai.DefaultAioHttpClient(limits=limits, verify=context)
