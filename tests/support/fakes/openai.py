"""A strict fake of OpenAI's Chat Completions: refuses what the vendor refuses, and can fail in every way it can.

In a test: `with FakeOpenAI() as fake: fake.replies.append(Reply(text="Hi")); provider(base_url=fake.url)`.
Without a reply in the queue it repeats the last user text.

As the fast upstream of a benchmark, in its own process: `python -m tests.support.fakes.openai --port 9001`. The model
`bench-20-100` then answers with 20 chunks at 100 ms each, which cost it next to nothing.
"""

import argparse
import asyncio
import json
import re
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import uvicorn
from tests.support.asgi_server import AsgiServer

Json = dict[str, Any]

KEY = "sk-test-0123456789abcdef"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BENCH = re.compile(r"bench-(\d+)-(\d+)")
_KNOWN = frozenset(
    {"messages", "model", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "temperature"}
    | {"top_p", "max_tokens", "max_completion_tokens", "response_format", "reasoning_effort", "seed", "stop", "user"}
    | {"metadata", "service_tier", "verbosity", "presence_penalty", "frequency_penalty", "logit_bias", "store"}
)


@dataclass
class Reply:
    """What the next request gets. `tool_calls` are (name, arguments) with the arguments as JSON text.

    `fault`: `cut` (connection lost), `early_end` (clean end, unfinished), `no_done` (finished, without `[DONE]`),
    `bad_json`, `content_type`, `error_event`, `hang`; it comes after `fault_after` pieces.
    """

    text: str = ""
    reasoning: str = ""
    reasoning_field: str = "reasoning_content"
    refusal: str = ""
    tool_calls: tuple[tuple[str, str], ...] = ()
    finish: str | None = None
    piece: int = 6
    first_delay: float = 0.0
    chunk_delay: float = 0.0
    fault: str | None = None
    fault_after: int = 2
    error: Json = field(default_factory=lambda: {"message": "The server had an error", "type": "server_error"})
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # with a status: this in place of the vendor's error format
    usage: Json | None = None
    raw_chunks: tuple[Json, ...] = ()  # these in place of the generated ones


