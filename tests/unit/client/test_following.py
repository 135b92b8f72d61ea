"""When a run's stream is taken up again and when it is given up, on a clock of the test's own."""

import pytest

from goagents.client.calls import Call, raw
from goagents.client.faults import (
    ConnectionBroke,
    GatewayFailed,
    ServerTimedOut,
    ServerUnreachable,
    StreamEnded,
    UnexpectedAnswer,
)
from goagents.client.following import Following
from goagents.client.patience import FIRST_PAUSE, LONGEST_PAUSE, Patience, is_transient
from goagents.errors import GoAgentsError, LimitExceeded, NotFound, ProviderOverloaded, RunCancelled, StoreUnavailable
from goagents.events import Cursor, RunEvent

START = Call("POST", "/start", raw)
STARTED = {"run_id": "run_1", "session_id": "session_1"}


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def patience(clock: Clock, limit: float = 60.0) -> Patience:
    return Patience(limit, now=clock, jitter=lambda: 1.0)


def followed(clock: Clock, limit: float = 60.0, **options: object) -> Following:
    return Following(patience(clock, limit), start=START, now=clock, **options)


def event(seq: int, kind: str = "message.delta", attempt: int = 1, **data: object) -> RunEvent:
    return RunEvent(kind, data, attempt, seq)


def asked(following: Following) -> tuple[str, str | None]:
    request = following.request()
    assert request is not None
    return f"{request.call.method} {request.call.path}", request.call.headers.get("Last-Event-ID")


def test_pauses_grow_up_to_a_bound_and_begin_anew_after_progress():
    clock = Clock()
    waits = patience(clock, 1e9)
    pauses = [waits.pause() for _ in range(2000)]
    assert pauses[:4] == [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4, FIRST_PAUSE * 8]
    assert set(pauses[10:]) == {LONGEST_PAUSE}
    waits.progress()
    assert waits.pause() == FIRST_PAUSE


def test_pauses_are_jittered():
    pauses = [Patience(60.0).pause() for _ in range(20)]
    assert len(set(pauses)) > 1
    assert all(pause is not None and FIRST_PAUSE / 2 <= pause <= FIRST_PAUSE for pause in pauses)


def test_the_time_without_progress_is_bounded_and_its_last_moment_used():
    clock = Clock()
    waits = patience(clock, 2.0)
    assert waits.pause() == FIRST_PAUSE
    clock.time += 1.95
    assert waits.pause() == pytest.approx(0.05)
    clock.time += 0.05
    assert waits.pause() is None


def test_what_the_server_asks_for_is_waited_or_given_up_at_once():
    assert patience(Clock(), 60.0).pause(7.0) == 7.0
    assert patience(Clock(), 5.0).pause(7.0) is None
    assert patience(Clock(), 0.0).pause() is None


@pytest.mark.parametrize("fault", [ConnectionBroke(), GatewayFailed(), ServerTimedOut(), StreamEnded()])
def test_a_lost_answer_is_asked_for_again_whenever(fault: GoAgentsError):
    assert is_transient(fault, begun=False)
    assert is_transient(fault, begun=True)


@pytest.mark.parametrize("fault", [ServerUnreachable(), StoreUnavailable(), LimitExceeded(), GoAgentsError()])
def test_a_server_that_fails_is_asked_again_if_it_was_there_before(fault: GoAgentsError):
    assert not is_transient(fault, begun=False)
    assert is_transient(fault, begun=True)


@pytest.mark.parametrize("fault", [NotFound(), UnexpectedAnswer()])
def test_what_does_not_pass_is_not_asked_again(fault: GoAgentsError):
    assert not is_transient(fault, begun=True)


def test_until_the_run_is_known_its_request_is_sent_again_and_then_its_events_are_asked_for():
    following = followed(Clock())
    assert asked(following) == ("POST /start", None)
    following.after(ConnectionBroke())
    assert asked(following) == ("POST /start", None)
    assert following.takes(event(1, "run.started", **STARTED))
    assert asked(following) == ("GET /api/v1/runs/run_1/events", "1-1")
    assert following.takes(event(2))
    assert asked(following) == ("GET /api/v1/runs/run_1/events", "1-2")


def test_no_event_is_taken_twice_across_attempts():
    following = followed(Clock(), after=Cursor(1, 5))
    seen = [event(5), event(6), event(6), event(1, "attempt", 2), event(7), event(2, attempt=2)]
    assert [following.takes(each) for each in seen] == [False, True, False, True, False, True]


def test_the_end_of_the_run_is_over():
    following = followed(Clock())
    assert following.takes(event(1, "run.completed"))
    assert following.over
    assert following.request() is None
    following.conclude()


