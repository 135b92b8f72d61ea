"""The webhook port: one attempt to deliver one message."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Delivery:
    """`id` is the same at every attempt; `body` is JSON. `at` is the time of this attempt."""

    id: str
    url: str
    body: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """`outcome`: taken (2xx), to be tried again, or gone for good (410). `retry_after` is what the receiver asked."""

    outcome: Literal["delivered", "retry", "gone"]
    detail: str
    retry_after: float | None = None


class Webhooks(Protocol):
    def check(self, url: str) -> None:
        """Return if a message could be sent there; raise Invalid where no key is configured or the URL is refused."""
        ...

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Send it once. Never raises for what the receiver or the network does."""
        ...

    async def aclose(self) -> None: ...
