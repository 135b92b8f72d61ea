"""Doing a thing whole, though whoever waits for it is cancelled: a commit that was begun is seen through."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Do `work` to its end and return what it returns. Where the caller is cancelled meanwhile, that comes after it."""
    task, cancelled = asyncio.create_task(work), None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as raised:
            cancelled = raised
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # nobody else looks at it
    raise cancelled
