"""The `python` tool: functions of real modules, called as the engine calls them."""

import asyncio
import importlib
import json
import logging
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from tests.support.http_tools import CONTEXT, text_of
from tests.support.mcp_tools import eventually

from goagents.errors import ToolError, ToolFailed, ToolInvalidArguments, ToolUnavailable
from goagents.messages import ImagePart, TextPart
from goagents.spec.tools import PythonToolSpec
from goagents.tools.base import Tool, ToolEnvironment, ToolResult
from goagents.tools.python import build, tool

FOLDER = Path(__file__).parents[2] / "support" / "python_tools"
Open = Callable[..., Any]


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    """What a test makes importable is not importable in the next one."""
    path, loaded = list(sys.path), set(sys.modules)
    importlib.invalidate_caches()
    yield
    sys.path[:] = path
    for name in set(sys.modules) - loaded:
        if not name.startswith(("goagents", "tests")):
            del sys.modules[name]


async def opened(
    target: str, *, folder: Path = FOLDER, trusted: bool = True, allowed: tuple[str, ...] = (), **fields: Any
) -> Tool:
    spec = PythonToolSpec.model_validate({"type": "python", "name": "t", "target": target, **fields})
    environment = ToolEnvironment(
        lambda text: text.replace("${NAME}", "Ada"),
        trusted=trusted,
        python_path=(str(folder),),
        allowed_python=frozenset(allowed),
    )
    (found,) = await build(spec, environment).open()
    return found


async def sample(function: str, **fields: Any) -> Tool:
    return await opened(f"sample_tools:{function}", **fields)


async def call(found: Tool, **arguments: Any) -> ToolResult:
    return await found.call(arguments, CONTEXT)


GIVES = """
import itertools, threading

def lazily(last: int) -> object:
    'Returns a generator, which is read where the function ran.'
    return (threading.get_ident() for _ in range(last)) if last else (n for n in itertools.count())

def failing() -> object:
    'Returns a generator that fails.'
    return (1 // n for n in (1, 0))

def later() -> object:
    'Returns a coroutine.'
    async def work() -> str:
        return 'done'
    return work()
"""


async def test_what_a_function_returns_to_be_read_or_awaited(tmp_path: Path):
    (tmp_path / "gives.py").write_text(GIVES)
    lazily = await opened("gives:lazily", folder=tmp_path)
    idents = json.loads(text_of(await call(lazily, last=2)))
    assert len(idents) == 2
    assert threading.get_ident() not in idents, "a generator that waits would hold up the event loop"
    assert text_of(await call(lazily, last=0)).startswith("[0,1,2,")
    assert text_of(await call(await opened("gives:later", folder=tmp_path))) == "done"
    with pytest.raises(ToolFailed, match="The function raised ZeroDivisionError"):
        await call(await opened("gives:failing", folder=tmp_path))


async def test_schema_description_and_effect_come_from_the_function():
    definition = (await sample("find_order", timeout="5s", max_output="1KiB")).definition
    assert (definition.name, definition.description) == ("t", "One order by its number.")
    assert (definition.effect, definition.timeout, definition.max_output) == ("read", 5.0, 1024)
    assert definition.parameters == {
        "type": "object",
        "properties": {
            "number": {"type": "string", "pattern": "^[0-9]+$", "description": "Its number.", "title": "Number"},
            "verbose": {"type": "boolean", "default": False, "title": "Verbose"},
        },
        "required": ["number"],
        "additionalProperties": False,
    }
    jsonschema_rs.validator_for((await sample("add")).definition.parameters, offline=True)


async def test_the_entry_goes_before_the_function_and_without_a_word_a_call_is_unsafe():
    definition = (await sample("find_order", effect="unsafe", description="Orders of ${NAME}.")).definition
    assert (definition.effect, definition.description) == ("unsafe", "Orders of Ada.")
    assert (await sample("add")).definition.effect == "unsafe"
    assert (await sample("who_calls")).definition.effect == "idempotent"
    with pytest.raises(ValueError, match="it is one of read, idempotent, unsafe"):
        tool(effect="reed")  # type: ignore[arg-type]


