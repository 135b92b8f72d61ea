"""Secrets are found in whatever way a server spells them."""

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest

from goagents.tools.redaction import REDACTED, Redactor

SECRET = 'Bearer ab/c+d"é<&%=\n'


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(SECRET)[1:-1])[1:-1],
        html.escape(SECRET),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        quote(SECRET, safe="").replace("%2F", "%2f").replace("%C3%A9", "%c3%a9").lower().replace("bearer", "Bearer"),
    ],
)
def test_each_spelling_is_taken_out(spelled: str):
    assert Redactor([SECRET]).redact(f"<{spelled}>") == f"<{REDACTED}>"


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("after", ["", "x", "xy"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_of_something_around_it_is_taken_out(before: str, after: str, encode: object):
    secret = "t0p~s?cret>value"
    assert callable(encode)
    encoded = encode(f"{before}{secret}{after}".encode()).decode()
    redacted = Redactor([secret]).redact(f"Basic {encoded}.")
    assert REDACTED in redacted
    assert len(redacted) < len("Basic .") + len(REDACTED) + 4 * len(before + after) + 8


def test_what_is_too_short_to_be_one_is_left():
    assert Redactor(["abc", ""]).redact("abc abcd") == "abc abcd"
    assert Redactor(["abcd"]).redact("abcd " + base64.b64encode(b"abcd").decode()) == f"{REDACTED} YWJjZA=="


def test_a_torn_one_at_the_end_goes_whole():
    redactor = Redactor(["abcdefghij", "xbcdefghijklm"])
    assert redactor.redact("1 abcdefghij 2 abcdefg", cut=True) == f"1 {REDACTED} 2 "
    assert redactor.redact("1 abcdefg") == "1 abcdefg"
