"""Send calls, once with blocking and once with awaiting: all that differs between the two clients."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from typing import Any, Self, TypeVar

import httpx2

from goagents.errors import GoAgentsError
from goagents.events import RunEvent
from goagents.resources import ListOf

from . import retries
from .calls import Call, StreamCall, page_of
from .connection import Connection
from .errands import Errand, Pause, Step
from .faults import UnexpectedAnswer, from_response, from_transport
from .following import Following

T = TypeVar("T")
EVENT_STREAM = "text/event-stream"


class SyncDriver:
    def __init__(self, connection: Connection, transport: httpx2.BaseTransport | None) -> None:
        self._connection = connection
        self._http = httpx2.Client(
            headers=connection.headers,
            auth=connection.auth,
            timeout=connection.timeouts(),
            transport=transport,
            # The proxy of the environment leads nowhere from this machine to itself.
            mounts={connection.pattern: httpx2.HTTPTransport()} if transport is None and connection.is_loopback else {},
        )

    @property
    def server(self) -> str:
        return self._connection.server

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, call: Call[T]) -> T:
        """Send one request and return its answer. Raises the error that the server answers, or ServerUnreachable."""
        with self._answer(call, request_of(self._http, self._connection, call)) as response:
            try:
                response.read()
            except httpx2.TransportError as fault:
                raise from_transport(fault, self.server) from fault
            return parsed(call, response)

    def items(self, call: Call[ListOf[T]]) -> Generator[T, None, None]:
        """Yield every item of a list, asking for page after page."""
        page = self.call(call)
        yield from page.items
        while page.next_page_token:
            page = self.call(page_of(call, page.next_page_token))
            yield from page.items

    def events(self, stream: StreamCall[T]) -> Generator[T, None, None]:
        """Yield the events of a stream. Closing the generator closes the connection."""
        with self._answer(stream.call, stream_request_of(self._http, self._connection, stream)) as response:
            try:
                if not is_stream(response):
                    response.read()
                    raise from_response(response)
                reader = stream.reader()
                for chunk in response.iter_bytes():
                    yield from reader.feed(chunk)
                    if reader.finished:
                        return
            except httpx2.TransportError as fault:
                raise from_transport(fault, self.server) from fault
            reader.end()

    def follow(self, following: Following) -> Generator[RunEvent, None, None]:
        """Yield a run's events until it is over, over as many connections as it takes. Raises the run's error."""
        while (request := following.request()) is not None:
            try:
                with closing(self.events(request)) as events:
                    for event in events:
                        if following.takes(event):
                            yield event
                        if following.over:
                            break
            except GoAgentsError as fault:
                time.sleep(following.after(fault))
        following.conclude()

    def perform(self, errand: Errand[T]) -> T:
        """Carry out the steps of an errand and return what it comes to."""
        try:
            step = next(errand)
            while True:
                try:
                    outcome = self._step(step)
                except GoAgentsError as fault:
                    step = errand.throw(fault)
                else:
                    step = errand.send(outcome)
        except StopIteration as end:
            answer: T = end.value
            return answer

    def _step(self, step: Step) -> Any:
        if isinstance(step, Call):
            return self.call(step)
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        for _ in self.follow(step):
            pass
        return None

    @contextmanager
    def _answer(self, call: Call[T], request: httpx2.Request) -> Iterator[httpx2.Response]:
        response = self._send(call, request)
        try:
            yield response
        finally:
            response.close()

    def _send(self, call: Call[T], request: httpx2.Request) -> httpx2.Response:
        attempt = 1
        while True:
            try:
                response = self._http.send(request, stream=True)
            except httpx2.TransportError as fault:
                pause = retries.after_fault(attempt, fault)
                if pause is None:
                    raise from_transport(fault, self.server) from fault
            else:
                pause = retries.after_answer(call, attempt, response)
                if pause is None:
                    return response
                response.close()
            time.sleep(pause)
            attempt += 1


class AsyncDriver:
    def __init__(self, connection: Connection, transport: httpx2.AsyncBaseTransport | None) -> None:
        self._connection = connection
        direct = transport is None and connection.is_loopback
        self._http = httpx2.AsyncClient(
            headers=connection.headers,
            auth=connection.auth,
            timeout=connection.timeouts(),
            transport=transport,
            mounts={connection.pattern: httpx2.AsyncHTTPTransport()} if direct else {},
        )

    @property
    def server(self) -> str:
        return self._connection.server

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(self, call: Call[T]) -> T:
        """Send one request and return its answer. Raises the error that the server answers, or ServerUnreachable."""
        async with self._answer(call, request_of(self._http, self._connection, call)) as response:
            try:
                await response.aread()
            except httpx2.TransportError as fault:
                raise from_transport(fault, self.server) from fault
            return parsed(call, response)

    async def items(self, call: Call[ListOf[T]]) -> AsyncGenerator[T, None]:
        """Yield every item of a list, asking for page after page."""
        page = await self.call(call)
        for item in page.items:
            yield item
        while page.next_page_token:
            page = await self.call(page_of(call, page.next_page_token))
            for item in page.items:
                yield item

    async def events(self, stream: StreamCall[T]) -> AsyncGenerator[T, None]:
        """Yield the events of a stream. Closing the generator (`contextlib.aclosing`) closes the connection."""
        async with self._answer(stream.call, stream_request_of(self._http, self._connection, stream)) as response:
            try:
                if not is_stream(response):
                    await response.aread()
                    raise from_response(response)
                reader = stream.reader()
                async for chunk in response.aiter_bytes():
                    for event in reader.feed(chunk):
                        yield event
                    if reader.finished:
                        return
            except httpx2.TransportError as fault:
                raise from_transport(fault, self.server) from fault
            reader.end()

    async def follow(self, following: Following) -> AsyncGenerator[RunEvent, None]:
        """Yield a run's events until it is over, over as many connections as it takes. Raises the run's error."""
        while (request := following.request()) is not None:
            try:
                async with aclosing(self.events(request)) as events:
                    async for event in events:
                        if following.takes(event):
                            yield event
                        if following.over:
                            break
            except GoAgentsError as fault:
                await asyncio.sleep(following.after(fault))
        following.conclude()

    async def perform(self, errand: Errand[T]) -> T:
        """Carry out the steps of an errand and return what it comes to."""
        try:
            step = next(errand)
            while True:
                try:
                    outcome = await self._step(step)
                except GoAgentsError as fault:
                    step = errand.throw(fault)
                else:
                    step = errand.send(outcome)
        except StopIteration as end:
            answer: T = end.value
            return answer

    async def _step(self, step: Step) -> Any:
        if isinstance(step, Call):
            return await self.call(step)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        async for _ in self.follow(step):
            pass
        return None

    @asynccontextmanager
    async def _answer(self, call: Call[T], request: httpx2.Request) -> AsyncIterator[httpx2.Response]:
        response = await self._send(call, request)
        try:
            yield response
        finally:
            await response.aclose()

    async def _send(self, call: Call[T], request: httpx2.Request) -> httpx2.Response:
        attempt = 1
        while True:
            try:
                response = await self._http.send(request, stream=True)
            except httpx2.TransportError as fault:
                pause = retries.after_fault(attempt, fault)
                if pause is None:
                    raise from_transport(fault, self.server) from fault
            else:
                pause = retries.after_answer(call, attempt, response)
                if pause is None:
                    return response
                await response.aclose()
            await asyncio.sleep(pause)
            attempt += 1


def request_of(http: httpx2.Client | httpx2.AsyncClient, connection: Connection, call: Call[T]) -> httpx2.Request:
    return http.build_request(
        call.method,
        connection.server + call.path,
        params=call.query,
        json=call.json,
        headers=call.headers,
        timeout=connection.timeouts(call.timeout),
    )


def stream_request_of(
    http: httpx2.Client | httpx2.AsyncClient, connection: Connection, stream: StreamCall[T]
) -> httpx2.Request:
    request = request_of(http, connection, stream.call)
    request.headers["Accept"] = EVENT_STREAM
    request.extensions["timeout"] = connection.stream_timeouts().as_dict()
    return request


def is_stream(response: httpx2.Response) -> bool:
    return response.is_success and response.headers.get("content-type", "").startswith(EVENT_STREAM)


def parsed(call: Call[T], response: httpx2.Response) -> T:
    if not response.is_success:
        raise from_response(response)
    parse = call.parse_accepted if response.status_code == 202 and call.parse_accepted else call.parse
    try:
        return parse(response.content)
    except ValueError as fault:  # pydantic's ValidationError is one; its text may repeat the answer
        raise UnexpectedAnswer(
            f"{call.method} {call.path} answered {response.status_code} with what is no answer of GoAgents"
        ) from fault