async def test_arguments_become_what_the_hints_say():
    found = await call(await sample("add"), point={"x": 1, "y": 2}, more=[3, 4])
    assert text_of(found) == '{"x":8,"y":2}'
    with pytest.raises(ToolInvalidArguments, match=r"point\.y: Field required") as caught:
        await call(await sample("add"), point={"x": "secret-value"}, more=[])
    assert "secret-value" not in str(caught.value)


async def test_results():
    assert (
        text_of(await call(await sample("find_order"), number="7")) == '{"no":"7","placed":"2026-02-03","total":"1.10"}'
    )
    say = await sample("say")
    assert text_of(await call(say, kind="text")) == "plain"
    assert text_of(await call(say, kind="none")) == "(the function returned nothing)"
    assert text_of(await call(say, kind="list")) == '[1,"two",null]'
    assert text_of(await call(say, kind="nan")) == "null"
    image = ImagePart(media_type="image/png", data="aGk=")
    assert (await call(say, kind="image")).content == (image,)
    assert (await call(say, kind="parts")).content == (TextPart("look"), image)
    with pytest.raises(ToolFailed, match="object has no form in JSON"):
        await call(say, kind="object")


async def test_the_context_is_given_and_not_asked_of_the_model():
    found = await sample("who_calls")
    assert found.definition.parameters["properties"] == {}
    assert text_of(await call(found)) == '{"run":"run_1","key":"run_1/3/call_1","agent":"agent"}'
    optional = await sample("whose")
    assert set(optional.definition.parameters["properties"]) == {"text"}
    assert text_of(await call(optional, text="book")) == "book of run_1"


@pytest.mark.parametrize(
    ("function", "text"), [("leak", "RuntimeError."), ("leak_async", "TimeoutError, which may pass.")]
)
async def test_of_an_exception_the_model_gets_the_name_and_the_log_the_rest(
    function: str, text: str, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.DEBUG), pytest.raises(ToolFailed) as caught:
        await call(await sample(function), secret="sesame")
    assert str(caught.value) == f"The function raised {text} The server's log has the details."
    assert "password sesame" in str(caught.value.defect), "the engine logs it, without secrets"
    assert caplog.text == ""


async def test_a_tool_error_is_for_the_model_to_read():
    with pytest.raises(ToolError, match=r"There is no order 404\."):
        await call(await sample("find_order"), number="404")


@pytest.mark.parametrize("function", ["give_up", "cancel_itself", "stop_iterating"])
async def test_what_would_end_more_than_the_call_does_not(function: str):
    with pytest.raises(ToolFailed):
        await call(await sample(function))


async def test_functions_that_are_not_async_have_threads_and_the_callers_context():
    found = await sample("word")
    word = sys.modules["sample_tools"].WORD
    word.set("set")
    assert text_of(await call(found)) == "set False True"
    assert text_of(await call(await sample("word_async"))) == "set True"


async def test_methods_and_wrapped_functions():
    assert text_of(await call(await sample("SHELF.count"))) == "1"
    assert text_of(await call(await sample("behind_a_decorator"), text="abc")) == "cba"


async def test_threads_are_bounded_and_a_call_that_waits_is_not_begun_when_it_is_given_up():
    found = await sample("hold", threads=2)
    module = sys.modules["sample_tools"]
    calls = [asyncio.create_task(call(found, number=number)) for number in range(3)]

    async def both_begun() -> bool:
        return len(module.BEGUN) == 2

    await eventually(both_begun, "two calls are begun")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await calls[2]
    calls[0].cancel()  # its thread cannot be stopped, and counts on
    await asyncio.wait([calls[0]])
    late = asyncio.create_task(call(found, number=9))
    await asyncio.sleep(0.05)
    assert sorted(module.BEGUN) == [0, 1]
    module.HELD.set()
    assert text_of(await calls[1]) == "1"
    assert text_of(await late) == "9"
    assert 2 not in module.BEGUN


