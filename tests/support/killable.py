"""What runs inside a process that is to die: the kill switch of its plan, and a diary that outlives it.

The plan is read with the first request, so that a process can be started before it is known where it is to die.
"""

import json
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from goagents.engine.services import Services
from goagents.providers.base import ModelRequest
from goagents.testing.kill_points import KillPoint, KillSwitch
from goagents.testing.wrapping import Asked, wrapped

T = TypeVar("T")
PLAN, DIARY = "KILLABLE_PLAN", "KILLABLE_DIARY"


@dataclass(frozen=True)
class Plan:
    """Die at `point`, the `occurrence`-th time; of tool calls, those of `tool`."""

    point: KillPoint
    occurrence: int = 1
    tool: str | None = None

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Plan | None":
        if not path.exists():
            return None
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(KillPoint(data["point"]), data["occurrence"], data["tool"])


@dataclass
class Diary:
    """A file of JSON lines that several processes write; a line is whole even if its writer dies right after."""

    path: Path

    def write(self, **entry: Any) -> None:
        line = json.dumps({"pid": os.getpid(), **entry}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


@dataclass
class ModelCalls:
    """Writes each call of a model into the diary: what the user had said, and how many answers there were since."""

    diary: Diary

    async def around(self, asked: Asked, call: Callable[[], Awaitable[T]]) -> T:
        if asked.port == "model" and asked.number == 0:
            self.diary.write(what="model", **_place(asked.subject))
        return await call()


def _place(request: ModelRequest) -> dict[str, Any]:
    last = max(number for number, message in enumerate(request.messages) if message.role == "user")
    answers = [message for message in request.messages[last:] if message.role == "assistant"]
    return {"user": request.messages[last].text, "round": 1 + len(answers)}


def wrap(services: Services) -> Services:
    """Return the services of this process, with what its environment asks for around them."""
    diary = Diary(Path(os.environ[DIARY]))
    services = wrapped(services, ModelCalls(diary).around)
    plan = Plan.read(Path(os.environ[PLAN]))
    if plan is None:
        return services

    def kill() -> None:
        diary.write(what="died", point=plan.point)
        kill_all()

    return KillSwitch(plan.point, plan.occurrence, kill, plan.tool).services(services)


def kill_all() -> None:
    """Kill this process, and gunicorn's master with it, which would start another one."""
    if os.getpgrp() != os.getppid():
        raise RuntimeError("a killable process needs a group of its own: start it with start_new_session")
    os.killpg(0, signal.SIGKILL)
