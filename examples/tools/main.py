"""The orders of a shop as tools for agents: typed functions, served as one HTTP function of functions-framework.

functions-framework --target tools --source examples/tools/main.py --host 127.0.0.1 --port 8091

ORDERS_API_KEYS holds SHA-256 hashes of the keys that may call, apart by spaces; without any only this machine may.
ORDERS_KEY_FILE is a SQLite file for idempotency keys that outlive the process; without it they are kept in memory.
"""

import logging
import os
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from goagents.toolkit import MemoryKeyStore, SqliteKeyStore, ToolCallContext, ToolError, Toolkit

Status = Literal["being packed", "shipped", "delivered", "refunded"]
Number = Annotated[str, Field(pattern=r"^[0-9]{1,10}$", description="The number of the order, such as 1001.")]


class Order(BaseModel):
    number: str
    email: str
    item: str
    status: Status
    total_cents: int


class Refund(BaseModel):
    order: str
    cents: int
    reference: Annotated[str, Field(description="What the customer's bank statement will say.")]


ORDERS = {
    order.number: order
    for order in (
        Order(number="1001", email="ada@example.com", item="Analytical engine", status="shipped", total_cents=184000),
        Order(number="1002", email="grace@example.com", item="Nanosecond wire", status="delivered", total_cents=450),
        Order(number="1003", email="alan@example.com", item="Paper tape", status="being packed", total_cents=7990),
    )
}

_log = logging.getLogger("orders")
_key_file = os.environ.get("ORDERS_KEY_FILE")
kit = Toolkit(
    "orders",
    description="The orders of a small shop for computing history.",
    api_keys=os.environ.get("ORDERS_API_KEYS", "").split(),
    store=SqliteKeyStore(_key_file) if _key_file else MemoryKeyStore(),
)


@kit.tool(effect="read")
def find_order(number: Number) -> Order:
    """Finds one order by its number. Tells item, status, total and the customer's address."""
    if number not in ORDERS:
        raise ToolError(f"There is no order {number}. Ask the customer to check it.", status=404, code="no_such_order")
    return ORDERS[number]


@kit.tool(effect="read")
def list_orders(
    email: str, status: Status | None = None, limit: Annotated[int, Field(ge=1, le=50)] = 10
) -> list[Order]:
    """Lists the orders of one customer, by e-mail address; of one status where that is given."""
    found = [order for order in ORDERS.values() if order.email == email.lower() and status in (None, order.status)]
    return found[:limit]


@kit.tool(effect="idempotent")
def refund_order(
    number: Number,
    reason: Annotated[str, Field(min_length=3, max_length=500)],
    context: ToolCallContext,
) -> Refund:
    """Refunds a delivered order, all of it. Tell the customer the reference."""
    order = find_order(number)
    if order.status != "delivered":
        raise ToolError(f"Order {number} is {order.status}: only delivered ones are refunded.", status=409)
    # A real shop hands the key on to its payment provider, which then refunds once, come what may.
    _log.info("refund of %s for %r, key %s", number, reason, context.idempotency_key)
    ORDERS[number] = order.model_copy(update={"status": "refunded"})
    return Refund(order=number, cents=order.total_cents, reference=f"SHOP-{number}")


tools = kit.function
