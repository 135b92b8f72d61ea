"""A receiver of webhooks on loopback, and the sender it is tested with."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError
from tests.support.http_tools import Handler, Serve

from goagents.webhooks.base import Delivery, Receipt
from goagents.webhooks.http import HttpWebhooks

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW_KEY = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
OTHER_KEY = "whsec_" + "b3RoZXIg" * 4
BODY = '{"type":"run.completed","timestamp":"2026-01-01T00:00:00Z","data":{"id":"run_1","output":"Grüße 👋"}}'


@dataclass
class Receiver:
    """Verifies with the independent library; 401 for what it does not believe, else `status`."""

    secret: str = KEY
    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)
    verified: list[Any] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(dict(request.headers))
        self.bodies.append(body)
        try:
            self.verified.append(Webhook(self.secret).verify(body, dict(request.headers)))
        except WebhookVerificationError as error:
            return web.Response(status=401, text=str(error))
        return web.Response(status=self.status, headers=self.headers)


Send = Callable[..., Awaitable[Receipt]]


@pytest.fixture
async def send() -> AsyncIterator[Send]:
    """`await send(url)` is one attempt; loopback is allowed unless `allowed` says otherwise."""
    async with AsyncExitStack() as stack:
        senders: dict[str, HttpWebhooks] = {}

        async def attempt(
            url: str,
            *,
            secrets: Sequence[str] = (KEY,),
            seconds: float = 10.0,
            allowed: Sequence[str] = ("127.0.0.0/8",),
            body: str = BODY,
            at: datetime | None = None,
            **more: Any,
        ) -> Receipt:
            key = repr((secrets, seconds, allowed, more))
            if key not in senders:
                senders[key] = HttpWebhooks(secrets, timeout=seconds, allowed_addresses=allowed, **more)
                stack.push_async_callback(senders[key].aclose)
            return await senders[key].deliver(Delivery("msg_1", url, body, at or datetime.now(UTC)))

        yield attempt


async def hook(serve: Serve, receiver: Receiver | Handler, **more: Any) -> str:
    """Start a server whose `/hook` is the receiver, and return that URL."""
    handler = receiver.handle if isinstance(receiver, Receiver) else receiver
    return f"{await serve({'/hook': handler}, **more)}/hook"
