"""YAML and JSON: what is read, and what hostile documents cost."""

import json
import time
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from goagents.spec.document import MAX_DEPTH, MAX_VALUES, DocumentError
from goagents.spec.json_reader import read_json
from goagents.spec.yaml_reader import read_yaml

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


def yaml_of(text: str):
    (node,) = read_yaml(text, "f.yaml")
    return node.plain()


def refused(text: str, read: Any = read_yaml):
    with pytest.raises(DocumentError) as caught:
        read(text, "f.yaml")
    return caught.value


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1", 1), ("-1", -1), ("0x1F", 31), ("0o17", 15), ("007", 7), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0),
            ("true", True), ("False", False), ("~", None), ("null", None), ("", None), ("'1'", "1"), ("!!str 1", "1"),
            ("yes", "yes"), ("on", "on"), ("12:30", "12:30"), ("2026-01-01", "2026-01-01"), ("1_000", "1_000"),
            (".inf", ".inf"), (".nan", ".nan"), ("1e999", "1e999"), ("=", "="), ("!!int 5", 5), ("a b", "a b"),
        ],
    )  # fmt: skip
    def test_scalars_are_those_of_yaml_1_2(self, text: str, value: Any):
        found = yaml_of(f"a: {text}\n")["a"]
        assert found == value
        assert type(found) is type(value)

    def test_keys_are_the_texts_that_stand_there(self):
        assert yaml_of("8080: a\nyes: b\n1.50: c\n") == {"8080": "a", "yes": "b", "1.50": "c"}

    def test_anchors_and_merges(self):
        assert yaml_of("a: &x {b: 1, c: 2}\nd: *x\ne: {<<: *x, c: 3}\nf: {<<: [{c: 9}, *x]}") == {
            "a": {"b": 1, "c": 2},
            "d": {"b": 1, "c": 2},
            "e": {"b": 1, "c": 3},
            "f": {"b": 1, "c": 9},
        }

    def test_several_documents_and_empty_ones(self):
        assert [node.plain() for node in read_yaml("---\n---\na: 1\n...\n---\n# b\n---\nb: 2\n")] == [
            {"a": 1},
            {"b": 2},
        ]

    def test_places_count_from_one(self):
        (node,) = read_yaml("a:\n  - b: x\n", "f.yaml")
        inner = node.child("a").child(0)
        assert (inner.keys["b"].line, inner.keys["b"].column) == (2, 5)
        assert (inner.child("b").mark.line, inner.child("b").mark.column) == (2, 8)

    @pytest.mark.parametrize(
        ("text", "line", "column"),
        [
            ("a: [1,\n", 2, 1),
            ("a: b: c", 1, 5),
            ("\ta: 1", 1, 1),
            ("a: 1\nb: \x07", 2, 4),
            ("a: 'x", 1, 6),
            ("%YAML 9.0\n---", 1, 1),
        ],
    )
    def test_what_is_no_yaml_names_its_place(self, text: str, line: int, column: int):
        error = refused(text)
        assert error.malformed
        assert error.message.startswith("not YAML")
        assert (error.mark.line, error.mark.column) == (line, column)

    @pytest.mark.parametrize(
        "tag", ["!!python/object/apply:os.system ['true']", "!custom x", "!!binary aGk=", "!!set {a}", "!!int x"]
    )
    def test_tags_are_refused(self, tag: str):
        error = refused(f"a: {tag}")
        assert "is not supported" in error.message
        assert not error.malformed

    def test_half_a_surrogate_pair(self):
        assert refused("a: \ud800").malformed

    def test_aliases_of_nothing_and_of_themselves(self):
        assert "has no anchor" in refused("a: *x").message
        assert "has no anchor" in refused("a: &x [*x]").message

    def test_anchors_end_with_their_document(self):
        assert "has no anchor" in refused("a: &x 1\n---\nb: *x").message

    @pytest.mark.parametrize("text", ["? [a]\n: 1", "? {a: b}\n: 1", "{[a]: 1}"])
    def test_keys_must_be_texts(self, text: str):
        assert "a key must be a text" in refused(text).message

    def test_merging_what_is_no_mapping(self):
        assert "merges mappings only" in refused("a: {<<: 5}").message

    def test_repeated_keys_are_noted(self):
        (node,) = read_yaml("a: {b: 1, b: 2}\nc: [{d: 1, d: 2}]")
        assert [path for path, _ in node.repetitions()] == [("a", "b"), ("c", "0", "d")]
        assert node.plain()["a"] == {"b": 1}

    @given(st.text(max_size=60))
    def test_no_text_breaks_it(self, text: str):
        try:
            nodes = read_yaml(text, "f.yaml")
        except DocumentError as error:
            assert error.message  # noqa: PT017 - either outcome is right
            return
        json.dumps([node.plain() for node in nodes])


