"""Carries a plan out. What is done is seen in the cloud itself, so a repeated command goes on where one failed."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal

from .gcloud import Gcloud, GcloudFailed
from .steps import Step, batches

AT_ONCE = 4  # deployments; each is a gcloud of its own
Outcome = Literal["done already", "done", "updated"]


class Missing(GcloudFailed):
    """Something has to be there before, and only its owner can make it."""

    code = "missing"


def carry_out(steps: Sequence[Step], gcloud: Gcloud, tell: Callable[[Step, str], None]) -> dict[str, Outcome]:
    """Carry out the steps in their order; `tell` is called with each step as it begins and ends.

    Steps that may overlap do. Return the outcome of each step by its id. Raises GcloudFailed with all that failed
    among them; nothing after it was begun.
    """
    outcomes: dict[str, Outcome] = {}
    looks = _Looks(gcloud)
    for batch in batches(steps):
        with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(batch))) as pool:
            futures = {step.id: pool.submit(_one, step, gcloud, looks, tell) for step in batch}
        faults = [fault for future in futures.values() if (fault := future.exception())]
        if strange := [fault for fault in faults if not isinstance(fault, GcloudFailed)]:
            raise strange[0]
        if faults:
            raise faults[0] if len(faults) == 1 else GcloudFailed("\n".join(map(str, faults)))
        outcomes |= {name: future.result() for name, future in futures.items()}
    return outcomes


def remaining(steps: Sequence[Step], gcloud: Gcloud) -> list[Step]:
    """Return the steps that are not done yet, and need no second look. Raises GcloudFailed."""
    looks = _Looks(gcloud)
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        list(pool.map(looks.at, dict.fromkeys(step.look for step in steps if step.look)))
    return [replace(step, look=()) for step in steps if not step.look or step.state(looks.at(step.look)) != "done"]


class _Looks:
    """What the commands that look have said, each asked once. Steps do not change what others look at."""

    def __init__(self, gcloud: Gcloud) -> None:
        self._gcloud = gcloud
        self._found: dict[tuple[str, ...], Any] = {}
        self._locks: dict[tuple[str, ...], threading.Lock] = {}

    def at(self, look: tuple[str, ...]) -> Any:
        with self._locks.setdefault(look, threading.Lock()):
            if look not in self._found:
                self._found[look] = self._gcloud.read(look)
            return self._found[look]


def _one(step: Step, gcloud: Gcloud, looks: _Looks, tell: Callable[[Step, str], None]) -> Outcome:
    state = step.state(looks.at(step.look)) if step.look else "absent"
    if state == "done":
        tell(step, "done already")
        return "done already"
    if not step.argv:
        raise Missing(f"{step.line}: it is not there.\n  {step.remedy}")
    tell(step, "begins")
    differs = state == "differs"
    gcloud.run(step.update if differs and step.update else step.argv, timeout=step.timeout)
    tell(step, "updated" if differs else "done")
    return "updated" if differs else "done"
