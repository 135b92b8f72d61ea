"""A call without an answer is in doubt, as one whose process died: it may have taken effect."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.support.desk import ALLOW, DENY, Desk
from tests.support.durable import (
    call,
    calling,
    results,
    say,
    shop_cluster,
)
from tests.support.engine import applied
from tests.support.runs import conversation

from goagents.errors import ToolFailed
from goagents.messages import TextPart
from goagents.resources import Decision, Run
from goagents.store.base import Store

REFUND = call("refund", 3, amount=5)
SCRIPT = calling([REFUND])


async def timed_out(_: Mapping[str, Any]) -> str:
    await asyncio.Event().wait()
    return ""


async def unanswered(_: Mapping[str, Any]) -> str:
    raise ToolFailed("The connection was lost.").because("server")


async def unsent(_: Mapping[str, Any]) -> str:
    raise ToolFailed("There is no connection.").because("server", sent=False)


async def refused(_: Mapping[str, Any]) -> str:
    raise ToolFailed("The order is closed.")


def fails(desk: Desk, function: Any) -> None:
    """Have the shop's refunds come to this, each within 0.1 s."""
    refund = desk.shop.by_name["refund"]
    refund.function, refund.definition = function, replace(refund.definition, timeout=0.1)


@pytest.mark.parametrize("function", [timed_out, unanswered])
async def test_a_call_without_an_answer_is_in_doubt(store: Store, function: Any):
    desk = Desk(store, SCRIPT)
    fails(desk, function)
    await applied(desk.services, shop_cluster(retries=2))
    await (await say(desk.services)).result()
    (part,) = results(await conversation(desk.services, "talk"))
    assert part.unknown
    assert "needs a person's approval" in "".join(c.text for c in part.content if isinstance(c, TextPart))
    assert len(desk.shop.calls("refund")) == 1
    waits = await desk.again()
    assert waits.waiting
    assert [(c.arguments, c.reason) for c in waits.waiting.calls] == [(REFUND["arguments"], "outcome_unknown")]
    assert len(desk.shop.calls("refund")) == 1


@pytest.mark.parametrize("function", [unsent, refused])
async def test_a_call_that_was_answered_or_never_sent_is_not(store: Store, function: Any):
    desk = Desk(store, SCRIPT)
    fails(desk, function)
    await applied(desk.services, shop_cluster())
    for _ in range(2):
        await (await say(desk.services)).result()
    assert [part.unknown for part in results(await conversation(desk.services, "talk"))] == [False, False]
    assert len(desk.shop.calls("refund")) == 2


@pytest.mark.parametrize("decision", [ALLOW, DENY], ids=["allow", "deny"])
async def test_a_person_decides_on_a_call_without_an_answer(store: Store, decision: Decision):
    desk = Desk(store, calling([call("look", 1), REFUND]))
    fails(desk, unanswered)
    await applied(desk.services, shop_cluster(unknown_outcome="wait"))
    run = await (await say(desk.services)).answer()
    assert isinstance(run, Run)
    assert run.waiting
    assert [(c.name, c.reason) for c in run.waiting.calls] == [("refund", "outcome_unknown")]
    fails(desk, answers_well)
    await desk.decide(run.id, decision)
    assert (await desk.goes_on(run.id)).status == "succeeded"
    assert len(desk.shop.calls("refund")) == (2 if decision is ALLOW else 1)
    assert len(desk.shop.calls("look")) == 1
    assert (await desk.again()).waiting  # whatever a person said of that one


async def answers_well(_: Mapping[str, Any]) -> str:
    return "refunded"
