"""One run behind the contract's endpoints, of which a test decides what has happened so far."""

from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response
from tests.support.contract_server import (
    ContractServer,
    about,
    accepted,
    completed,
    event_stream,
    problem,
    run,
    sent_event,
    waiting,
)

from goagents.events import Cursor

Happened = tuple[str, str, dict[str, Any]]

BEFORE: list[Happened] = [
    ("1-1", "run.started", about(attempt=1)),
    ("1-2", "message.delta", {"text": "I ask"}),
    ("1-3", "run.waiting", about(waiting=waiting())),
]
AFTER: list[Happened] = [
    ("2-1", "attempt", about(attempt=2, resumed_after="1-3")),
    ("2-2", "message.delta", {"text": "Done"}),
    ("2-3", "run.completed", completed("Done")),
]


@dataclass
class ScriptedRun:
    """The run `run_1` of `support.helper`. `log` is what happened, `then` what happens when somebody approves.

    Each stream shows what there is after the place asked for, and ends. `decided` and `cancelled` are the bodies sent.
    """

    log: list[Happened] = field(default_factory=lambda: list(BEFORE))
    then: list[Happened] = field(default_factory=lambda: list(AFTER))
    decided: list[Any] = field(default_factory=list)
    cancelled: list[Any] = field(default_factory=list)

    def behind(self, server: ContractServer) -> "ScriptedRun":
        server.on("POST /api/v1/agents/support.helper/stream", lambda _: self._events(None))
        server.on("POST /api/v1/agents/support.helper/chat", lambda _: accepted(self.status))
        server.on("POST /api/v1/agents/support.helper/runs", lambda _: accepted(self.status))
        server.on("GET /api/v1/runs/run_1", lambda _: JSONResponse(self.view()))
        server.on("GET /api/v1/runs/run_1/events", lambda request: self._events(request.headers.get("last-event-id")))
        server.on("POST /api/v1/runs/run_1/approve", lambda _: self._approve(server))
        server.on("POST /api/v1/runs/run_1/cancel", lambda _: self._cancel(server))
        return self

    @property
    def status(self) -> str:
        kinds = {"run.waiting": "waiting", "run.completed": "succeeded", "run.cancelled": "cancelled"}
        return kinds.get(self.log[-1][1], "running")

    def view(self) -> dict[str, Any]:
        return run(self.status, **({"waiting": self.log[-1][2]["waiting"]} if self.status == "waiting" else {}))

    def _events(self, after: str | None) -> Response:
        place = Cursor.parse(after) if after else Cursor(0, 0)
        return event_stream(*(sent_event(*each) for each in self.log if Cursor.parse(each[0]) > place))

    def _approve(self, server: ContractServer) -> Response:
        if self.status != "waiting":
            return problem(409, "conflict", "The run does not wait for anybody.")
        self.decided.append(server.requests[-1]["body"])
        self.log, self.then = self.log + self.then, []
        return accepted("running")

    def _cancel(self, server: ContractServer) -> Response:
        self.cancelled.append(server.requests[-1]["body"])
        return JSONResponse(run("cancelled"))
