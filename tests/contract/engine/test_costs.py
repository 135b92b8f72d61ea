"""What things cost in operations of Firestore, counted, and that docs/operations.md says the same."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.billing import Bill, Meter, touch_counters
from tests.support.durable import process, say, told, work
from tests.support.engine import ALICE, Engine, all_told, applied, engine, manifest
from tests.support.runs import PATHS, chat

from goagents.engine import runs
from goagents.engine.recovery.sweep import sweep
from goagents.messages import MESSAGE, Message, TextPart, Usage, user_message
from goagents.providers.base import ModelEvent, ModelRequest, ModelResponse, TextDelta
from goagents.records import MessageRecord
from goagents.store.base import Merge, Put, Store, Write
from goagents.testing.clocks import VirtualClock
from goagents.testing.dispatch import RecordingDispatch
from goagents.testing.models import ScriptedModel
from goagents.testing.tools import StaticToolset, function_tool

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
MONEY = "1,000 (multi-region) | 1,000,000 | 1,000 (region) | 1,000,000 |"
COLUMNS = "reads | writes | deletes | expiring |"
PLACES = 1000  # slots and instances: a run's candidates are different ones, nearly always
LUCK = 2  # reads a turn saves where they are not
ENTRY = {"type": "http", "name": "shop", "url": "https://shop.example"}


def rows(table: str, columns: str = COLUMNS) -> dict[str, str]:
    """Return the rows of a table of the page, by their first cell. `table` is the first cell of its head."""
    head = f"\n| {table} | {columns}\n"
    assert PAGE.count(head) == 1, f"docs/operations.md has no table {head.strip()}"
    found = re.findall(r"^\| ([^|]+) \| (.*) \|$", PAGE.partition(head)[2].partition("\n\n")[0], re.MULTILINE)
    return dict(found)


def shown(table: str, name: str) -> Bill:
    """Return what the page says `name` costs."""
    return Bill(*(int(cell.replace(",", "")) for cell in rows(table)[name].split(" | ")))


def compare(table: str, name: str, bill: Bill, luck: int = 0, late: int = 0) -> None:
    says = shown(table, name)
    told = f"docs/operations.md says of {name!r} {says}, and it was {bill}"
    assert astuple(bill)[1:] == astuple(says)[1:], told
    assert says.reads - luck <= bill.reads <= says.reads + late, told


def shop() -> StaticToolset:
    async def at_once(arguments: Mapping[str, Any]) -> str:
        return "done"

    async def later(arguments: Mapping[str, Any]) -> str:
        await asyncio.sleep(0.05)
        return "done, too"

    return StaticToolset(
        [
            function_tool("look", at_once, effect="read"),
            function_tool("search", later, effect="read"),
            function_tool("pay", at_once, effect="unsafe"),
        ]
    )


def calling(*tools: str) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": {}} for name in tools]}


async def warm(store: Store, model: Any, dispatch: RecordingDispatch | None = None) -> tuple[Engine, Meter]:
    """Return services that have had a first turn, and the meter of their store, at 0."""
    meter = Meter(store)
    services = engine(meter, model, {"shop": shop()}, dispatch=dispatch)
    await applied(services, manifest({"tools": [ENTRY]}, max_concurrent_agents=PLACES))
    await touch_counters(store)
    await chat(services, "hi", "talk")
    await all_told(services)
    meter.reset()
    return services, meter


async def said_before(store: Store, turns: int, compacted: int) -> None:
    """Let the session `talk`, which has had one turn, have had more of a question and an answer each."""
    writes: list[Write] = [Merge(PATHS.session("talk"), {"head": 2 * turns, "compacted": compacted})]
    for seq in range(3, 2 * turns + 1):
        message = user_message("And?") if seq % 2 else Message("assistant", (TextPart("So."),))
        record = MessageRecord(
            seq=seq,
            run="run_earlier",
            agent="helper",
            message=MESSAGE.dump_python(message, mode="json"),
            created_at=datetime.now(UTC),
        )
        writes.append(Put(PATHS.message("talk", seq), record.data()))
    for start in range(0, len(writes), 400):
        await store.commit(writes[start : start + 400])


@pytest.mark.parametrize(
    ("name", "turns", "compacted"),
    [
        pytest.param("the 2nd of a session", 1, 0),
        pytest.param("the 10th", 9, 0),
        pytest.param("the 1,000th", 999, 1900),
    ],
)
async def test_a_turn_without_tools(store: Store, name: str, turns: int, compacted: int):
    services, meter = await warm(store, ScriptedModel("hello", "So."))
    await said_before(store, turns, compacted)
    meter.reset()
    await chat(services, "And?", "talk")
    compare("a turn", name, meter.bill(), LUCK)


async def test_the_first_turn_of_a_session(store: Store):
    services, meter = await warm(store, ScriptedModel("hello", "So."))
    await chat(services, "And?")
    compare("a turn", "the 1st of a session", meter.bill(), LUCK)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        pytest.param("the 1st, with one step of tools", [["look"]]),
        pytest.param("the 1st, with five steps of tools", [["look"]] * 5),
        pytest.param("the 1st, with an unsafe call that another outlasts", [["pay", "search"]]),
    ],
)
async def test_a_turn_with_tools(store: Store, name: str, steps: Sequence[Sequence[str]]):
    model = ScriptedModel("hello", *(calling(*tools) for tools in steps), "done")
    services, meter = await warm(store, model)
    await chat(services, "do it")
    compare("a turn", name, meter.bill(), LUCK)


async def test_a_turn_with_a_key(store: Store):
    services, meter = await warm(store, ScriptedModel("hello", "So."))
    await chat(services, "And?", idempotency_key="k")
    compare("a turn", "the 1st, with an `Idempotency-Key`", meter.bill(), LUCK)


async def test_a_turn_in_the_background(store: Store):
    queue = RecordingDispatch()
    services, meter = await warm(store, ScriptedModel("hello", "So."), queue)
    await say(services, session=None, kind="background")
    await work(services, queue)
    compare("a turn", "the 1st, in the background", meter.bill(), LUCK)


class Speaking:
    """Says a word every half second of `clock`, for `seconds`; or, `silent`, everything at the end."""

    name = "scripted"

    def __init__(self, clock: VirtualClock, seconds: float, *, silent: bool) -> None:
        self.clock, self.seconds, self.silent = clock, seconds, silent

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        said = ""
        for _ in range(int(2 * self.seconds)):
            await self.clock.sleep(0.5)
            said += "so "
            if not self.silent:
                yield TextDelta("so ")
        yield ModelResponse(Message("assistant", (TextPart(said),)), "end_turn", Usage(1, 1), request.model)

    async def aclose(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(
    ("name", "kind", "silent"),
    [
        pytest.param("a run that waits for its model", "chat", True),
        pytest.param("a run whose text is streamed to a client, or `chat`", "stream", False),
        pytest.param("a run in the background whose model speaks", "background", False),
    ],
)
async def test_a_minute_of_a_run(store: Store, name: str, kind: str, silent: bool):
    two = await _bill_of_a_run(store, 120, kind, silent)
    one = await _bill_of_a_run(store, 60, kind, silent)
    compare("a minute of", name, two - one, luck=2, late=2)  # a look may fall into the next minute


async def _bill_of_a_run(store: Store, seconds: float, kind: str, silent: bool) -> Bill:
    """Return what a run costs whose model takes so long."""
    clock, queue, meter = VirtualClock(datetime.now(UTC)), RecordingDispatch(), Meter(store)
    services = process(clock.watch(meter), Speaking(clock, seconds, silent=silent), dispatch=queue, runs={})
    services.clock = clock
    await applied(services)
    await touch_counters(store)
    meter.reset()

    async def to_its_end() -> None:
        watch = await say(services, session=None, kind=kind)
        if kind == "background":
            await work(services, queue)
        else:
            await told(watch)

    running = asyncio.ensure_future(to_its_end())
    await clock.run_until(running.done)
    await running
    return meter.bill()


async def test_a_minute_of_a_follower_elsewhere(store: Store):
    longer, shorter = [await _bill_of_following(store, seconds) for seconds in (40, 10)]
    minute = longer - shorter + (longer - shorter)
    compare("a minute of", "a client that follows a silent run from another process", minute, luck=12, late=12)


async def _bill_of_following(store: Store, seconds: float) -> Bill:
    clock, meter = VirtualClock(datetime.now(UTC)), Meter(store, alone=False)
    model = Speaking(clock, seconds, silent=True)
    executing, other = process(clock.watch(store), model), process(clock.watch(meter), model)
    executing.clock = other.clock = clock
    await applied(executing)
    watch = await say(executing, session=None)
    meter.reset()
    following = asyncio.ensure_future(_follow(other, watch.run_id))
    await clock.run_until(following.done)
    await following
    return meter.bill()


async def _follow(services: Engine, run_id: str) -> None:
    await told(await runs.watch(services, ALICE, run_id))


async def test_a_sweep(store: Store):
    services, meter = await warm(store, ScriptedModel("hello"), RecordingDispatch())
    await sweep(services)
    meter.reset()
    await sweep(services)
    nothing = meter.bill()
    compare("a sweep", "that finds nothing", nothing)
    for _ in range(3):
        await say(services, session=None, kind="background")
    meter.reset()
    await sweep(services)
    each = Bill((meter.bill().reads - nothing.reads + 1) // 3)  # the query that finds them is paid for by the first
    compare("a sweep", "for each run that is not over", each)


def test_the_money_is_what_the_operations_cost():
    """US$ at the prices that the page assumes."""
    prices = {
        place: [float(price.removeprefix("$")) for price in cells.split(" | ")]
        for place, cells in rows("US$ for 100,000", "reads | writes | deletes |").items()
        if not place.startswith("-")
    }
    assert list(prices) == ["multi-region `nam5`, `eur3`", "region `us-central1`"]
    money = {name: cells for name, cells in rows("US$", MONEY).items() if name[0] != "-"}
    assert len(money) >= 5
    for name, cells in money.items():
        table = next(table for table in ("a turn", "a minute of") if name in rows(table))
        millions = [shown(table, name).price(*price) for price in prices.values()]
        assert cells.split(" | ") == [f"{cost:,.{digits}f}" for cost in millions for cost, digits in _both(cost)], name


def _both(million: float) -> list[tuple[float, int]]:
    return [(million / 1000, 3), (million, 1)]
