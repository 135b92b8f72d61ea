"""The small parts of the engine, on their own."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goagents.engine.admission.capacity import Pool
from goagents.engine.clusters import differences
from goagents.engine.execution.toolcalls import sound
from goagents.engine.names import AgentId
from goagents.engine.status import instances_of, split
from goagents.errors import NotFound
from goagents.messages import MESSAGE, Message, ToolCallPart, user_message
from goagents.records import InstanceRecord, MessageRecord
from goagents.store.base import Document

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_pool_gives_each_number_once_and_the_freed_one_first():
    pool = Pool()
    assert [pool.reserve(3) for _ in range(4)] == [0, 1, 2, None]
    pool.free(1)
    pool.free(2)
    assert pool.reserve(3) == 2
    assert pool.alternatives(3, wide=False) == [1]
    assert pool.take(1)
    assert not pool.take(1)


def test_a_number_given_back_unused_is_not_preferred():
    pool = Pool()
    assert pool.reserve(3) == 0
    assert pool.reserve(3) == 1
    pool.free(1, idle=False)
    pool.free(0, idle=False)
    assert pool.reserve(3) == 0


async def test_waiting_for_a_release_ends_when_one_comes_and_when_time_is_up():
    pool = Pool()
    await pool.wait_released(0.01)
    pool.reserve(1)
    pool.free(0)
    assert pool.reserve(1) == 0


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("support.helper", AgentId("default", "support", "helper")),
        ("team.support.helper", AgentId("team", "support", "helper")),
    ],
)
def test_agent_ids_are_read_and_written(text: str, parsed: AgentId):
    assert AgentId.parse(text) == parsed
    assert str(parsed) == text


@pytest.mark.parametrize("text", ["", "helper", "a.b.c.d", "a..b", ".", "support."])
def test_a_text_that_names_no_agent_is_not_found(text: str):
    with pytest.raises(NotFound, match=r"CLUSTER\.AGENT"):
        AgentId.parse(text)


def _document(seq: int, message: Message) -> Document:
    record = MessageRecord(
        seq=seq, run="r", agent="a", message=MESSAGE.dump_python(message, mode="json"), created_at=NOW
    )
    return Document(f"m/{seq}", record.data(), "1")


def test_differences_name_the_paths_that_changed():
    before = {"a": 1, "b": [{"c": 1}, {"c": 2}], "d": [1], "gone": True}
    after = {"a": 1, "b": [{"c": 1}, {"c": 3}], "d": [1, 2], "new": {"x": 1}}
    assert sorted(differences("", before, after)) == ["b.1.c", "d", "gone", "new"]


def _instance(number: int, run: str | None = None, age: float | None = None) -> dict[str, Any]:
    at = NOW - timedelta(seconds=age) if age is not None else None
    return InstanceRecord(agent="a", number=number, run=run, last_active_at=at).data()


def test_instances_are_active_idle_kept_or_gone():
    records = [_instance(0, "alive", 500), _instance(1, None, 10), _instance(2, None, 100), _instance(3, "dead", 200)]
    active, idle = split(records, {"alive"}, NOW - timedelta(seconds=60))
    found = instances_of(active, idle, kept=0)
    assert [(i.number, i.status, i.run) for i in found] == [(0, "active", "alive"), (1, "idle", None)]
    kept = instances_of(active, idle, kept=4)
    assert [(i.number, i.status) for i in kept] == [(0, "active"), (1, "idle"), (2, "idle"), (3, "idle")]


def test_arguments_that_nobody_else_can_read_are_malformed():
    deep: dict[str, Any] = {}
    for _ in range(3000):
        deep = {"a": deep}
    fine = ToolCallPart("c1", "find", {"q": "é", "n": [1, {"x": None}]})
    message = sound(
        Message(
            "assistant",
            (fine, *(ToolCallPart("c2", "find", a) for a in (deep, {"\udc00": "\ud800"}, {"n": [float("nan")]}))),
        )
    )
    assert message.parts[0] is fine
    assert [(call.arguments, bool(call.malformed)) for call in message.tool_calls[1:]] == [({}, True)] * 3
    assert len(MESSAGE.dump_json(message)) < 2000
    assert sound(user_message("hi")) == user_message("hi")
