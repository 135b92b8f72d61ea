"""What is around a call: retries, circuit breaker and rate limit, with time that the test moves."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.support.calling import Desk, text_of

from goagents.errors import ToolFailed, ToolInvalidArguments, ToolUnavailable
from goagents.telemetry.base import ToolCircuitChanged
from goagents.tools.base import ToolResult, text_result

pytestmark = pytest.mark.usefixtures("no_chance")


@pytest.fixture
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jitter is a pause's whole length."""
    monkeypatch.setattr("random.uniform", lambda low, high: high)


def down(text: str = "no answer", **more: Any) -> ToolFailed:
    return ToolFailed(text).because("server", **more)


def busy(seconds: float | None = None) -> ToolResult:
    return ToolResult(text_result("HTTP 429").content, True, "busy", seconds)


async def elapsed(made: Desk, *args: Any, **more: Any) -> tuple[Any, float]:
    began = made.clock.monotonic()
    done = await made.call(*args, **more)
    return done, made.clock.monotonic() - began


class TestRetries:
    async def test_a_passing_failure_is_tried_again_with_growing_pauses(self, make: Any):
        at = make(retries=3)
        tool = at.tool(down(), down(), "found")
        done, seconds = await elapsed(at, tool)
        assert (done.outcome, text_of(done), done.attempts) == ("ok", "found", 3)
        assert seconds == pytest.approx(0.5 + 1.0)
        assert len(set(tool.keys)) == 1, "the same call has the same key"

    async def test_by_default_nothing_is_repeated(self, make: Any):
        at = make()
        tool = at.tool(down())
        assert (await at.call(tool)).attempts == 1

    async def test_the_last_failure_is_told(self, make: Any):
        at = make(retries={"max": 2, "backoff": "100ms", "max_backoff": "150ms"})
        done, seconds = await elapsed(at, at.tool(down("one"), down("two"), down("three")))
        assert (done.outcome, text_of(done), done.attempts) == ("error", "three", 3)
        assert seconds == pytest.approx(0.1 + 0.15)

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(ToolInvalidArguments("no such id"), id="wrong arguments"),
            pytest.param(ToolFailed("no such id"), id="the tool's own error"),
            pytest.param(text_result("HTTP 404", is_error=True), id="a status of 404"),
            pytest.param(RuntimeError("a defect"), id="a defect"),
        ],
    )
    async def test_what_will_not_pass_is_not_repeated(self, make: Any, answer: Any):
        at = make(retries=3)
        done = await at.call(at.tool(answer))
        assert (done.outcome, done.attempts) == ("error", 1)

    @pytest.mark.parametrize(("effect", "attempts"), [("read", 3), ("idempotent", 3), ("unsafe", 1)])
    async def test_only_what_may_be_repeated_is(self, make: Any, effect: str, attempts: int):
        at = make(retries=2)
        assert (await at.call(at.tool(down(), effect=effect))).attempts == attempts

    async def test_an_unsafe_call_that_was_surely_not_sent_is_made_again(self, make: Any):
        at = make(retries=2)
        done = await at.call(at.tool(down(sent=False), ToolUnavailable("starting"), "paid", effect="unsafe"))
        assert (done.outcome, done.attempts) == ("ok", 3)
        assert at.begun == {"call_1"}

    async def test_what_was_surely_not_sent_leaves_no_doubt(self, make: Any):
        at = make()
        await at.call(at.tool(down(sent=False), effect="unsafe"))
        assert at.begun == set()
        await at.call(at.tool(down(), effect="unsafe"))
        assert at.begun == {"call_1"}

    async def test_a_server_says_when_to_come_back(self, make: Any):
        at = make(retries=1)
        done, seconds = await elapsed(at, at.tool(busy(7.0), "found"))
        assert (done.outcome, seconds) == ("ok", pytest.approx(7.0))

    async def test_a_longer_wait_than_max_backoff_is_the_models_to_decide(self, make: Any):
        at = make(retries=1)
        done, seconds = await elapsed(at, at.tool(busy(31.0), "found"))
        assert (text_of(done), done.attempts, seconds) == ("HTTP 429", 1, 0)

    async def test_a_repeat_that_does_not_fit_into_the_run_is_not_begun(self, make: Any):
        at = make(retries=5)
        done, seconds = await elapsed(at, at.tool(down()), seconds=2.0)
        assert (done.attempts, seconds) == (3, pytest.approx(0.5 + 1.0))

    async def test_no_answer_in_time_is_a_passing_failure(self, make: Any):
        at = make(retries=1, timeout="50ms")
        tool = at.tool("late")
        tool.hold = asyncio.Event()
        done = await at.call(tool)
        assert (done.outcome, done.attempts) == ("timeout", 2)
        assert "no answer within 0.05 s" in text_of(done)


