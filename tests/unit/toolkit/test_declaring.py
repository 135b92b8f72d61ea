"""What a function needs to be a tool, and what it is told when it lacks that."""

import enum
import functools
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from goagents.errors import ConfigurationError
from goagents.toolkit import ToolCallContext, Toolkit


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Line(BaseModel):
    item: str
    count: int = 1


class Opaque:
    pass


def plain(number: str, many: int = 1) -> str:
    """Does."""
    return number * many


async def waits(number: str) -> str:
    """Does."""
    return number


def streams(number: str) -> Iterator[str]:
    """Does."""
    yield number


def silent(number: str) -> str:
    return number


def untyped(number) -> str:  # noqa: ANN001
    """Does."""
    return str(number)


def endless(*numbers: str) -> str:
    """Does."""
    return "".join(numbers)


def placed(number: str, /) -> str:
    """Does."""
    return number


def returning(number: str):
    """Does."""


def strange(thing: Opaque) -> str:
    """Does."""
    return str(thing)


def estranged(number: str) -> Opaque:
    """Does."""
    return Opaque()


def unjson(call: Callable[[], int]) -> str:
    """Does."""
    return str(call)


def defaulted(number: str = Field("1", pattern="^[0-9]+$")) -> str:
    """Does."""
    return number


def aliased(number: Annotated[str, Field(alias="no")]) -> str:
    """Does."""
    return number


def twice(one: ToolCallContext, other: ToolCallContext) -> str:
    """Does."""
    return f"{one}{other}"


def unresolved(number: "Missing") -> str:  # type: ignore[name-defined] # noqa: F821
    """Does."""
    return str(number)


@pytest.mark.parametrize(
    ("function", "options", "told"),
    [
        (waits, {}, "is async"),
        (streams, {}, "is a generator"),
        (silent, {}, "give it a docstring"),
        (untyped, {}, "parameter `number`: has no type"),
        (endless, {}, "`*numbers: str`: arguments have names"),
        (placed, {}, "parameter `number`: is positional-only"),
        (returning, {}, "says not what it returns"),
        (strange, {}, "its arguments have a type that JSON cannot carry"),
        (unjson, {}, "its arguments have a type that JSON cannot carry"),
        (estranged, {}, "its result has a type that JSON cannot carry"),
        (defaulted, {}, "parameter `number`: a Field is no default"),
        (aliased, {}, "parameter `number`: has an alias"),
        (twice, {}, "more than one parameter of the type ToolCallContext: one, other"),
        (unresolved, {}, "name 'Missing' is not defined"),
        (functools.partial(plain, many=2), {"name": "part"}, "is no function"),
        (plain, {"name": "find order"}, "a name is 1 to 64 letters"),
        (plain, {"name": "_find"}, "a name is 1 to 64 letters"),
        (plain, {"name": "f" * 65}, "a name is 1 to 64 letters"),
        (plain, {"name": "health"}, "taken by the toolkit itself"),
        (plain, {"effect": "harmless"}, "effect='harmless' is unknown; it is one of read, idempotent, unsafe"),
        (lambda: None, {}, "a name is 1 to 64 letters"),
    ],
)
def test_a_function_that_is_no_tool_is_refused(function: Any, options: dict[str, Any], told: str):
    with pytest.raises(ConfigurationError) as refused:
        Toolkit("t").tool(**options)(function)
    assert told in str(refused.value)
    assert str(refused.value).startswith("tool ")


def test_a_name_is_given_once():
    kit = Toolkit("t")
    kit.tool(plain)
    with pytest.raises(ConfigurationError, match="tool plain: there is one of this name already"):
        kit.tool(effect="read")(plain)


def test_there_are_at_most_128():
    kit = Toolkit("t")
    for number in range(128):
        kit.tool(name=f"t{number}")(plain)
    with pytest.raises(ConfigurationError, match="at most 128"):
        kit.tool(plain)


def test_the_decorator_leaves_the_function_as_it_is():
    kit = Toolkit("t")
    assert kit.tool(plain) is plain
    assert kit.tool(name="other", effect="read")(plain) is plain
    assert plain("7", many=2) == "77"


@pytest.mark.parametrize(
    ("kind", "default", "plain_text"),
    [
        (str, ..., True),
        (int, 3, True),
        (bool, False, True),
        (float, ..., True),
        (Size, Size.SMALL, True),
        (Literal[1, 2], 1, True),
        (str | None, None, True),
        (Annotated[int | None, Field(ge=1)], None, True),
        (str | None, ..., False),  # null has to be said, and a query cannot
        (int | None, 5, False),
        (int | str, ..., False),
        (Decimal, ..., False),
        (list[str], ..., False),
        (Line, ..., False),
        (dict[str, int], ..., False),
        (Any, None, False),
    ],
)
def test_what_fits_into_a_query_is_known(kind: Any, default: Any, plain_text: bool):
    def tool(value: Any) -> str:
        """Does."""
        return str(value)

    tool.__annotations__["value"] = kind
    if default is not ...:
        tool.__defaults__ = (default,)
    kit = Toolkit("t")
    kit.tool(effect="read")(tool)
    assert ('"get"' in kit.openapi().decode()) is plain_text


@pytest.mark.parametrize("options", [{"name": ""}, {"max_body": 0}, {"patience": -1}, {"api_keys": ["secret"]}])
def test_a_toolkit_that_cannot_be_is_refused(options: dict[str, Any]):
    with pytest.raises(ConfigurationError) as refused:
        Toolkit(**{"name": "t", **options})
    assert "secret" not in str(refused.value)


def test_one_hash_is_not_taken_for_a_list_of_letters():
    with pytest.raises(ConfigurationError, match="a list of hashes"):
        Toolkit("t", api_keys="a" * 64)
