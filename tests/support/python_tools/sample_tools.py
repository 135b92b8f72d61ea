"""Functions that `python` tools name in the tests; found by `python_path`."""

import asyncio
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import wraps
from typing import Annotated, Any

from pydantic import BaseModel, Field

from goagents.tools.python import ImagePart, TextPart, ToolContext, ToolError, tool

WORD: ContextVar[str] = ContextVar("WORD", default="unset")
HELD = threading.Event()
BEGUN: list[int] = []


class Order(BaseModel):
    number: Annotated[str, Field(serialization_alias="no")]
    placed: date
    total: Decimal


@dataclass
class Point:
    x: int
    y: int


@tool(effect="read")
def find_order(
    number: Annotated[str, Field(pattern="^[0-9]+$", description="Its number.")], verbose: bool = False
) -> Order:
    """One order by its number."""
    if number == "404":
        raise ToolError(f"There is no order {number}.")
    return Order(number=number, placed=date(2026, 2, 3), total=Decimal("1.10"))


@tool(effect="idempotent")
async def who_calls(context: ToolContext) -> dict[str, str]:
    """Tells who calls."""
    return {"run": context.run_id, "key": context.idempotency_key, "agent": context.agent}


def whose(text: str, context: ToolContext | None = None) -> str:
    """Can be called without a run, too."""
    return f"{text} of {context.run_id if context else 'nobody'}"


def add(point: Point, more: list[int]) -> Point:
    """Adds to a point."""
    return Point(point.x + sum(more), point.y)


def leak(secret: str) -> str:
    """Fails with what nobody should see."""
    raise RuntimeError(f"password {secret}")


async def leak_async(secret: str) -> str:
    """Fails with what nobody should see."""
    raise TimeoutError(f"password {secret}")


FAILURES: list[BaseException] = []


async def fail() -> str:
    """Raises what the test says, one after another."""
    if FAILURES:
        raise FAILURES.pop(0)
    return "done"


def give_up() -> None:
    """Ends the process, or tries to."""
    raise SystemExit(3)


async def cancel_itself() -> None:
    """Cancels what is its caller's."""
    raise asyncio.CancelledError


def stop_iterating() -> None:
    """Raises what a future does not carry."""
    raise StopIteration


def say(kind: str) -> Any:
    """Returns many kinds of things."""
    image = ImagePart(media_type="image/png", data="aGk=")
    return {
        "text": "plain",
        "none": None,
        "image": image,
        "parts": (TextPart("look"), image),
        "list": [1, "two", None],
        "nan": float("nan"),
        "object": object(),
    }[kind]


def word() -> str:
    """Tells a context variable, and where it runs."""
    return f"{WORD.get()} {threading.current_thread() is threading.main_thread()} {threading.current_thread().daemon}"


async def word_async() -> str:
    """Tells where it runs."""
    return f"{WORD.get()} {threading.current_thread() is threading.main_thread()}"


def hold(number: int) -> int:
    """Waits until the test lets it go."""
    BEGUN.append(number)
    HELD.wait(60)
    return number


async def sleep() -> None:
    """Takes long."""
    await asyncio.sleep(60)


class Shelf:
    def __init__(self) -> None:
        self.books = ["one"]

    def count(self) -> int:
        """Counts the books."""
        return len(self.books)


SHELF = Shelf()


def wrapped(function: Any) -> Any:
    @wraps(function)
    def inner(**given: Any) -> Any:
        return function(**given)

    return inner


@wrapped
async def behind_a_decorator(text: str) -> str:
    """Is async, behind a wrapper that is not."""
    return text[::-1]


def undescribed(text: str) -> str:
    return text


def untyped(text) -> str:  # noqa: ANN001 - that is the point
    """Has no type."""
    return text


def generator() -> Any:
    """Streams."""
    yield time.time()


VALUE = 7
