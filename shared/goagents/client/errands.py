"""What takes more than one request: each as the steps of a generator, free of any transport.

A driver carries out what is yielded and sends the outcome in, or throws the error: a call's answer, nothing for a pause
or a stream that was followed until it is over. What the generator returns is the caller's answer.
"""

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from goagents.errors import GoAgentsError, RunCancelled, RunError
from goagents.events import RunEvent
from goagents.messages import Usage
from goagents.resources import ChatResponse, Run

from .calls import Call, get, path
from .faults import RunWaiting, UnexpectedAnswer, from_problem
from .following import LASTED, Following
from .patience import Patience, is_transient

T = TypeVar("T")
OVER = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


Step = Call[Any] | Pause | Following
Errand = Generator[Step, Any, T]


class Waiting:
    """How a caller waits for a run: `patience` seconds without progress, `timeout` seconds in all; also
    `for_approval`, or not while a person has to decide."""

    def __init__(self, patience: float, timeout: float | None, *, for_approval: bool) -> None:
        self.patience = patience
        self.for_approval = for_approval
        self.until = None if timeout is None else time.monotonic() + timeout

    @property
    def left(self) -> float | None:
        return None if self.until is None else self.until - time.monotonic()

    def limit(self, timeout: float | None) -> float | None:
        """Return a call's timeout, shortened to what is left."""
        left = self.left
        return timeout if left is None or timeout is None else max(0.001, min(timeout, left))


def sent(call: Call[T], patience: float) -> Errand[T]:
    """Send `call`, which may be sent again, until it is answered: an answer may get lost."""
    return (yield from _sent(call, Waiting(patience, None, for_approval=False)))


def chatted(call: Call[ChatResponse | Run], waiting: Waiting) -> Errand[ChatResponse]:
    """Send `call`, which may be sent again, and follow its run where that outlasts the request."""
    answer = yield from _sent(call, waiting, runs=True)
    return answer if isinstance(answer, ChatResponse) else (yield from _settled(answer, waiting))


def waited(run_id: str, waiting: Waiting) -> Errand[ChatResponse]:
    """Wait until the run is over."""
    return (yield from _settled((yield from _sent(_run(run_id), waiting)), waiting))


def _settled(run: Run, waiting: Waiting) -> Errand[ChatResponse]:
    events = Following(
        Patience(waiting.patience),
        run_id=run.id,
        through_waiting=waiting.for_approval,
        begun=True,
        until=waiting.until,
    )
    while run.status not in OVER:
        if run.status == "waiting" and not waiting.for_approval:
            raise RunWaiting(run.id, run.session_id, run.waiting)
        yield events
        if events.last is not None and events.last.type == "run.completed":
            return _answer(events.last)
        # It stopped at an event that says it waits. That may have been decided since: the run itself tells.
        run = yield from _sent(_run(run.id), waiting, begun=True)
        events.resume()
    return _outcome(run)


def _answer(event: RunEvent) -> ChatResponse:
    try:
        return ChatResponse.model_validate(event.data)
    except ValueError as fault:
        raise UnexpectedAnswer("the server sent the end of the run in a form that is malformed") from fault


def _outcome(run: Run) -> ChatResponse:
    if run.status != "succeeded":
        error = from_problem(run.error) if run.error else RunCancelled() if run.status == "cancelled" else RunError()
        error.run_id, error.session_id = run.id, run.session_id
        raise error
    if run.output is None:
        raise UnexpectedAnswer(f"the server says that the run {run.id} succeeded, but not with what answer")
    return ChatResponse(
        run_id=run.id,
        session_id=run.session_id,
        agent=run.agent,
        message=run.output,
        stop_reason=run.stop_reason or "end_turn",
        usage=run.usage or Usage(),
    )


def _run(run_id: str) -> Call[Run]:
    return get(path("runs", run_id), Run)


def _sent(call: Call[T], waiting: Waiting, *, begun: bool = False, runs: bool = False) -> Errand[T]:
    """`runs`: the answer takes as long as a run. A request that was open for a while is progress then, and a problem
    that names the run tells how it ended: it is not asked for again."""
    patience = Patience(waiting.patience)
    while True:
        asked_at = time.monotonic()
        try:
            answer: T = yield replace(call, timeout=waiting.limit(call.timeout))
        except GoAgentsError as fault:
            if runs and time.monotonic() - asked_at >= LASTED:
                patience.progress()
            transient = is_transient(fault, begun=begun and not (runs and fault.run_id is not None))
            pause = patience.pause(fault.retry_after) if transient else None
            if pause is None or (waiting.left is not None and pause >= waiting.left):
                raise
        else:
            return answer
        begun = True
        yield Pause(pause)