class TestBounds:
    """Each is refused at once: what is measured is CPU time."""

    @pytest.fixture(autouse=True)
    def quick(self):
        begun = time.process_time()
        yield
        assert time.process_time() - begun < 5

    def test_billion_laughs(self):
        levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 12)]
        error = refused("\n".join(["l0: &l0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]", *levels]))
        assert f"more than {MAX_VALUES} values" in error.message
        assert not error.malformed

    def test_billion_laughs_by_merging(self):
        text = "a0: &a0 {k: [" + "x," * 1000 + "]}\n"
        text += "\n".join(f"a{i}: &a{i} {{m: *a{i - 1}, n: *a{i - 1}}}" for i in range(1, 30))
        assert "more than" in refused(text).message

    @pytest.mark.parametrize(
        "text",
        ["[" * 1_000_000, "{a: " * 300_000, "- " * 500_000, "? " * 100_000, "[" * 66 + "]" * 66, "[{a: " * 20_000],
    )
    def test_deep_nesting(self, text: str):
        assert f"nested deeper than {MAX_DEPTH} levels" in refused(text).message

    def test_deep_nesting_by_aliases(self):
        text = "a0: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 100))
        assert "nested deeper" in refused(text).message

    def test_many_values(self):
        assert "more than" in refused("[" + "a," * 2_000_000 + "]").message

    def test_many_documents(self):
        assert "more than 200 documents" in refused("--- {}\n" * 100_000).message

    def test_deep_json(self):
        assert "nested deeper" in refused("[" * 2_000_000, read_json).message
        assert "nested deeper" in refused("[" * 66 + "]" * 66, read_json).message

    def test_many_json_values(self):
        assert "more than" in refused("[" + "1," * 1_000_000 + "1]", read_json).message

    def test_what_is_within_the_bounds_is_read(self):
        assert len(yaml_of("[" + "a," * (MAX_VALUES - 1) + "]")) == MAX_VALUES - 1
        assert yaml_of("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)) is not None


class TestJson:
    @given(JSON)
    def test_any_json_is_read_as_it_is(self, value: Any):
        assert read_json(json.dumps(value)).plain() == value

    @given(JSON)
    def test_json_is_yaml_to_us(self, value: Any):
        text = json.dumps(value, ensure_ascii=False)
        assume(
            not set("\x85\u2028\u2029") & set(text)
        )  # line breaks in YAML, folded within quotes; JSON has them as text
        try:
            nodes = read_yaml(text)
        except DocumentError:
            return  # DEL and other characters that JSON has and YAML has not
        assert [node.plain() for node in nodes] == ([] if value is None else [value])

    def test_places_are_known(self):
        node = read_json('{\n\t"a": [1,\n\t\t2]}', "f.json")
        mark = node.child("a").child(1).mark
        assert (mark.file, mark.line, mark.column) == ("f.json", 3, 3)

    @pytest.mark.parametrize(
        "text",
        ["", "{", "{'a': 1}", '{"a": 1,}', "a: 1", "[1] [2]", "NaN", "[Infinity]", "[1e999]", "// x\n1",
         '"\\ud800"', '{"\\udfff": 1}',
         "9" * 5000],
    )  # fmt: skip
    def test_what_is_no_json(self, text: str):
        error = refused(text, read_json)
        assert error.malformed
        assert "JSON" in error.message

    def test_repeated_names_are_noted(self):
        assert [path for path, _ in read_json('{"a": [{"b": 1, "b": 2}]}').repetitions()] == [("a", "0", "b")]