@pytest.mark.parametrize(
    ("kind", "problem", "error"),
    [
        ("run.failed", {"code": "provider_overloaded", "status": 502, "detail": "529"}, ProviderOverloaded),
        ("run.cancelled", {"code": "run_cancelled", "status": 409, "detail": "by ann"}, RunCancelled),
        ("run.cancelled", None, RunCancelled),
        ("run.failed", "nonsense", GoAgentsError),
    ],
)
def test_a_failure_is_no_event_but_the_runs_error(kind: str, problem: object, error: type[GoAgentsError]):
    following = followed(Clock())
    assert not following.takes(event(1, kind, **STARTED, error=problem))
    assert following.over
    with pytest.raises(error) as raised:
        following.conclude()
    assert (raised.value.run_id, raised.value.session_id) == ("run_1", "session_1")


def test_a_waiting_run_ends_the_stream_until_it_is_resumed_or_is_gone_through():
    following = followed(Clock())
    assert following.takes(event(1, "run.waiting", **STARTED))
    assert following.over
    following.resume()
    assert asked(following) == ("GET /api/v1/runs/run_1/events", "1-1")
    through = followed(Clock(), through_waiting=True)
    assert through.takes(event(1, "run.waiting", **STARTED))
    assert not through.over


def test_before_the_server_ever_answered_its_absence_is_told_at_once():
    with pytest.raises(ServerUnreachable):
        followed(Clock()).after(ServerUnreachable())
    following = followed(Clock())
    following.after(ConnectionBroke())
    assert following.after(ServerUnreachable()) > 0  # it restarts


def test_a_problem_that_names_the_run_of_the_request_is_its_outcome():
    following = followed(Clock())
    following.after(ConnectionBroke())
    outcome = ProviderOverloaded()
    outcome.run_id = "run_1"
    with pytest.raises(ProviderOverloaded):
        following.after(outcome)
    known = followed(Clock())
    known.takes(event(1, "run.started", **STARTED))
    known.after(ConnectionBroke())
    busy = StoreUnavailable()
    busy.run_id = "run_1"
    assert known.after(busy) > 0


def test_it_is_given_up_after_a_time_without_progress_and_says_which_run():
    clock = Clock()
    following = followed(clock, 10.0)
    following.takes(event(1, "run.started", **STARTED))
    following.after(StreamEnded())
    clock.time += 11
    with pytest.raises(StreamEnded, match=r"within 10 s: nobody listens\. The run may go on") as raised:
        following.after(ServerUnreachable("nobody listens"))
    assert raised.value.run_id == "run_1"


def test_an_event_is_progress():
    clock = Clock()
    following = followed(clock, 10.0)
    for seq in range(1, 50):
        following.takes(event(seq, **STARTED))
        following.after(StreamEnded())
        clock.time += 9


def test_a_stream_that_stays_open_is_progress_and_one_that_does_not_is_none():
    def after_streams(lasting: float) -> None:
        clock = Clock()
        following = followed(clock, 10.0)
        for _ in range(100):
            request = following.request()
            assert request is not None
            request.reader()
            clock.time += lasting
            following.after(StreamEnded())
            clock.time += 1.0

    after_streams(lasting=9.5)
    with pytest.raises(StreamEnded):
        after_streams(lasting=0.0)


def test_a_silent_server_is_no_progress():
    clock = Clock()
    following = followed(clock, 60.0)

    def silence() -> None:
        request = following.request()
        assert request is not None
        request.reader()
        clock.time += 90
        following.after(ServerTimedOut())

    silence()
    with pytest.raises(ServerTimedOut):
        silence()


def test_comments_are_progress():
    clock = Clock()
    following = followed(clock, 10.0)
    following.after(ConnectionBroke())
    request = following.request()
    assert request is not None
    reader = request.reader()
    clock.time += 15
    assert list(reader.feed(b": keep-alive\n\n")) == []
    assert following.after(ConnectionBroke()) == FIRST_PAUSE


def test_it_ends_at_its_time():
    clock = Clock()
    following = followed(clock, until=clock.time + 20)
    request = following.request()
    assert request is not None
    reader = request.reader()
    following.takes(event(1, "run.started", **STARTED))
    clock.time += 19.95
    assert following.after(StreamEnded()) == pytest.approx(0.05)
    clock.time += 1
    with pytest.raises(ServerTimedOut, match="wait_for_run"):
        list(reader.feed(b": keep-alive\n\n"))
    with pytest.raises(ServerTimedOut) as raised:
        following.after(StreamEnded())
    assert raised.value.run_id == "run_1"
