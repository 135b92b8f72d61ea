"""How much a turn writes: as much in a session's first turns as in its thousandth, whatever becomes of its context."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any, TypeVar

import pytest
from tests.support.engine import applied, engine, manifest, scripted
from tests.support.runs import PATHS, chat

from goagents.store.base import Delete, Merge, Store, Write
from goagents.store.encoding import encode
from goagents.store.sqlite import SQLiteStore
from goagents.testing.stores import Method, PassingStore, Subject

T = TypeVar("T")
TURNS = 1000
MOST = 1.2  # times what an early turn writes
NUMBER = 8  # bytes of a time or a counter
SCRIPT = [
    {"when": "^<conversation>|<earlier_summary>", "text": "What was said, in short. " * 20},
    {"text": "This answers {user}, at the length that answers have."},
]


class Scales(PassingStore):
    """Weighs what is written: paths, names of fields, and values as they are encoded."""

    written = 0
    compactions = 0

    async def around(self, method: Method, subject: Subject, call: Callable[[], Awaitable[T]]) -> T:
        done = await call()
        if method == "commit":
            writes: Any = subject
            self.written += sum(weight(write) for write in writes)
            self.compactions += sum(not isinstance(write, Delete) and "compacted" in write.data for write in writes)
        return done


def weight(write: Write) -> int:
    if isinstance(write, Delete):
        return len(write.path)
    names = [*write.data, *write.server_time, *(write.increments if isinstance(write, Merge) else ())]
    stamps = len(names) - len(write.data)
    return len(write.path) + sum(map(len, names)) + encode(write.path, write.data).size + NUMBER * stamps


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = SQLiteStore(str(tmp_path / "bytes.db"))
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    "context",
    [
        pytest.param({}, id="as by default"),
        pytest.param({"strategy": "trim", "max_tokens": 1000}, id="trimmed"),
        pytest.param({"strategy": "summarize", "max_tokens": 1000}, id="summarized"),
    ],
)
async def test_a_turn_writes_as_much_at_turn_1000_as_at_turn_10(store: Store, context: Mapping[str, Any]):
    scales = Scales(store)
    services = engine(scales, scripted(echo=SCRIPT))
    await applied(services, manifest({"context": dict(context)}))
    plain: dict[int, int] = {}
    every: list[int] = []
    for turn in range(1, TURNS + 1):
        before, compactions = scales.written, scales.compactions
        answer = await chat(services, f"question {turn:04d}, at the length that questions have", "talk")
        assert answer.message.text.startswith(f"This answers question {turn:04d}")
        every.append(scales.written - before)
        if scales.compactions == compactions:
            plain[turn] = every[-1]
    latest = max(plain)
    assert latest > TURNS - 3
    assert plain[latest] <= MOST * plain[10]
    # and so with what compacting adds now and then
    assert scales.compactions > 10
    assert mean(every[-200:]) <= MOST * mean(every[:200])
    assert mean(every[-200:]) <= MOST * plain[10]
    session = (await store.get_many([PATHS.session("talk")])).documents[PATHS.session("talk")].data
    assert session["head"] == 2 * TURNS
    assert bool(session.get("summary")) == (context.get("strategy") == "summarize")
