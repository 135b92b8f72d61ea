"""The example's functions: prices, and what is in stock."""

import threading
from typing import Annotated

from pydantic import BaseModel, Field

from goagents.tools.python import ToolContext, ToolError, tool

PRICES = {"hinge": 320, "latch": 450}
STOCK = {"hinge": 12, "latch": 1}
RESERVED: dict[str, str] = {}
_lock = threading.Lock()  # calls of functions that are not async have a thread each

Pieces = Annotated[int, Field(ge=1, le=1000, description="How many.")]


class Quote(BaseModel):
    item: str
    pieces: int
    cents: int


@tool(effect="read")
async def quote(item: str, pieces: Pieces = 1) -> Quote:
    """Tells what some pieces of an item cost, in cents. Items are called by their singular."""
    if item not in PRICES:
        raise ToolError(f"The workshop makes no {item}; it makes {', '.join(PRICES)}.")
    return Quote(item=item, pieces=pieces, cents=PRICES[item] * pieces)


@tool(effect="idempotent")
def reserve(item: str, pieces: Pieces, context: ToolContext) -> str:
    """Reserves pieces of an item for a customer."""
    with _lock:
        if context.idempotency_key not in RESERVED:
            if STOCK.get(item, 0) < pieces:
                raise ToolError(f"There are {STOCK.get(item, 0)} pieces of {item} left.")
            STOCK[item] -= pieces
            RESERVED[context.idempotency_key] = f"{pieces} of {item} are reserved, {STOCK[item]} are left."
        return RESERVED[context.idempotency_key]
