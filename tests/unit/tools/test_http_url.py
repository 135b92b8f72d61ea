"""No suffix and no query leaves the base URL, whatever a server or proxy makes of an encoding."""

import posixpath
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from goagents.errors import ToolInvalidArguments
from goagents.tools.http_url import UrlScope, UrlTemplate, encode_segment, query_pairs

BASE = URL("https://api.example.com:8443/v1/customers")
SCOPE = UrlScope(BASE)
HOSTILE = ["..", ".", "/", "\\", "%2e", "%2E", "%252e", "%2f", "%5c", "%00", "%0d%0a", ";", "?", "#", "@", ":", "//",
           "…", "‥", "\uff0e", "\uff0f", " ", "\t", "\n", "http:", "https://", "evil.com", "a", "42", "%",
           "%zz", "%c0%ae", "~", "v1", "\u2024"]  # fmt: skip


def readings(path: str) -> set[str]:
    """What servers and proxies may take a path for: decoded any number of times, normalised, parameters cut off."""
    found = {path}
    for _ in range(8):
        found |= {unquote(text) for text in found}
    found |= {unicodedata.normalize("NFKC", text) for text in found}
    found |= {text.replace("\\", "/") for text in found}
    found |= {"/".join(part.partition(";")[0] for part in text.split("/")) for text in found}
    return found | {"/".join(part.strip() for part in text.split("/")) for text in found}


def assert_within(url: URL) -> None:
    assert url.origin() == BASE.origin()
    assert url.user is None
    text = str(url)
    assert text.isascii()
    assert text.startswith("https://api.example.com:8443/v1/customers")
    assert text[len("https://api.example.com:8443/v1/customers")] in "/?" if len(text) > len(str(BASE)) else True
    assert "\\" not in text
    assert not any(ord(c) < 0x21 for c in text)
    for reading in readings(url.raw_path):
        normal = posixpath.normpath("/" + reading.lstrip("/"))
        assert normal == "/v1/customers" or normal.startswith("/v1/customers/"), (str(url), reading)


@given(
    st.lists(st.sampled_from(HOSTILE), max_size=8).map("".join) | st.text(max_size=30),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.sampled_from(HOSTILE), max_size=3),
)
@example("../../admin", {})
@example("%2e%2e/%2e%2e/admin", {})
@example("..%2fadmin", {})
@example("..;/admin", {})
@example("%252e%252e%252fadmin", {})
@example("//evil.com/x", {})
@example("@evil.com", {})
@example(":80@evil.com/", {})
@example("\\\\evil.com", {})
@example("https://evil.com/", {})
@example("42#/../../", {})
@example("‥/admin", {})
def test_no_suffix_and_no_query_leaves_the_base(suffix: str, query: dict[str, str]):
    try:
        url = SCOPE.join(suffix, query_pairs(query))
    except (ToolInvalidArguments, UnicodeEncodeError):
        return
    assert_within(url)
    assert SCOPE.holds(url)


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        ("", "/v1/customers"),
        ("42", "/v1/customers/42"),
        ("/42/", "/v1/customers/42/"),
        ("42/orders", "/v1/customers/42/orders"),
        ("42//orders", "/v1/customers/42/orders"),
        ("John Smith", "/v1/customers/John%20Smith"),
        ("50%", "/v1/customers/50%25"),
        ("caf%C3%A9", "/v1/customers/caf%C3%A9"),
        ("café", "/v1/customers/caf%C3%A9"),
        ("group%2Fproject", "/v1/customers/group%2Fproject"),
        ("a@b.com", "/v1/customers/a@b.com"),
        ("items:batchGet", "/v1/customers/items:batchGet"),
        ("user:42", "/v1/customers/user:42"),
        ("...", "/v1/customers/..."),
        ("v1.2..3", "/v1/customers/v1.2..3"),
    ],
)
def test_honest_suffixes_go_where_they_say(suffix: str, expected: str):
    assert SCOPE.join(suffix, []).raw_path == expected


@pytest.mark.parametrize(
    "suffix",
    ["..", "../x", "a/../b", "%2e%2e/x", "%2E./x", "%252e%252e", "..;a=b/x", "a\\b", "a%5cb", "a%00b", "a\nb", "https://x/",
     "//x", "http:x", "a#b", "%c0%ae%c0%ae/", "x/" * 5000],
)  # fmt: skip
def test_what_can_be_read_two_ways_is_refused(suffix: str):
    with pytest.raises(ToolInvalidArguments, match=r"path|URL"):
        SCOPE.join(suffix, [])


def test_the_query_is_added_to_that_of_the_base_and_cannot_change_it():
    scope = UrlScope(URL("https://api.example.com/search?key=k1&v=2"))
    url = scope.join("x?page=2", query_pairs({"q": "a&v=3#", "tag": ["x", "y"], "none": None, "on": True}))
    assert str(url) == "https://api.example.com/search/x?key=k1&v=2&q=a%26v%3D3%23&tag=x&tag=y&on=true&page=2"
    with pytest.raises(ToolInvalidArguments, match="`key` is fixed"):
        scope.join("", [("key", "other")])
    with pytest.raises(ToolInvalidArguments, match="`key` is fixed"):
        scope.join("?key=other", [])


@pytest.mark.parametrize(
    "url",
    ["http://api.example.com:8443/v1/customers", "https://api.example.com/v1/customers", "https://api.example.com:8443/v1",
     "https://api.example.com:8443/v1/customersX", "https://evil.com:8443/v1/customers",
     "https://u:p@api.example.com:8443/v1/customers"],
)  # fmt: skip
def test_what_lies_outside_is_seen(url: str):
    assert not SCOPE.holds(URL(url))


def test_encoded_climbing_in_a_redirect_is_seen():
    assert not SCOPE.holds(URL("https://api.example.com:8443/v1/customers/%2e%2e/x", encoded=True))
    assert SCOPE.holds(URL("https://api.example.com:8443/v1/customers/1?x=../.."))


@given(st.text(max_size=20) | st.lists(st.sampled_from(HOSTILE), max_size=5).map("".join))
def test_no_value_of_a_placeholder_leaves_its_segment(value: str):
    template = UrlTemplate.of(str(URL("https://api.example.com/v1/{id}/orders")))
    try:
        url = template.fill({"id": encode_segment(value, "id")}, [])
    except (ToolInvalidArguments, UnicodeEncodeError):
        return
    assert url.origin() == URL("https://api.example.com")
    assert url.raw_path.split("/")[0:2] == ["", "v1"]
    assert url.raw_path.split("/")[3:] == ["orders"]
    for reading in readings(url.raw_path):
        assert posixpath.normpath(reading).startswith("/v1/")


def test_placeholders_that_climb_only_together_are_refused():
    template = UrlTemplate.of(str(URL("https://api.example.com/v1/.{ext}")))
    with pytest.raises(ToolInvalidArguments):
        template.fill({"ext": "."}, [])