PLACE = "api.example.com:443"


def changes(at: Desk) -> list[tuple[str, str, float]]:
    return [(e.host, e.state, e.left) for e in at.seen if isinstance(e, ToolCircuitChanged)]


class TestCircuitBreaker:
    async def broken(self, at: Desk, times: int, *answers: Any) -> Any:
        tool = at.tool(*[down()] * times, *(answers or ("back",)))
        for _ in range(times):
            await at.call(tool)
        return tool

    async def test_a_server_that_fails_in_a_row_is_left_alone_and_tried_again(self, make: Any):
        at = make(circuit_breaker={"failures": 2, "reset": "10s"})
        tool = await self.broken(at, 2)
        done = await at.call(tool)
        assert done.outcome == "circuit_open"
        assert text_of(done) == (
            "The call is not made: 2 calls of api.example.com:443 failed in a row. Try again in 10 s, or do without."
        )
        assert (len(tool.keys), done.attempts) == (2, 0)
        await at.clock.advance(10)
        assert text_of(await at.call(tool)) == "back"
        assert changes(at) == [(PLACE, "open", 10), (PLACE, "half_open", 0), (PLACE, "closed", 0)]

    async def test_by_default_after_five(self, make: Any):
        at = make()
        tool = await self.broken(at, 4, down(), "back")
        assert (await at.call(tool)).outcome == "error"
        assert (await at.call(tool)).outcome == "circuit_open"

    async def test_the_call_that_tries_may_fail(self, make: Any):
        at = make(circuit_breaker={"failures": 1, "reset": "10s"})
        tool = await self.broken(at, 1, down(), "back")
        await at.clock.advance(10)
        assert (await at.call(tool)).outcome == "error"
        await at.clock.advance(9)
        assert (await at.call(tool)).outcome == "circuit_open"
        await at.clock.advance(1)
        assert (await at.call(tool)).outcome == "ok"
        tried = [(PLACE, "half_open", 0), (PLACE, "open", 10), (PLACE, "half_open", 0), (PLACE, "closed", 0)]
        assert changes(at) == [(PLACE, "open", 10), *tried]

    async def test_each_change_is_told_once_whoever_brings_it_about(self, make: Any):
        """Calls that began before it opened end after: neither do they open it again, nor close it unseen."""
        at = make(circuit_breaker={"failures": 2, "reset": "10s"})
        late, failing = at.tool("fine"), at.tool(down())
        late.hold = asyncio.Event()
        waiting = asyncio.create_task(at.call(late))
        await at.clock.settle()
        await asyncio.gather(*(at.call(failing) for _ in range(4)))
        assert changes(at) == [(PLACE, "open", 10)]
        late.hold.set()
        assert (await waiting).outcome == "ok"
        assert changes(at) == [(PLACE, "open", 10), (PLACE, "closed", 0)]

    async def test_only_one_call_tries(self, make: Any):
        at = make(circuit_breaker={"failures": 1, "reset": "10s"})
        tool = await self.broken(at, 1)
        await at.clock.advance(10)
        tool.hold = asyncio.Event()
        first = asyncio.create_task(at.call(tool))
        await at.clock.settle()
        assert (await at.call(tool)).outcome == "circuit_open"
        tool.hold.set()
        assert (await first).outcome == "ok"
        assert (await at.call(tool)).outcome == "ok"

    async def test_a_trying_call_that_is_cancelled_lets_the_next_one_try(self, make: Any):
        at = make(circuit_breaker={"failures": 1, "reset": "10s"})
        tool = await self.broken(at, 1)
        await at.clock.advance(10)
        (breaker,) = at.around.state.breakers.values()
        assert breaker.admit()
        breaker.released(probe=True)
        assert (await at.call(tool)).outcome == "ok"

    @pytest.mark.parametrize(
        "answers",
        [
            pytest.param([ToolFailed("no such id")] * 5, id="the tool's own errors"),
            pytest.param([busy()] * 5, id="a server that is busy"),
            pytest.param([down(), "fine", down(), "fine", down()], id="failures not in a row"),
            pytest.param([RuntimeError("x")] * 5, id="defects of ours"),
        ],
    )
    async def test_what_says_nothing_of_the_server_does_not_count(self, make: Any, answers: Sequence[Any]):
        at = make(circuit_breaker={"failures": 2})
        tool = at.tool(*answers, "fine")
        for _ in answers:
            assert (await at.call(tool)).outcome != "circuit_open"
        assert (await at.call(tool)).outcome == "ok"

    async def test_who_asks_to_be_called_later_has_neither_failed_nor_recovered(self, make: Any):
        at = make(circuit_breaker={"failures": 2, "reset": "1m"})
        tool = at.tool(down(), busy(), down(), busy(), "found")
        assert [(await at.call(tool)).outcome for _ in range(4)] == ["error", "error", "error", "circuit_open"]
        await at.clock.advance(60)
        assert [(await at.call(tool)).outcome for _ in range(2)] == ["error", "ok"]  # busy, so it is tried once more

    async def test_the_runs_own_end_does_not_count(self, make: Any):
        at = make(circuit_breaker={"failures": 1})
        tool = at.tool("late")
        tool.hold = asyncio.Event()
        assert (await at.call(tool, seconds=0.05)).outcome == "timeout"
        tool.hold.set()
        assert (await at.call(tool)).outcome == "ok"

    async def test_each_host_has_its_own(self, make: Any):
        at = make(circuit_breaker={"failures": 1})
        await self.broken(at, 1)
        other = at.tool("fine")
        other.place = "other.example.com:443"
        assert (await at.call(other)).outcome == "ok"

    async def test_it_can_be_turned_off(self, make: Any):
        at = make(circuit_breaker={"failures": 0})
        tool = await self.broken(at, 20)
        assert (await at.call(tool)).outcome == "ok"

    async def test_a_call_with_retries_counts_once(self, make: Any):
        at = make(retries=4, circuit_breaker={"failures": 2})
        tool = at.tool(down())
        await at.call(tool)
        assert (await at.call(tool)).outcome == "error"
        assert (await at.call(tool)).outcome == "circuit_open"


