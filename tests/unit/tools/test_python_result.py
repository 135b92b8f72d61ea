"""What a function's result looks like, however large it is: it is written in a bounded time."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field

from goagents.errors import ToolFailed
from goagents.messages import TextPart
from goagents.tools.python_result import _cut, _fits, _size, render

MOST = 4 << 20


class Row(BaseModel):
    number: int = Field(alias="no")
    name: str = Field("no name", exclude=True)


class Page(BaseModel):
    items: list[Any]


@dataclass(slots=True)
class Point:
    x: int
    y: int


def shown(value: Any) -> str:
    (part,) = render(value).content
    assert isinstance(part, TextPart)
    return part.text


@pytest.mark.parametrize(
    "value",
    [
        list(range(MOST)),
        [{"id": n, "name": "customer"} for n in range(400_000)],
        {f"key {n}": n for n in range(MOST // 4)},
        {"total": 7, "items": [[n] * 100 for n in range(20_000)]},
        {"meta": {}, "data": {"page": 1, "rows": ["x" * 1000] * 100_000}},
        {"text": "x" * 10 * MOST},
        ["small", "x" * 10 * MOST, "small"],
        set(range(MOST)),
        [Row(no=n) for n in range(500_000)],
        [Point(n, n) for n in range(500_000)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_of_what_is_far_too_large_a_beginning_is_written_which_says_so(value: Any):
    text = shown(value)
    assert len(text) < 2 * MOST
    found = json.loads(text)
    assert type(found) is (dict if isinstance(value, dict) else list)
    assert "[cut: " in text[-100:] or "x" * MOST in text
    assert "no name" not in text


def test_what_is_said_of_the_rest_is_true():
    found = json.loads(shown([n + 10**9 for n in range(MOST)]))
    assert found[-1] == f"[cut: {len(found) - 1} of {MOST} are shown]"
    found = json.loads(shown(dict.fromkeys(range(100_000), "x" * 100)))
    assert found["…"] == f"[cut: {len(found) - 1} of 100000 are shown]"


def test_what_is_not_is_written_as_it_always_was():
    rows = [Row(no=n) for n in range(1000)]
    assert json.loads(shown({"rows": rows, "at": (1, 2)})) == {"rows": [{"no": n} for n in range(1000)], "at": [1, 2]}
    whole = ["x" * 1000] * 1000
    assert json.loads(shown(whole)) == whole
    value = {"a": [1, {"b": "c"}]}
    assert _cut(value, 100, 5) is value


@pytest.mark.parametrize(
    "value",
    [
        ["x" * (1 << 20), *[{"id": n} for n in range(99)]],
        [{"id": n, "text": "x" * (1 if n else 1 << 20)} for n in range(10_000)],
        {f"key {n}": "x" * (1 if n else 1 << 20) for n in range(1000)},
        {"page": Page(items=["x" * (1 << 20), *range(100)])},
        [(b"a" * (1 << 20)), *[{n} for n in range(100)]],
    ],
    ids=["texts", "rows", "names", "object", "bytes"],
)
def test_what_only_looks_too_large_by_a_large_entry_is_shown_whole(value: Any):
    assert _size(value) > MOST, "which is what the samples say"
    assert _cut(value, MOST, 5) is value
    assert "[cut: " not in shown(value)


def test_whether_a_value_fits_is_found_without_looking_at_all_of_it():
    looked: list[int] = []

    class Counted(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            looked.append(len(self))
            return super().__iter__()

    assert not _fits([Counted(["x" * 100])] * 100_000, MOST)
    assert not _fits([Counted(["x" * 100]) for _ in range(1000)], 10_000)
    assert not _fits([Counted([]) for _ in range(100_000)], float("inf")), "nobody knows: it has too many parts"
    assert len(looked) < 50_000
    assert _fits([Counted(["x" * 100])] * 1000, 200_000)
    assert not _fits(["x" * 100, *range(100)], 499)
    assert _fits(["x" * 100, *range(100)], 504)


def test_an_object_is_shown_whole_or_not_at_all():
    with pytest.raises(ToolFailed, match="The function is done, and its result is too large to be shown: ask for less"):
        shown(Page(items=list(range(MOST))))
    assert json.loads(shown(Page(items=[1])))["items"] == [1]


def test_a_generator_is_read_only_as_far_as_it_is_shown():
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    assert shown(numbers()).startswith("[0,1,2,")
    assert len(read) < MOST
    assert shown(n for n in range(3)) == "[0,1,2]"


def test_what_holds_itself_or_is_too_deep_cannot_be_shown():
    narrow: list[Any] = []
    narrow.append(narrow)
    wide: list[Any] = []
    wide += [wide] * 100
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (narrow, wide, deep, {"a": object()}):
        with pytest.raises(ToolFailed, match=r"cannot be shown: (list|dict) has no form|too large to be shown"):
            shown(value)


def test_the_size_is_about_right_without_looking_at_all_of_it():
    class Counted(list[Any]):
        looked = 0

        def __iter__(self) -> Iterator[Any]:
            Counted.looked += 1
            return super().__iter__()

    size = _size([Counted([n, "text"]) for n in range(100_000)])
    assert Counted.looked < 1000
    assert size == pytest.approx(1_700_000, rel=0.5)
    assert _size([["x" * 50] * 10] * 1000) == pytest.approx(540_000, rel=0.5)
    assert _size({f"a key of {n:4}": n for n in range(10_000)}) == pytest.approx(200_000, rel=0.5)
