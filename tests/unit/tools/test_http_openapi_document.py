"""Documents from the wild and from the wicked."""

import time

import pytest

from goagents.tools.http_openapi_document import Unsupported, parse

HEAD = b"openapi: 3.0.3\npaths: {}\n"


def test_yaml_is_read_as_json_would_have_it():
    document = parse(
        b"openapi: 3.1.0\n"
        b"info: {version: 2020-01-01, title: no}\n"
        b"paths:\n  /x:\n    get:\n      responses:\n        200: {description: on}\n"
    )
    assert document.root["info"] == {"version": "2020-01-01", "title": "no"}
    assert document.root["paths"]["/x"]["get"]["responses"] == {"200": {"description": "on"}}
    assert not document.is_3_0


def test_json_with_a_byte_order_mark_and_flow_yaml():
    assert parse(b'\xef\xbb\xbf{"openapi": "3.0.0"}').is_3_0
    assert parse(b"{openapi: 3.0.0, paths: {}}").is_3_0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"[1, 2]", "not an object"),
        (b"just text", "not an object"),
        (b"a: [1,\nb: }", r"neither JSON nor YAML \(line 2\)"),
        (b'{"swagger": "2.0"}', "convert it to OpenAPI 3"),
        (b'{"openapi": "4.0"}', "must say 3.0 or 3.1"),
        (b"{}", "must say 3.0 or 3.1"),
        (b"a: !!python/object/apply:os.system [id]", "neither JSON nor YAML"),
        (b"[" * 100_000 + b"]" * 100_000, "nested more than"),
        (b"a: " + b"{b: " * 100_000, "nested more than"),
        (b"- " * 50_000, "nested more than"),
        (b'{"a":' * 100_000, "nested"),
        (b"n: " + b"9" * 5000, "neither JSON nor YAML"),
        (b"? [a, b]\n: c", "neither JSON nor YAML"),
    ],
)
def test_what_is_no_document_says_so(content: bytes, message: str):
    with pytest.raises(Unsupported, match=message):
        parse(content)


def bomb(levels: int, merge: bool) -> bytes:
    lines = ["a0: &a0 {x: 1}" if merge else "a0: &a0 [x]"]
    for n in range(1, levels):
        aliases = ", ".join([f"*a{n - 1}"] * 10)
        lines.append(f"a{n}: &a{n} {{<<: [{aliases}]}}" if merge else f"a{n}: &a{n} [{aliases}]")
    return "\n".join([*lines, "openapi: 3.0.3"]).encode()


def test_an_alias_bomb_costs_nothing():
    began = time.monotonic()
    parse(bomb(40, merge=False))
    assert time.monotonic() - began < 2


def test_a_merge_bomb_is_refused():
    began = time.monotonic()
    with pytest.raises(Unsupported, match="merge keys"):
        parse(bomb(30, merge=True))
    assert time.monotonic() - began < 5


def test_many_merges_of_much_are_refused():
    keys = ", ".join(f"k{n}: 1" for n in range(5000))
    with pytest.raises(Unsupported, match="merge keys"):
        parse(f"a: &a {{{keys}}}\nb: [{'{<<: *a}, ' * 5000}]\nopenapi: 3.0.3".encode())


@pytest.mark.parametrize("key", ["a", "name"])
def test_what_is_merged_stands_back_behind_what_is_nearer(key: str):
    lines = [
        "openapi: 3.0.3",
        f"x: &x {{{key}: 1, more: 1}}",
        f"y: &y {{{key}: 2, other: 2}}",
        "z: &z {<<: *y}",
        "of-two: {<<: [*x, *y]}",
        f"own: {{<<: [*x, *y], {key}: 3}}",
        f"first: {{{key}: 3, <<: *x}}",
        "deep: {<<: *z}",
        f"itself: &i {{<<: *i, {key}: 4}}",
    ]
    root = parse("\n".join(lines).encode()).root
    assert root["of-two"] == {key: 1, "more": 1, "other": 2}
    assert root["own"] == {key: 3, "more": 1, "other": 2}
    assert root["first"] == {key: 3, "more": 1}
    assert root["deep"] == {key: 2, "other": 2}
    assert root["itself"] == {key: 4}


def test_only_mappings_are_merged():
    with pytest.raises(Unsupported, match=r"neither JSON nor YAML \(line 2\)"):
        parse(b"openapi: 3.0.3\na: {<<: [1]}")


def test_too_many_aliases_are_refused():
    with pytest.raises(Unsupported, match="aliases"):
        parse(b"a: &a 1\nb: [" + b"*a," * 10_001 + b"]")


def test_references():
    document = parse(b'{"openapi": "3.1.0", "a/b": {"c~d": [{"x": 1}]}, "l": {"$ref": "#/l"}, "r": {"$ref": "#/a~1b"}}')
    assert document.resolve({"$ref": "#/a~1b/c~0d/0"}) == {"x": 1}
    assert document.resolve({"$ref": "#/r"}) == {"c~d": [{"x": 1}]}
    for reference, message in [
        ("#/absent", "nothing is at"),
        ("#/a~1b/c~0d/7", "nothing is at"),
        ("other.yaml#/x", "outside the document"),
        ("file:///etc/passwd", "outside the document"),
        ("#/l", "circles"),
    ]:
        with pytest.raises(Unsupported, match=message):
            document.resolve({"$ref": reference})
