"""What of a result goes to the model: cut at its bound, JSON still JSON, secrets gone whatever their spelling."""

import json

import pytest

from goagents.engine.calling.output import MAX_READ, bounded
from goagents.messages import ImagePart, TextPart
from goagents.tools.base import ToolResult, text_result
from goagents.tools.redaction import Redactor

REMEDY = "to see the rest, ask for less: a filter, a narrower query, one page]"


def shown(text: str, limit: int, *secrets: str) -> str:
    (part,) = bounded(text_result(text), limit, Redactor(secrets)).content
    assert isinstance(part, TextPart)
    return part.text


def test_text_is_cut_at_its_bound_and_says_how_much_and_what_to_do():
    assert shown("é" * 100, 21) == "é" * 10 + f"\n[cut: the first 21 of 200 bytes are shown; {REMEDY}"
    assert shown("short", 100) == "short"
    assert shown("a\ud800b", 100) == "a?b"


def test_all_parts_share_the_bound_and_images_count():
    image = ImagePart("image/png", "A" * 50)
    result = bounded(ToolResult((TextPart("x" * 30), image, TextPart("y" * 30)), is_error=True), 60)
    assert result.is_error
    assert result.content == (
        TextPart("x" * 30),
        TextPart("[an image of 50 bytes was left out: over the limit of 60 bytes]"),
        TextPart(f"\n[cut: the first 0 of 30 bytes are shown; {REMEDY}"),
    )
    assert bounded(ToolResult((image,)), 50).content == (image,)


@pytest.mark.parametrize(
    "value",
    [
        [{"id": n, "name": f"customer {n}"} for n in range(1000)],
        {"total": 1000, "items": [{"id": n} for n in range(1000)], "next": "abc"},
        {"text": "é" * 10_000},
        {f"key {n}": n for n in range(1000)},
        {"a": {"b": {"c": [["x" * 100] * 100] * 10}}},
    ],
)
@pytest.mark.parametrize("limit", [256, 1000, 4000])
def test_json_stays_json_of_about_the_bound(value: object, limit: int):
    whole = json.dumps(value, ensure_ascii=False)
    text, _, note = shown(whole, limit).rpartition("\n")
    assert note == f"[cut: this is a part of {len(whole.encode())} bytes of JSON; {REMEDY}"
    assert "[cut: " in json.dumps(json.loads(text))
    assert limit / 4 < len(text.encode()) <= limit * 1.25


def test_json_behind_the_lines_of_an_http_answer_stays_json_too():
    text = shown("HTTP 200 OK\nLink: <x>\n" + json.dumps(list(range(500))), 300)
    assert text.startswith("HTTP 200 OK\nLink: <x>\n[0,1,2,")
    assert json.loads(text.split("\n")[2])[-1].endswith("of 500 are shown]")


def test_short_json_says_what_it_lacks():
    text = shown(json.dumps({"items": list(range(500)), "next": "x"}), 300).partition("\n")[0]
    found = json.loads(text)["items"]
    assert found[:3] == [0, 1, 2]
    assert found[-1] == f"[cut: {len(found) - 1} of 500 are shown]"


@pytest.mark.parametrize("text", ["[" * 5000, '{"a": ' + "1" * 5000, "[1, 2" * 100, "{not json" * 100])
def test_what_only_looks_like_json_is_cut_as_text(text: str):
    assert "[cut: the first 300 of" in shown(text, 300)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_shortened_json_shows_no_secret_that_was_escaped_in_it(layers: int):
    secret = "aB/cD+eF9xYz/0123=="
    for first in ("".join(f"\\u{ord(letter):04x}" for letter in secret), secret.replace("/", "\\/")):
        spelled = first
        for _ in range(layers - 1):
            spelled = json.dumps(spelled)[1:-1]
        found = json.loads(shown(f'{{"auth":"{spelled}","pad":"{"x" * 3000}"}}', 1024, secret).partition("\n")[0])
        assert found["auth"] == "[redacted]"
        assert "[cut: " in found["pad"]


def test_of_an_endless_text_a_bounded_part_is_looked_at():
    text = shown("a" * (3 * MAX_READ), 100)
    assert text.startswith("a" * 100 + f"\n[cut: the first 100 of {3 * MAX_READ} bytes")
    secret = "s3cret-" * 4
    torn = shown("b" * (MAX_READ - 5) + secret * 100_000, MAX_READ, secret)
    assert "s3c" not in torn


def test_of_many_texts_no_more_is_looked_at_than_of_one():
    class Counting(Redactor):
        looked_at = 0

        def redact(self, text: str, *, cut: bool = False) -> str:
            self.looked_at += len(text)
            return super().redact(text, cut=cut)

    redactor = Counting(["s3cret-value"])
    result = ToolResult((TextPart("&abcde;" * MAX_READ),) * 100)
    content = bounded(result, 1000, redactor).content
    assert redactor.looked_at == MAX_READ
    assert content[1:] == (TextPart(f"\n[cut: the first 0 of {7 * MAX_READ} bytes are shown; {REMEDY}"),) * 99
    bounded(ToolResult((TextPart("s3cret-value" * 100_000),) * 100), MAX_READ // 4 * 3, redactor)
    assert redactor.looked_at <= MAX_READ * 3


def test_a_secret_at_the_cut_is_not_half_shown():
    for offset in range(40):
        assert "s3c" not in shown("#" * offset + "s3cret-value" * 50, 120, "s3cret-value").replace("[redacted]", "")
