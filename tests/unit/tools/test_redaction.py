"""Secrets are found in whatever way a server spells them."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from goagents.tools.escapes import peeled
from goagents.tools.redaction import REDACTED, Place, Redactor

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


class Counting(Redactor):
    looked_at = 0

    def _places(self, text: str, *, cut: bool = False) -> tuple[list[Place], int]:
        self.looked_at += len(text)
        return super()._places(text, cut=cut)


def php(text: str) -> str:
    return json.dumps(text)[1:-1].replace("/", "\\/")


def all_escaped(text: str) -> str:
    units = text.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


@pytest.mark.parametrize("secret", [SECRET, "aB/cD+eF9xYz/0123==", "dom\\user:pa%2Fss&amp;", "k\U0001f511y漢字"])
@pytest.mark.parametrize(
    "spell",
    [
        php,
        all_escaped,
        lambda text: all_escaped(text).upper().replace("\\U", "\\u"),
        lambda text: json.dumps(text)[1:-1].replace("+", "\\u002B").replace("<", "\\u003c").replace("&", "\\u0026"),
        lambda text: "".join(f"&#{ord(letter)};" for letter in text),
        lambda text: "".join(f"&#x{ord(letter):X};" for letter in text),
        lambda text: html.escape(text).replace("+", "&plus;").replace("/", "&#x2f;").replace("=", "&equals;"),
        lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
        lambda text: quote(quote(text, safe=""), safe=""),
        lambda text: php(php(text)),
        lambda text: php(php(php(php(text)))),
        lambda text: html.escape(php(quote(text, safe="/"))),
        lambda text: quote(all_escaped(text)),
        lambda text: "".join(f"&#{ord(letter)}\\u003b" for letter in text),
        lambda text: quote(text).replace("%", "\\u0025").replace("A", "\\u0041"),
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex().upper(),
    ],
)
def test_each_character_may_be_spelled_in_any_way(spell: Callable[[str], str], secret: str):
    assert Redactor([secret]).redact(f"<{spell(secret)}>") == f"<{REDACTED}>"


def test_ways_may_change_within_a_secret():
    secret = "aB/cD+eF9xYz/0123=="
    assert Redactor([secret]).redact(r"?aB%2FcD%2beF&#57;\u0078Yz\\\/0123=%3d&") == f"?{REDACTED}&"


def test_what_is_no_secret_stays_as_it_is_spelled():
    text = r'{"a":"x\/y \u002B %2f &#47; \\","b":"aB\/cD+","c":"\/\n\ud800 %zz &nope &copy;"}'
    assert Redactor(["aB/cD+"]).redact(text) == text.replace(r"aB\/cD+", REDACTED)
    assert Redactor(["aB/cD+é"]).redact(text) == text


def test_of_secrets_within_each_other_nothing_is_left():
    secrets = ["abcd/efgh/ijkl", "/efgh", "ijklmnop", "same-same"]
    for spelled in ("abcd/efgh/ijkl", r"abcd\/efgh\/ijkl", r"abcd/efgh\/ijklmnop", "abcd/efgh/ijkl%6dnop"):
        assert Redactor(secrets).redact(f"1 {spelled} 2 /efgh") == f"1 {REDACTED} 2 {REDACTED}"
    assert Redactor(secrets).redact("same-samesame-same") == 2 * REDACTED


def test_base64_in_json_is_taken_out_however_json_escapes_it():
    secret = "t0p~s?cret>value??"
    encoded = base64.b64encode(secret.encode()).decode()
    assert "/" in encoded
    assert REDACTED in Redactor([secret]).redact(php(encoded))


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


def test_white_space_is_no_secret_however_one_is_spelled():
    text = "if x:\n        return '%20%20%20%20', 'a++++b'"
    assert Redactor(["%20%20%20%20", "&#32;\\n\\t%0A", "    "]).redact(text) == text.replace("%20" * 4, REDACTED)
    assert Redactor(["%20%20%20x"]).redact("   x %20%20%20x") == f"{REDACTED} {REDACTED}"


def test_a_torn_one_at_the_end_goes_whole():
    redactor = Redactor(["abcdefghij", "xbcdefghijklm"])
    assert redactor.redact("1 abcdefghij 2 abcdefg", cut=True) == f"1 {REDACTED} 2 "
    assert redactor.redact("1 abcdefg") == "1 abcdefg"


@pytest.mark.parametrize("secret", ["aB/cD+eF9xYz/0123==", "é<&%k\U0001f511y"])
@pytest.mark.parametrize(
    "spell",
    [
        str,
        php,
        all_escaped,
        lambda text: php(php(text)),
        lambda text: all_escaped(text).replace("\\", "\\\\"),
        lambda text: quote(text, safe=""),
        lambda text: quote(quote(text, safe=""), safe=""),
        lambda text: "".join(f"&#{ord(letter)};" for letter in text),
        html.escape,
    ],
)
def test_a_torn_one_goes_wherever_it_is_torn_also_within_an_escape(spell: Callable[[str], str], secret: str):
    redactor = Redactor([secret])
    spelled = spell(secret)
    for at in range(len(spell(secret[0])), len(spelled)):
        left = redactor.redact(f"its key: {spelled[:at]}", cut=True)
        assert left == "its key: ", spelled[:at]
    assert redactor.redact(f"its key: {spelled}", cut=True) == f"its key: {REDACTED}"


def test_the_longest_spelling_is_known_for_reading_far_enough():
    for secret in ("aB/cD+eF9xYz/0123==", "é" * 20, "漢字漢字", "k\U0001f511ys"):
        spelled = (php(php(secret)), all_escaped(secret).replace("\\", "\\\\"), quote(secret), secret.encode().hex())
        assert max(map(len, spelled)) <= Redactor(["abcd", secret]).longest <= 9 * len(secret.encode())
    assert Redactor(["abc"]).longest == 0


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("&plus;&NotEqualTilde;", "+\u2242\u0338"),
        ("&notit; &ampx; &abcde;", "&notit; &ampx; &abcde;"),
        ("&#65;&#x1F511;&#0;&#128;&#xD800;&#x110000;&#xFFFE;", "A\U0001f511\ufffd\u20ac\ufffd\ufffd"),
        (r"\u00e9\ud83d\udd11\x41", "é\U0001f511A"),
        ("%F0%9F%94%91%c3%A9%41%ED%A0%80", "\U0001f511éA\ufffd\ufffd\ufffd"),
    ],
)
def test_what_escapes_mean_is_looked_up_exactly(text: str, meant: str):
    """A name that nobody knows, with its semicolon, stays: to try its beginnings takes time in thousands of them."""
    layer = peeled(text)
    assert (text if layer is None else layer.text) == meant


def test_unknown_names_end_the_layers():
    assert peeled("&abcde;&abcdf;") is None


def test_the_beginning_of_a_text_is_shown_without_half_a_secret():
    redactor = Redactor(["abcdefghij"])
    assert redactor.beginning("1 abcdefghij 2", 20) == "1 [redacted] 2"
    assert redactor.beginning("1 abcdefghij 2", 5) == "1 [re [cut: the beginning of 14 characters]"
    for before in range(80, 101):
        text = "x" * before + "abcdefghij" * 50
        shown = redactor.beginning(text, 100)
        assert shown.startswith(("x" * before + REDACTED * 2)[:100] + " [cut: the beginning of ")


def test_the_end_of_a_text_is_shown_without_half_a_secret():
    redactor = Redactor(["abcdefghij"])
    assert redactor.ending("1 abcdefghij 2", 20) == "1 [redacted] 2"
    for after in range(80, 101):
        note, shown = redactor.ending("abcdefghij" * 50 + "x" * after, 100).split("\n")
        assert note == f"[cut: the end of {500 + after} characters]"
        assert shown == (REDACTED * -((after - 100) // 10) + "x" * after)[-100:]
        escaped = redactor.ending("z" * 500 + all_escaped("abcdefghij") + "x" * after, 100)
        assert escaped.endswith("]\n" + ((REDACTED if after < 100 else "") + "x" * after)[-100:])


@pytest.mark.parametrize("most", [0, 1000])
def test_of_an_endless_text_only_what_is_shown_is_looked_at(most: int):
    redactor = Counting(["abcdefghij"])
    text = "abcdefghi " * 100_000
    assert max(len(redactor.beginning(text, most)), len(redactor.ending(text, most))) < most + 100
    assert redactor.looked_at < 2 * most + 5 * redactor.longest + 1


@pytest.mark.parametrize("unit", ["\\", "%", "%25", "&amp;", "\\u005c", "\\x5c", "\\\\u0061", "&#", "a", "aaab", "%61"])
def test_no_text_takes_more_than_its_length(unit: str):
    """By what is done, not by a clock: four layers at most, each no longer than the text."""
    text = unit * (100_000 // len(unit))
    redactor = Redactor(["a" * 200 + "b", "\\" * 40 + "x", "%25%25%25"])
    assert redactor.redact(text + "!", cut=True).endswith("!")
