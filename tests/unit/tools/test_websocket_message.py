"""Templates, paths and the equality of JSON values."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goagents.errors import ToolInvalidArguments
from goagents.tools.redaction import Redactor
from goagents.tools.websocket_message import ABSENT, Message, Received, Template, read_limit, render, same

VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def resolve(text: str) -> str:
    known = {"${KEY}": "k{a}", "${UNSET:-b}": "b", "${A:-${B:-c}}": "c"}
    return known[text]


def fill(template: Any, **arguments: Any) -> Any:
    return Template(template).fill(arguments, "run/1/call", resolve).content


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{a}", "1"),
        ("{a}{a}", "11"),
        ("{b} {missing}", '{"x":[true]} '),
        ("${KEY} {a}", "k{a} 1"),
        ("${UNSET:-b}", "b"),
        ("${A:-${B:-c}}", "c"),
        ("$${a} {{a}} { a } {}", "${a} {a} { a } {}"),
        ({"n": "{a}", "gone": "{missing}", "{a}": 2}, {"n": 1, "{a}": 2}),
        ([None, True, 1.5, "{b}", ["{missing}"]], [None, True, 1.5, {"x": [True]}, []]),
        ({"key": "{call.key}"}, {"key": "run/1/call"}),
    ],
)
def test_a_template_is_filled(template: Any, filled: Any):
    assert fill(template, a=1, b={"x": [True]}) == filled


@given(VALUES)
def test_an_argument_arrives_as_it_is(value: Any):
    sent = Template({"v": "{v}", "say": "v: {v}"}).fill({"v": value}, "key", resolve).encode()
    assert json.loads(sent)["v"] == value
    plain = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert json.loads(sent)["say"] == f"v: {plain}"


def test_an_argument_is_no_template():
    assert fill("{a} {b}", a="{b} ${KEY}", b="{a}") == "{b} ${KEY} {a}"


def test_an_id_is_put_in_and_nothing_else_changes():
    content = {"a": {"x": 1}}
    assert json.loads(Message(content, False, "a.b.id").encode(7)) == {"a": {"x": 1, "b": {"id": 7}}}
    assert content == {"a": {"x": 1}}
    with pytest.raises(ToolInvalidArguments, match="id: its place"):
        Message({"a": {"b": "text"}}, False, "a.b.id").encode(7)


def test_an_id_of_the_models_own_is_replaced():
    assert json.loads(Message({"id": "mine"}, False, "id").encode("fresh")) == {"id": "fresh"}


@pytest.mark.parametrize(
    ("text", "path", "found"),
    [
        ('{"a":{"b":1}}', "a.b", 1),
        ('{"a":{"b":null}}', "a.b", None),
        ('{"a":[1]}', "a.0", ABSENT),
        ("[1]", "a", ABSENT),
        ("no JSON", "a", ABSENT),
        ("[" * 100_000, "a", ABSENT),
        (None, "a", ABSENT),
    ],
)
def test_a_path_is_followed_through_objects(text: str | None, path: str, found: Any):
    assert Received(text, 1).at(path) is found or Received(text, 1).at(path) == found


def test_one_is_not_true():
    assert same(1, 1.0)
    assert same(None, None)
    assert not same(1, True)
    assert not same(False, 0)
    assert not same(ABSENT, None)
    assert not same("1", 1)


@given(st.text(max_size=40))
def test_any_message_can_be_shown(text: str):
    (part,) = render([Received(text, len(text))], Redactor()).content
    assert part


def test_what_json_cannot_hold_is_shown_as_it_came():
    for text in ("[" * 100_000 + "]" * 100_000, '{"a": NaN}', "1e999"):
        (part,) = render([Received(text, len(text))], Redactor()).content
        assert getattr(part, "text", None) == text


def test_what_is_kept_is_bounded_however_much_may_be_shown():
    assert read_limit(1000, Redactor(["secret"])) >= 2000
    assert read_limit(1 << 40, Redactor()) == 16 << 20
