"""Taking up a run that nobody executes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from tests.support.engine import ALICE, applied, engine
from tests.support.runs import Held, at_rest

from goagents.engine import runs
from goagents.engine.watching import Watch
from goagents.resources import ChatRequest, Run
from goagents.spec.config import Config
from goagents.store.base import Store
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.stores import Method, PassingStore, Subject

T = TypeVar("T")


class HeldAnswers(PassingStore):
    """While `holding`, the answer of a commit that was applied waits for `release`; `held` is set when one does."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.holding = False
        self.held, self.release = asyncio.Event(), asyncio.Event()

    async def around(self, method: Method, subject: Subject, call: Callable[[], Awaitable[T]]) -> T:
        done = await call()
        if self.holding and method == "commit":
            self.held.set()
            await self.release.wait()
        return done


async def listen(watch: Watch) -> None:
    async for _ in watch.events():
        pass


async def test_a_follower_that_leaves_while_it_takes_a_run_up_leaves_it_running(store: Store):
    slow = HeldAnswers(store)
    config = Config.model_validate({"runs": {"dispatch_grace": "100ms"}})
    services = engine(slow, config=config, dispatch=RecordingDispatch())  # no worker ever comes
    await applied(services)
    request = ChatRequest(message="hi", session_id="talk")
    watch = await runs.start(services, ALICE, "support.helper", request, kind="background")
    slow.holding = True
    follower = asyncio.create_task(listen(watch))
    await asyncio.wait_for(slow.held.wait(), 60)
    follower.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follower
    slow.holding = False
    slow.release.set()
    # the lease lasts for 30 s: until then nobody else could have it
    assert (await asyncio.wait_for(watch.result(), 60)).message.text == "hello"
    assert (await runs.get_run(services, ALICE, watch.run_id)).attempt == 1
    await at_rest(services, "talk")


async def test_nobody_waits_in_a_process_that_ends_for_what_goes_on_elsewhere(store: Store):
    held = Held()
    config = Config.model_validate({"runs": {"dispatch_grace": "100ms"}})
    first, second = engine(store, held), engine(store, config=config, dispatch=RecordingDispatch())
    await applied(first)
    request = ChatRequest(message="hi", session_id="talk")
    running = await runs.start(first, ALICE, "support.helper", request, kind="chat")
    left = await runs.start(second, ALICE, "support.helper", ChatRequest(message="hi"), kind="background")
    following = await runs.watch(second, ALICE, running.run_id)
    listening, waiting = asyncio.create_task(listen(following)), asyncio.create_task(following.answer())
    await asyncio.sleep(0.2)
    assert not listening.done()
    assert not waiting.done()
    second.ending = True
    await asyncio.wait_for(listening, 60)
    answer = await asyncio.wait_for(waiting, 60)
    assert isinstance(answer, Run)
    assert answer.status == "running"
    assert (await asyncio.wait_for(left.answer(), 60)).status == "queued"  # nor is it begun here
    held.release.set()
    assert (await running.result()).message.text == "done"