class TestRateLimit:
    async def test_a_burst_then_one_turn_after_another(self, make: Any):
        at = make(rate_limit={"calls": 3, "per": "6s"})
        tool = at.tool("ok")
        waits = [(await elapsed(at, tool))[1] for _ in range(5)]
        assert waits == pytest.approx([0, 0, 0, 2, 2])
        await at.clock.advance(60)
        assert [(await elapsed(at, tool))[1] for _ in range(4)] == pytest.approx([0, 0, 0, 2])

    async def test_who_would_wait_too_long_is_told_when_to_come_back(self, make: Any):
        at = make(rate_limit={"calls": 1, "per": "1m"}, timeout="5s")
        tool = at.tool("ok")
        await at.call(tool)
        done, seconds = await elapsed(at, tool)
        assert (done.outcome, seconds) == ("rate_limited", 0)
        assert text_of(done) == "The tool may be called once in 60 s: try again in 60 s."
        assert (len(tool.keys), at.begun) == (1, {"call_1"})
        await at.clock.advance(60)
        assert (await at.call(tool)).outcome == "ok"

    async def test_a_wait_does_not_outlast_the_run(self, make: Any):
        at = make(rate_limit={"calls": 1, "per": "10s"})
        tool = at.tool("ok")
        await at.call(tool)
        assert (await at.call(tool, seconds=9)).outcome == "rate_limited"
        assert (await at.call(tool, seconds=11)).outcome == "ok"

    @pytest.mark.parametrize(("effect", "outcome"), [("unsafe", "rate_limited"), ("read", "ok")])
    async def test_an_unsafe_call_waits_no_longer_than_leaves_time_for_its_answer(
        self, make: Any, effect: str, outcome: str
    ):
        at = make(rate_limit={"calls": 1, "per": "2s"}, timeout="5s")
        tool = at.tool("done", effect=effect)
        assert (await at.call(tool, seconds=3)).outcome == "ok"  # at once
        done = await at.call(tool, seconds=6)
        assert (done.outcome, done.unknown) == (outcome, False)
        await at.clock.advance(2)
        assert (await at.call(tool, seconds=8)).outcome == "ok"

    async def test_a_repeat_takes_a_turn_too(self, make: Any):
        at = make(rate_limit={"calls": 1, "per": "3s"}, retries=2)
        done, seconds = await elapsed(at, at.tool(down(), down(), "found"))
        assert (done.outcome, seconds) == ("ok", pytest.approx(6))

    async def test_a_repeat_without_a_turn_is_none_and_the_failure_is_told(self, make: Any):
        at = make(retries=3, rate_limit={"calls": 1, "per": "1m"}, circuit_breaker={"failures": 2, "reset": "1h"})
        tool = at.tool(down())
        for _ in range(2):
            done = await at.call(tool)
            assert (done.outcome, text_of(done), done.attempts) == ("error", "no answer", 1)
            await at.clock.advance(60)
        done = await at.call(tool)
        assert (done.outcome, len(tool.keys)) == ("circuit_open", 2)


