"""The decoder of event streams, whose chunks may be cut anywhere."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goagents.errors import ProviderProtocolError
from goagents.providers import sse
from goagents.providers.sse import EventDecoder

STREAM = "event: a\r\ndata: one\r\n\r\n: comment\n\ndata:two\ndata: 2\nid: 7\nretry: 1\n\ndata: größer 👋\n\n"
EVENTS = [("a", b"one"), ("", b"two\n2"), ("", "größer 👋".encode())]


def decode(*chunks: bytes) -> list[tuple[str, bytes]]:
    decoder = EventDecoder("acme")
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def test_events_of_one_chunk():
    assert decode(STREAM.encode()) == EVENTS


@given(st.lists(st.integers(0, len(STREAM.encode()))))
def test_cuts_change_nothing(cuts: list[int]):
    data = STREAM.encode()
    edges = [0, *sorted(cuts), len(data)]
    assert decode(*(data[start:end] for start, end in itertools.pairwise(edges))) == EVENTS


def test_an_unfinished_event_is_dropped():
    assert decode(b"data: one\n\ndata: half\n") == [("", b"one")]


def test_an_event_has_a_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    with pytest.raises(ProviderProtocolError, match="100 bytes"):
        decode(b"data: " + b"x" * 200)
    with pytest.raises(ProviderProtocolError, match="100 bytes"):
        decode(*[b"data: " + b"x" * 30 + b"\n"] * 4)
