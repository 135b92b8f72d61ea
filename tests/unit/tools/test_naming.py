import re

from hypothesis import given
from hypothesis import strategies as st

from goagents.tools.naming import safe_name, unique_names

VALID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@given(st.lists(st.text(max_size=90), max_size=30))
def test_every_name_is_valid_and_none_comes_twice(names: list[str]):
    found = unique_names(names)
    assert len(found) == len(names)
    assert len(set(found)) == len(found)
    assert all(VALID.fullmatch(name) for name in found)
    assert unique_names(names) == found


def test_a_good_name_stays():
    assert unique_names(["customer_db", "get-pet"]) == ["customer_db", "get-pet"]


def test_foreign_letters_become_underscores():
    assert safe_name("repos/list for.org") == "repos_list_for_org"


def test_long_names_stay_apart():
    first, second = safe_name("x" * 80 + "a"), safe_name("x" * 80 + "b")
    assert first != second
    assert len(first) == len(second) == 64
