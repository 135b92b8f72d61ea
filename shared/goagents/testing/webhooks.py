"""Webhooks for tests: nothing is sent, and what would have been is kept."""

from goagents.errors import FieldError, Invalid
from goagents.webhooks.base import Delivery, Receipt

DELIVERED = Receipt("delivered", "the test answered 204")


class RecordingWebhooks:
    """Answers each delivery with the next of `receipts`, the last one for ever; without any, all are delivered.

    `deliveries` are those received. `check` refuses every URL where `refused` says why.
    """

    def __init__(self, *receipts: Receipt, refused: str | None = None) -> None:
        self.deliveries: list[Delivery] = []
        self.refused = refused
        self._receipts = list(receipts) or [DELIVERED]

    def check(self, url: str) -> None:  # noqa: ARG002 - the port's signature
        if self.refused is not None:
            raise Invalid(f"webhook.url: {self.refused}", errors=[FieldError("webhook.url", self.refused)])

    async def deliver(self, delivery: Delivery) -> Receipt:
        self.deliveries.append(delivery)
        return self._receipts.pop(0) if len(self._receipts) > 1 else self._receipts[0]

    async def aclose(self) -> None:
        """Nothing to close."""
