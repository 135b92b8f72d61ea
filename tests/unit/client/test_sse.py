"""Event streams in every cut and form that the format allows."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goagents.client import sse
from goagents.client.faults import UnexpectedAnswer
from goagents.client.sse import Decoder, ServerSentEvent

STREAM = '\ufeff: hello\n\nid: 1-1\nevent: message.delta\ndata: {"text": "Grüße 👋"}\n\n'.encode() + (
    b"data:first\r\ndata: second\r\n\r\n: keep-alive\n\nevent: lonely\n\nretry: 5\nid\rdata\r\rdata: unfinished\n"
)
EVENTS = [
    ServerSentEvent("message.delta", '{"text": "Grüße 👋"}', "1-1"),
    ServerSentEvent("message", "first\nsecond", "1-1"),
    ServerSentEvent("message", "", ""),
]


def decoded(*chunks: bytes) -> list[ServerSentEvent]:
    decoder = Decoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def test_a_whole_stream():
    assert decoded(STREAM) == EVENTS


def test_byte_by_byte():
    assert decoded(*(bytes([byte]) for byte in STREAM)) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_any_cut_gives_the_same_events(places: list[int]):
    cuts = [0, *sorted(places), len(STREAM)]
    assert decoded(*(STREAM[start:end] for start, end in pairwise(cuts))) == EVENTS


def test_an_event_without_its_blank_line_is_dropped():
    assert decoded(b"event: run.completed\ndata: {}\n") == []


def test_an_event_without_data_is_none_and_leaves_no_name_behind():
    assert decoded(b"event: ping\n\ndata: x\n\n") == [ServerSentEvent("message", "x", "")]


def test_an_id_with_a_null_is_ignored():
    assert decoded(b"id: 1-1\ndata: a\n\nid: 2\0\ndata: b\n\n")[1].id == "1-1"


def test_broken_utf8_does_not_end_the_stream():
    assert decoded(b"data: a\xffb\n\n") == [ServerSentEvent("message", "a\ufffdb", "")]


@pytest.mark.parametrize("line", [b"data: " + b"x" * 50 + b"\n", b"x" * 50])
def test_an_endless_event_is_refused(line: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sse, "MAX_EVENT_SIZE", 1000)
    with pytest.raises(UnexpectedAnswer, match="larger"):
        decoded(*[line] * 30)