class Refused(Exception):
    """The request is one the vendor would refuse."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        kind = "invalid_request_error"
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class FakeOpenAI:
    def __init__(self, *, api_key: str = KEY, models: tuple[str, ...] | None = None) -> None:
        self.replies: deque[Reply] = deque()
        self.requests: list[Json] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[tuple[str, int]] = set()
        self.left_early = threading.Event()  # a client went away before its answer was over
        self.asked = threading.Event()  # a request has come in
        self._api_key = api_key
        self._models = models
        self._server = AsgiServer(self)

    def reset(self) -> None:
        """Forget what was asked and what was to be answered, between the tests of a module."""
        for kept in (self.replies, self.requests, self.headers, self.connections, self.left_early, self.asked):
            kept.clear()

    @property
    def url(self) -> str:
        return self._server.url

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    async def __call__(self, scope: Json, receive: Any, send: Any) -> None:
        self.connections.add(tuple(scope["client"]))
        try:
            request = await self._accept(scope, receive)
        except Refused as refused:
            await _json(send, refused.status, refused.body)
            return
        reply = self.replies.popleft() if self.replies else Reply(text=_last_user_text(request))
        if reply.first_delay:
            await asyncio.sleep(reply.first_delay)
        if reply.status != 200:
            await _json(send, reply.status, {"error": reply.error}, reply.headers, reply.body)
            return
        stream = asyncio.create_task(self._stream(request, reply, send))
        gone = asyncio.create_task(_disconnected(receive))
        await asyncio.wait({stream, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not stream.done():
            self.left_early.set()
        gone.cancel()
        stream.cancel() if not stream.done() else stream.result()

    async def _accept(self, scope: Json, receive: Any) -> Json:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = await _body(receive)
        if scope["path"] != "/v1/chat/completions":
            raise Refused(f"Invalid URL (POST {scope['path']})", status=404)
        if headers.get("authorization") != f"Bearer {self._api_key}":
            raise Refused("Incorrect API key provided", status=401, code="invalid_api_key")
        request: Json = json.loads(body)
        self.headers.append(headers)
        self.requests.append(request)
        self.asked.set()
        validate(request)
        if self._models is not None and request["model"] not in self._models:
            raise Refused(f"The model `{request['model']}` does not exist", "model", status=404, code="model_not_found")
        return request

    async def _stream(self, request: Json, reply: Reply, send: Any) -> None:
        bench = _BENCH.fullmatch(request["model"])
        if bench:
            await _bench(send, int(bench[1]), int(bench[2]) / 1000)
            return
        kind = b"text/html; charset=utf-8" if reply.fault == "content_type" else b"text/event-stream; charset=utf-8"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        for number, chunk in enumerate(reply.raw_chunks or chunks(request, reply)):
            if reply.fault and number == reply.fault_after:
                await _fail(reply, send)
                if reply.fault == "early_end":
                    break
            if reply.chunk_delay:
                await asyncio.sleep(reply.chunk_delay)
            await _event(send, json.dumps(chunk, ensure_ascii=False))
        else:
            if reply.fault != "no_done":
                await _event(send, "[DONE]")
        await send({"type": "http.response.body", "body": b""})


async def _fail(reply: Reply, send: Any) -> None:
    if reply.fault == "cut":
        raise ConnectionResetError("the fake cuts the connection")
    if reply.fault == "bad_json":
        await _event(send, '{"id": "chatcmpl-1", "choices": [{"delta": {"cont')
    if reply.fault == "error_event":
        await _event(send, json.dumps({"error": reply.error}))
    if reply.fault == "hang":
        await asyncio.sleep(3600)


def chunks(request: Json, reply: Reply) -> Iterator[Json]:
    """Yield the chunks of an answer as the vendor cuts them, the usage last where it was asked for."""
    base = {"id": "chatcmpl-fake1", "object": "chat.completion.chunk", "created": 1, "model": request["model"]}

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return {**base, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    for text, name in ((reply.reasoning, reply.reasoning_field), (reply.text, "content"), (reply.refusal, "refusal")):
        for piece in _pieces(text, reply.piece):
            yield chunk({name: piece})
    for index, (name, _) in enumerate(reply.tool_calls):
        head = {"index": index, "id": f"call_{index}{name}", "type": "function"}
        yield chunk({"tool_calls": [{**head, "function": {"name": name, "arguments": ""}}]})
    for index, (_, arguments) in enumerate(
        reply.tool_calls
    ):  # the pieces of parallel calls come one call after another
        for piece in _pieces(arguments, reply.piece):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, reply.finish or ("tool_calls" if reply.tool_calls else "stop"))
    if (request.get("stream_options") or {}).get("include_usage"):
        yield {**base, "choices": [], "usage": reply.usage or _usage(request, reply)}


def _usage(request: Json, reply: Reply) -> Json:
    prompt = 3 + sum(4 + len(json.dumps(message)) // 4 for message in request["messages"])
    reasoning = (len(reply.reasoning) + 3) // 4
    answer = (len(reply.text) + sum(len(arguments) for _, arguments in reply.tool_calls) + 3) // 4 + reasoning
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": prompt // 128 * 128, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    }


def _pieces(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def validate(request: Json) -> None:
    """Raise Refused for what the vendor refuses: fields, roles, tools, and calls without exactly one answer each."""
    if unknown := sorted(request.keys() - _KNOWN):
        raise Refused(f"Unrecognized request argument supplied: {unknown[0]}", unknown[0])
    if not isinstance(request.get("messages"), list) or not request["messages"]:
        raise Refused("Invalid 'messages': expected a non-empty array", "messages")
    if request.get("stream") is not True:
        raise Refused("This fake only streams", "stream")
    if request["model"].startswith(("o1", "o3", "o4", "gpt-5")) and "max_tokens" in request:
        raise Refused("Unsupported parameter: 'max_tokens': use 'max_completion_tokens'", "max_tokens")
    _validate_tools(request)
    _validate_messages(request["messages"])


def _validate_tools(request: Json) -> None:
    tools = request.get("tools")
    if tools is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if name in request:
                raise Refused(f"'{name}' is only allowed when 'tools' are specified", name)
        return
    if not tools:
        raise Refused("[] is too short - 'tools'", "tools")
    for number, tool in enumerate(tools):
        function = tool.get("function", {})
        if tool.get("type") != "function" or not _NAME.fullmatch(function.get("name", "")):
            raise Refused(f"Invalid 'tools[{number}].function.name'", f"tools[{number}].function.name")
        if function.get("parameters", {}).get("type") != "object":
            raise Refused(f"Invalid schema for function '{function['name']}'", f"tools[{number}].function.parameters")
    names = [tool["function"]["name"] for tool in tools]
    if len(set(names)) != len(names):
        raise Refused("Duplicate function names", "tools")


def _validate_messages(messages: list[Json]) -> None:
    awaited: list[str] = []
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        if message["role"] == "tool":
            if not awaited or message.get("tool_call_id") != awaited.pop(0):
                raise Refused("messages with role 'tool' must answer the preceding 'tool_calls', in order", place)
            if not isinstance(message["content"], str):
                raise Refused("tool messages take text only", place)
            continue
        if awaited:
            raise Refused(f"tool_call_ids did not have response messages: {', '.join(awaited)}", place)
        if message["role"] == "assistant":
            awaited = _validate_assistant(message, place)
        elif message["role"] == "user":
            _validate_content(message["content"], place)
        elif message["role"] not in ("system", "developer") or not isinstance(message["content"], str):
            raise Refused(f"Invalid role: {message['role']}", place)
    if awaited:
        raise Refused(f"tool_call_ids did not have response messages: {', '.join(awaited)}", "messages")


def _validate_assistant(message: Json, place: str) -> list[str]:
    calls = message.get("tool_calls")
    if message.get("content") is None and not calls:
        raise Refused("Invalid value for 'content': expected a string, got null", place)
    if calls is not None and not calls:
        raise Refused("[] is too short - 'tool_calls'", place)
    for call in calls or ():
        if not _NAME.fullmatch(call["function"]["name"]) or not isinstance(call["function"]["arguments"], str):
            raise Refused("Invalid tool call", place)
        if len(call["id"]) > 40:
            raise Refused("Invalid 'tool_calls[].id': string too long", place)
        if not isinstance(json.loads(call["function"]["arguments"]), dict):
            raise Refused("Tool call arguments are no JSON object", place)
    return [call["id"] for call in calls or ()]


def _validate_content(content: Any, place: str) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list) or not content:
        raise Refused("Invalid 'content': expected a string or a non-empty array", place)
    for part in content:
        if part["type"] == "text" and isinstance(part["text"], str):
            continue
        url = part.get("image_url", {}).get("url", "")
        if part["type"] != "image_url" or not re.match(r"https?://|data:image/(png|jpeg|gif|webp);base64,", url):
            raise Refused("Invalid content part", place)


def _last_user_text(request: Json) -> str:
    content = next(m["content"] for m in reversed(request["messages"]) if m["role"] == "user")
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


async def _bench(send: Any, count: int, interval: float) -> None:
    """Send `count` chunks, each the same ready-made bytes, on an even beat that does not drift."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    start = asyncio.get_running_loop().time()
    for number in range(1, count + 1):
        await asyncio.sleep(start + number * interval - asyncio.get_running_loop().time())
        await send({"type": "http.response.body", "body": _BENCH_CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": _BENCH_END, "more_body": False})


def _ready(chunk: Json) -> bytes:
    base = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": "bench"}
    return b"data: " + json.dumps({**base, **chunk}).encode() + b"\n\n"


_BENCH_CHUNK = _ready({"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]})
_BENCH_END = (
    _ready({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    + _ready({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}})
    + b"data: [DONE]\n\n"
)


async def _event(send: Any, data: str) -> None:
    await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})


async def _json(
    send: Any, status: int, content: Json, headers: dict[str, str] | None = None, body: bytes | None = None
) -> None:
    kind = "application/json" if body is None else "text/html"
    fields = [(name.encode(), value.encode()) for name, value in {"content-type": kind, **(headers or {})}.items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": json.dumps(content).encode() if body is None else body})


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the fake on loopback.")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    uvicorn.run(
        FakeOpenAI(),
        host="127.0.0.1",
        port=arguments.port,
        interface="asgi3",
        log_level="warning",
        access_log=False,
        ws="none",
    )


if __name__ == "__main__":
    main()
