"""What the model sees of an MCP result."""

import base64
from typing import Any

import mcp_types as types
import pytest

from goagents.messages import ImagePart, TextPart
from goagents.tools.mcp_result import MAX_IMAGE, render, render_resource
from goagents.tools.redaction import Redactor

MIB = 1 << 20
PIXEL = base64.b64encode(b"\x89PNG").decode()


def shown(*content: Any, structured: Any = None, secrets: tuple[str, ...] = ()) -> list[str]:
    result = types.CallToolResult(content=list(content), structured_content=structured)
    parts = render(result, Redactor(secrets)).content
    return [part.text if isinstance(part, TextPart) else f"image {part.media_type}" for part in parts]


def text(value: str) -> types.TextContent:
    return types.TextContent(type="text", text=value)


def image(data: str, mime: str = "image/png") -> types.ImageContent:
    return types.ImageContent(type="image", data=data, mime_type=mime)


def test_nothing_is_said_to_be_nothing():
    assert shown() == ["(the tool returned nothing)"]


@pytest.mark.parametrize(
    ("texts", "structured"),
    [
        (['{"a": 1}'], {"a": 1}),
        (["3"], {"result": 3}),
        (["three"], {"result": "three"}),
        (["a", "2"], {"result": ["a", 2]}),
        ([], None),
    ],
)
def test_structured_content_that_the_text_repeats_is_shown_once(texts: list[str], structured: Any):
    assert shown(*map(text, texts), structured=structured) == (texts or ["(the tool returned nothing)"])


@pytest.mark.parametrize(
    ("texts", "structured", "added"),
    [
        ([], {"a": "ü"}, '{"a":"ü"}'),
        (["2 found"], {"items": [1, 2]}, '{"items":[1,2]}'),
        (["a"], {"result": ["a", "b"]}, '{"result":["a","b"]}'),
        (["x"], [1, 2], "[1,2]"),
        (["x"], False, "false"),
    ],
)
def test_structured_content_that_says_more_is_added(texts: list[str], structured: Any, added: str):
    assert shown(*map(text, texts), structured=structured) == [*texts, added]


@pytest.mark.parametrize(
    ("data", "mime", "expected"),
    [
        (PIXEL, "image/png", "image image/png"),
        (PIXEL, "IMAGE/PNG; q=1", "image image/png"),
        (PIXEL, "image/svg+xml", "(image/svg+xml, about 6 bytes, not shown)"),
        ("no base64!", "image/png", "(image/png, about 7 bytes, not shown)"),
        ("", "image/png", "(image/png, about 0 bytes, not shown)"),
        ("A" * (MAX_IMAGE * 4 // 3 + 8), "image/png", f"(image/png, about {MAX_IMAGE + 5} bytes, not shown)"),
    ],
)
def test_images_that_providers_take_are_images(data: str, mime: str, expected: str):
    assert shown(image(data, mime)) == [expected]


def test_sound_is_described():
    sound = types.AudioContent(type="audio", data="AAAA", mime_type="audio/wav")
    assert shown(sound) == ["(audio/wav, about 3 bytes, not shown)"]


def test_more_parts_than_anybody_reads_are_left_out():
    parts = shown(*(text(str(number)) for number in range(1200)))
    assert len(parts) == 1001
    assert parts[-1] == "[200 more parts were left out]"


def test_secrets_are_taken_out():
    assert shown(text("the key is hunter22"), structured={"k": "hunter22"}, secrets=("hunter22",)) == [
        "the key is [redacted]",
        '{"k":"[redacted]"}',
    ]


class Counting(Redactor):
    looked_at = 0

    def redact(self, text: str, *, cut: bool = False) -> str:
        self.looked_at += len(text)
        return super().redact(text, cut=cut)


def test_of_far_more_text_than_is_shown_a_beginning_is_looked_at_which_says_so():
    redactor = Counting(["hunter22"])
    most = MIB + redactor.longest
    content = [text("x" * 7), text("y" * (most - 10) + "hunter22"), image(PIXEL), text("&abcde;" * MIB)]
    first, *parts = render(types.CallToolResult(content=content), redactor, 1000).content
    assert first == TextPart(f"[cut: of {most + 5 + 7 * MIB} characters {most} are read; ask for less]")
    assert parts == [TextPart("x" * 7), TextPart("y" * (most - 10)), ImagePart("image/png", PIXEL)]
    assert redactor.looked_at == most
    long = types.TextResourceContents(uri="a://1", text="z" * 3 * MIB)
    for bound, read in ((2 * MIB, 2 * MIB + redactor.longest), (4 * MIB, 3 * MIB)):
        shown = render_resource(types.ReadResourceResult(contents=[long]), redactor, bound).content[-1]
        assert shown == TextPart("z" * read)


def test_resources_are_text_or_described():
    note = types.TextResourceContents(uri="a://1", text="one")
    picture = types.BlobResourceContents(uri="a://2", blob=PIXEL, mime_type="image/png")
    other = types.BlobResourceContents(uri="a://3", blob="AAAA")
    alone = render_resource(types.ReadResourceResult(contents=[note]), Redactor())
    assert alone.content == (TextPart("one"),)
    several = render_resource(types.ReadResourceResult(contents=[note, picture, other]), Redactor())
    assert several.content == (
        TextPart("[resource a://1]\none"),
        ImagePart(media_type="image/png", data=PIXEL),
        TextPart("[resource a://3] (binary data, about 3 bytes, not shown)"),
    )