class TestRateLimitAndCache:
    LIMITED: Mapping[str, Any] = {"rate_limit": {"calls": 1, "per": "10s"}, "cache_ttl": "1h"}

    async def test_an_answer_from_the_cache_takes_no_turn(self, make: Any):
        at = make(**self.LIMITED)
        tool = at.tool("one", "two", "three")
        found = [await elapsed(at, tool, q=1) for _ in range(5)]
        assert [(text_of(done), done.cache, seconds) for done, seconds in found] == [
            ("one", "miss", 0),
            *[("one", "hit", 0)] * 4,
        ]
        done, seconds = await elapsed(at, tool, q=2)
        assert (text_of(done), seconds) == ("two", pytest.approx(10)), "what is asked of the server waits for its turn"
        await at.clock.advance(10)
        await at.call(tool, q=1)
        done, seconds = await elapsed(at, tool, q=3)
        assert (text_of(done), seconds) == ("three", 0), "the turn was left for it"

    async def test_who_is_too_late_for_a_turn_keeps_nobody_from_asking(self, make: Any):
        at = make(**self.LIMITED, timeout="5s")
        tool = at.tool("one", "two")
        await at.call(tool, q=1)
        done, seconds = await elapsed(at, tool, q=2)
        assert (done.outcome, done.attempts, seconds) == ("rate_limited", 0, 0)
        await at.clock.advance(10)
        done, seconds = await elapsed(at, tool, q=2)
        assert (text_of(done), seconds) == ("two", 0), "its claim was taken away"

    async def test_a_run_that_has_to_end_speaks_for_itself_alone(self, make: Any):
        """Who waits for the same answer may have the time that it lacks."""
        at = make(**self.LIMITED)
        tool = at.tool("one", "two")
        await at.call(tool, q=1)
        short, long = await asyncio.gather(at.call(tool, seconds=5, q=2), at.call(tool, q=2))
        assert (short.outcome, long.outcome, text_of(long)) == ("rate_limited", "ok", "two")
        assert at.clock.monotonic() == pytest.approx(10)

    async def test_another_process_waits_for_the_turn_and_the_call(self, make: Any):
        at = make(**self.LIMITED, timeout="20s")
        other = at.elsewhere()
        tool = at.tool("one", "two")
        await at.call(tool, q=1)
        tool.takes = 18.0
        first, second = await asyncio.gather(at.call(tool, q=2), other.call(tool, q=2))
        assert (text_of(first), text_of(second), second.cache) == ("two", "two", "hit")
        assert len(tool.keys) == 2


@pytest.mark.parametrize("function", ["health", "clusters", "metrics"])
def test_a_function_that_calls_no_tools_does_not_load_what_repeats_them(function: str):
    code = f"import sys, goagents.app as app; app.application({function!r}); print('tenacity' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "False"
