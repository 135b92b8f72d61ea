"""Durations, sizes, addresses."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from goagents.spec.types import (
    MAX_DURATION,
    MAX_SIZE,
    Address,
    Duration,
    HttpUrl,
    Size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300ms", 0.3),
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1m30s500ms", 90.5),
        ("2d", 172_800),
        ("1.5h", 5400),
        ("0s", 0),
        ("45", 45),
        (45, 45),
        (0.25, 0.25),
    ],
)
def test_durations(text: Any, seconds: Any):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "", "s", "5 s", "5x", "-5s", "5M", "30m1h", "5s5s", "1h5", "five", "1_0s", "٣s", "1e3s", "nan", "inf",
        float("nan"), float("inf"), -1, True, None, [], "9" * 70 + "s", "400d",
    ],
)  # fmt: skip
def test_what_is_no_duration(text: Any):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(0, int(MAX_DURATION * 1000)))
def test_a_duration_of_milliseconds_survives_being_written(milliseconds: int):
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.floats(0, MAX_DURATION, allow_nan=False))
def test_any_duration_survives_being_written(seconds: Any):
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text(max_size=12))
def test_no_text_breaks_the_parser_of_durations(text: Any):
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert 0 <= seconds <= MAX_DURATION


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KiB", 65_536),
        ("1MiB", 1 << 20),
        ("2 GiB", 2 << 30),
        ("1kB", 1000),
        ("1.5KiB", 1536),
        ("10B", 10),
        ("7", 7),
        (7, 7),
    ],
)
def test_sizes(text: Any, size: Any):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "KiB", "-1", -1, 0, "0", "1.5B", "1TiB", "64kib", True, None, 1.5, "1e3", "2000GiB"]
)
def test_what_is_no_size(text: Any):
    with pytest.raises(ValueError, match=r"size|bytes"):
        parse_size(text)


@given(st.integers(1, MAX_SIZE))
def test_any_size_survives_being_written(size: Any):
    assert parse_size(format_size(size)) == size


def test_json_shows_them_as_people_write_them():
    assert TypeAdapter(Duration).dump_json(90.0) == b'"90s"'
    assert TypeAdapter(Size).dump_json(65_536) == b'"64KiB"'


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("127.0.0.1", "127.0.0.1/32"),
        ("::1", "::1/128"),
        ("fd00::/8", "fd00::/8"),
        ("Db.Internal", "db.internal"),
        ("localhost", "localhost"),
        ("Host:80", "host:80"),
        ("10.1.2.3:80", "10.1.2.3:80"),
        ("[fd00::1]:80", "[fd00::1]:80"),
    ],
)
def test_addresses(text: Any, kept: str):
    assert TypeAdapter(Address).validate_python(text) == kept


@pytest.mark.parametrize(
    "text", ["", "10.0.0.0/40", "http://x", "a b", "*.internal", "host:0", "host:99999", "10.0.0.0/8:80", "a/b", "-x-"]
)
def test_what_is_no_address(text: Any):
    with pytest.raises(ValidationError, match=r"host name|address with a port"):
        TypeAdapter(Address).validate_python(text)


@pytest.mark.parametrize("text", ["https://api.openai.com", "http://127.0.0.1:9/v1", "${BASE}/v1", "https://h/{order}"])
def test_urls(text: Any):
    assert TypeAdapter(HttpUrl).validate_python(text) == text


@pytest.mark.parametrize("text", ["ftp://x", "api.openai.com", "https://", "https:///x", "file:///etc/passwd", ""])
def test_what_is_no_url(text: Any):
    with pytest.raises(ValidationError, match="is not a URL"):
        TypeAdapter(HttpUrl).validate_python(text)
