"""The way of one call to its tool: hosts, cache, rate, circuit breaker, retries, the call itself, bounds.

Whatever goes wrong is an error result that tells the model what it can do about it.
"""

import asyncio
import copy
from collections.abc import MutableSet
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from goagents.attempts import Fault
from goagents.engine.loaded import OpenTool
from goagents.errors import GoAgentsError, ToolError, ToolTimedOut
from goagents.messages import TextPart, ToolCallPart
from goagents.tools.base import ToolContext, ToolResult, text_result
from goagents.tools.redaction import Redactor

from .breaker import CircuitBreaker, CircuitOpen
from .caching import ResultCache, key_of
from .circuits import emit, tell
from .foreign import NoAnswer, answer_within, checked, tell_defect
from .output import bounded, redacted
from .results import Done
from .retrying import persist
from .surroundings import Surroundings

IN_DOUBT = (
    "Nobody knows whether the call took effect. Find out before you do it again; the same call again needs a person's "
    "approval."
)
_CLAIM_SLACK = 5.0  # seconds that a claim of the cache outlasts the call it is for


@dataclass(slots=True)
class Passage:
    """One call on its way. No part of it begins at `deadline` (monotonic) or later.

    `begun` holds the ids of calls that may have reached their tool: this one is added before, and taken away again
    where it surely did not.
    """

    around: Surroundings
    tool: OpenTool
    call: ToolCallPart
    context: ToolContext
    deadline: float
    begun: MutableSet[str]
    attempts: int = field(default=0, init=False)
    _last: Done | None = field(default=None, init=False)
    _without_turn: bool = field(default=False, init=False)

    async def make(self) -> Done:
        """Return what the call came to. Raises nothing of the tool's."""
        try:
            place = self._destination()
        except BaseException as error:  # noqa: BLE001 - a tool is foreign code
            return replace(self._failed(error), sent=False, attempts=0)
        done = self._refused(place)
        if done is None:
            done = await (self._cached(place) if self._may_cache else self._in_turn(place))
        return replace(done, attempts=self.attempts)

    @property
    def _left(self) -> float:
        """The seconds until the run has to be done here."""
        return max(0.0, self.deadline - self.around.clock.monotonic())

    @property
    def _may_cache(self) -> bool:
        return self.tool.spec.cache_ttl is not None and self.tool.tool.definition.effect == "read"

    def _destination(self) -> str | None:
        network = self.tool.network
        place = None if network is None else network.destination(self.call.arguments)
        if not isinstance(place, str | None):
            raise TypeError(f"the tool's destination is {type(place).__name__}, which is no text")
        return place

    def _refused(self, place: str | None) -> Done | None:
        hosts = self.around.hosts
        if hosts is None or place is None:
            return None
        host, _, port = place.rpartition(":")
        if hosts.allows(host, int(port) if port.isdigit() else None):
            return None
        return _said("refused", f"The call is not made: {hosts.refusal(host)}.")

    async def _wait_for_turn(self) -> Done | None:
        """Wait until the rate limit lets the call through; return what to answer where that is too late."""
        spec, around = self.tool.spec, self.around
        limiter = around.state.limiter(around.entry(spec.name), spec, around.clock)
        if limiter is None:
            return None
        definition = self.tool.tool.definition
        patience, left = definition.timeout, self._left
        if definition.effect == "unsafe":  # begun with no time left for its answer, it would be in doubt
            left -= definition.timeout
        wait = await limiter.turn(max(0.0, min(patience, left)))
        if wait > 0:
            often = "once" if limiter.spec.calls == 1 else f"{limiter.spec.calls} times"
            text = f"The tool may be called {often} in {limiter.spec.per:g} s: try again in {wait:.3g} s."
            return _said("rate_limited", text, wait, cut=wait <= patience)
        return None

    async def _cached(self, place: str | None) -> Done:
        around, spec = self.around, self.tool.spec
        definition = self.tool.tool.definition
        waits = 1 if spec.rate_limit is None else 2  # for the turn, and for the answer
        key = key_of(around.paths.tenant, around.cluster.uid, self.tool.digest, definition.name, self.call.arguments)
        cache = ResultCache(
            around.store,
            around.paths,
            around.clock,
            around.state.flights,
            ttl=spec.cache_ttl or 0.0,
            patience=min(waits * definition.timeout, self._left) + _CLAIM_SLACK,
        )
        try:
            async with asyncio.timeout(self._left if self.deadline < float("inf") else None):
                done = await cache.answer(key, lambda: self._in_turn(place))
        except TimeoutError:
            return _said("timeout", "The tool gave no answer before the run had to end here.", cut=True)
        # What was kept is looked at with the secrets of now, which may be others than those of then.
        return replace(done, result=redacted(done.result, self._redactor)) if done.cache == "hit" else done

    async def _in_turn(self, place: str | None) -> Done:
        return await self._wait_for_turn() or await self._protected(place)

    async def _protected(self, place: str | None) -> Done:
        """Make the call unless its server failed again and again."""
        around, spec = self.around, self.tool.spec
        breaker = around.state.breaker(around.entry(spec.name), place or "", spec, around.clock)
        try:
            probe = breaker.admit()
        except CircuitOpen as refused:
            failures = f"{breaker.failures} calls of {place or 'the tool'} failed in a row"
            text = f"The call is not made: {failures}. Try again in {refused.left:.3g} s, or do without."
            return _said("circuit_open", text, refused.left)
        if probe:
            emit(around, spec.name, place or "", breaker)
        try:
            done = await self._persistent()
        except BaseException:
            breaker.released(probe=probe)
            raise
        before = breaker.state  # of now: other calls may have changed it meanwhile, and have told so
        _judge(breaker, done, probe=probe)
        await tell(around, spec.name, place or "", breaker, before)
        return done

    async def _persistent(self) -> Done:
        spec = self.tool.spec
        if spec.retries.max == 0:
            return await self._attempt()
        return await persist(self._next_attempt, self._may_repeat, spec.retries, self.around.clock, self.deadline)

    def _may_repeat(self, done: Done) -> bool:
        if self._without_turn:
            return False
        return done.result.fault is not None and (not done.sent or self.tool.tool.definition.effect != "unsafe")

    async def _next_attempt(self) -> Done:
        """The first turn was waited for already; each repeat takes one of its own, and without one there is none."""
        if self._last is None or await self._wait_for_turn() is None:
            self._last = await self._attempt()
        else:
            self._without_turn = True
        return self._last

    async def _attempt(self) -> Done:
        definition = self.tool.tool.definition
        seconds = min(definition.timeout, self._left)
        self.attempts += 1
        self.begun.add(self.call.id)
        try:
            result = checked(await answer_within(seconds, self._answer(), self.around.state.left))
            return Done("error" if result.is_error else "ok", self._bounded(result), foreign=True)
        except NoAnswer:
            cut = seconds < definition.timeout
            text = f"The tool gave no answer within {seconds:.3g} s."
            done = _said("timeout", text, cut=cut, fault=None if cut else "server")
            return self._in_doubt(done) if definition.effect == "unsafe" else done
        except BaseException as error:  # noqa: BLE001 - a tool is foreign code: its defect must not end the run
            done = self._failed(error)
            if not done.sent:
                self.begun.discard(self.call.id)
            unanswered = done.sent and done.result.fault == "server"
            return self._in_doubt(done) if unanswered and definition.effect == "unsafe" else done

    async def _answer(self) -> Any:
        """The arguments are the call's own, and recorded: each attempt gets a copy that it may change."""
        return await self.tool.tool.call(copy.deepcopy(self.call.arguments), self.context)

    def _failed(self, error: BaseException) -> Done:
        """Return what an exception of the tool comes to. Raises a cancellation: whose it is, the caller can tell."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            raise error
        if isinstance(error, ToolError):
            if error.defect is not None:
                self._log(error.defect)
            failed = ToolResult(text_result(str(error)).content, True, error.fault, error.retry_after)
            outcome = "timeout" if isinstance(error, ToolTimedOut) else "error"
            return Done(outcome, self._bounded(failed), foreign=True, sent=error.sent)
        if isinstance(error, TimeoutError):
            return _said("timeout", "The tool waited in vain for an answer.", fault="server")
        if isinstance(error, GoAgentsError):
            return Done("error", self._bounded(text_result(str(error), is_error=True)), foreign=True)
        self._log(error)
        return _said("error", "The tool failed unexpectedly.")

    def _log(self, defect: BaseException) -> None:
        tell_defect(self.around, self.tool.spec.name, f"tool {self.call.name}", defect)

    def _in_doubt(self, done: Done) -> Done:
        """No answer is no answer: the call may have taken effect all the same."""
        return replace(
            done, unknown=True, result=replace(done.result, content=(*done.result.content, TextPart(IN_DOUBT)))
        )

    def _bounded(self, result: ToolResult) -> ToolResult:
        return bounded(result, self.tool.tool.definition.max_output, self._redactor)

    @property
    def _redactor(self) -> Redactor:
        return self.around.secrets.redactor(self.tool.spec.name)


def _judge(breaker: CircuitBreaker, done: Done, *, probe: bool) -> None:
    """Count what the call tells of the server: an error about the arguments is an answer like any other."""
    if done.result.fault == "server":
        breaker.failed(probe=probe)
    elif done.cut or not done.foreign or done.result.fault == "busy":
        breaker.released(probe=probe)
    else:
        breaker.succeeded()


def _said(
    outcome: Literal["refused", "rate_limited", "circuit_open", "timeout", "error"],
    text: str,
    retry_after: float | None = None,
    *,
    cut: bool = False,
    fault: Fault | None = None,
) -> Done:
    """Return what we say in the tool's place."""
    return Done(outcome, ToolResult(text_result(text).content, True, fault, retry_after), cut=cut)