async def test_an_async_function_is_cancelled():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await call(await sample("sleep"))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "sample_tolls:find_order",
            r"there is no module 'sample_tolls' here: install .* or name its folder in `python\.p",
        ),
        ("sample_tools.inner:x", "there is no module 'sample_tools.inner' here"),
        ("sample_tools:find_ordr", "the module sample_tools has no 'find_ordr'; did you mean 'find_order'?"),
        ("sample_tools:SHELF.books", "the target is 'list' and no function"),
        ("sample_tools:VALUE", "the target is 'int' and no function"),
        ("sample_tools:Shelf", "the target is 'type' and no function"),
        ("sample_tools:undescribed", "give the function a docstring, or the entry a `description`"),
        ("sample_tools:untyped", "parameter `text`: has no type; annotate it"),
        ("sample_tools:generator", "is a generator: return a list"),
        ("sample-point", "no installed package has an entry point 'sample-point' in the group `goagents.tools`"),
    ],
)
async def test_what_cannot_be_a_tool_says_why(target: str, message: str):
    with pytest.raises(ToolUnavailable, match=message):
        await opened(target)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nobody_has_this", "broken_tools needs the module 'nobody_has_this', which is not installed"),
        ("raise RuntimeError('password sesame')", "importing broken_tools raised RuntimeError; the server's log"),
        ("raise SystemExit(3)", "importing broken_tools raised SystemExit"),
        ("class Panic(BaseException): pass\nraise Panic", "importing broken_tools raised Panic"),
        ("raise KeyboardInterrupt", "importing broken_tools raised KeyboardInterrupt"),
        ("def (", "importing broken_tools raised SyntaxError"),
    ],
)
async def test_a_module_that_fails_costs_its_tool_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, source: str, message: str
):
    (tmp_path / "broken_tools.py").write_text(source)
    with caplog.at_level(logging.DEBUG), pytest.raises(ToolUnavailable, match=message) as caught:
        await opened("broken_tools:f", folder=tmp_path)
    assert "sesame" not in str(caught.value)
    assert ("sesame" in source) == ("sesame" in str(caught.value.defect)), "the engine logs it, without secrets"
    assert caplog.text == ""


async def test_modules_that_never_end_importing_take_no_thread_of_others(tmp_path: Path):
    go_on = threading.Event()
    sys.modules["gates"] = types.SimpleNamespace(wait=go_on.wait)  # type: ignore[assignment]
    source = 'import gates\ngates.wait(60)\ndef f() -> str:\n    """F."""\n    return "imported"\n'
    for number in range(40):  # more than the event loop has threads
        (tmp_path / f"hanging{number}.py").write_text(source)
    threads = threading.active_count()
    openings = [asyncio.create_task(opened(f"hanging{n}:f", folder=tmp_path)) for n in [*range(40), *[0] * 20]]
    try:
        assert await asyncio.wait_for(asyncio.to_thread(str, "free"), 10) == "free"
        assert threading.active_count() - threads <= 41  # one for each module; the loop's own
        openings[40].cancel()
    finally:
        go_on.set()
    found = await asyncio.gather(*openings, return_exceptions=True)
    assert [text_of(await call(one)) for one in found if not isinstance(one, BaseException)] == ["imported"] * 59
    assert isinstance(found[40], asyncio.CancelledError)


async def test_a_cluster_that_is_not_trusted_has_what_the_configuration_names():
    with pytest.raises(ToolUnavailable, match=r"sample_tools:add is not on the server's `allow\.python` list"):
        await sample("add", trusted=False, allowed=("sample_tools:find_order",))
    assert "sample_tools" not in sys.modules
    assert (await sample("add", trusted=False, allowed=("sample_tools:add",))).definition.name == "t"


async def test_a_folder_is_looked_in_behind_what_is_installed(tmp_path: Path):
    (tmp_path / "json.py").write_text("raise RuntimeError")
    (tmp_path / "own_tools.py").write_text('def f() -> str:\n    """F."""\n    return "own"\n')
    assert text_of(await call(await opened("own_tools:f", folder=tmp_path))) == "own"
    assert sys.path[-1] == str(tmp_path)
