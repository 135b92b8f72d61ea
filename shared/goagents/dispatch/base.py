"""The dispatch port: have a fresh invocation of the worker do something, once and soon.

A task is a hint, never the truth: what is to be done stands in the store, and a task that is lost, late or delivered
twice changes nothing but the time it takes (the sweeper finds what waits for too long).
"""

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Task:
    """`token` makes the task's name unique: a queue refuses a name that it had before, so a new try needs a new token.

    kind "run": go on with the run `run`; `token` is that of its lease.
    kind "delivery": try to deliver the webhook `delivery` of the run.
    `delay` is in seconds.
    """

    kind: Literal["run", "delivery"]
    tenant: str
    run: str
    token: str
    delivery: str | None = None
    delay: float = 0.0


class Dispatch(Protocol):
    async def enqueue(self, task: Task) -> None:
        """Hand the task over. One that the queue has had already is no error. Raises DispatchFailed."""
        ...

    def stop(self) -> None:
        """The process is asked to end: take no more tasks that would be carried out in it."""
        ...

    async def aclose(self) -> None:
        """End what is under way in this process, and close connections."""
        ...
