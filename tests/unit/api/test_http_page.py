"""docs/http.md says what is so: every operation, code, status, event and parameter."""

import re
from pathlib import Path
from typing import get_args

from goagents import app, events
from goagents.api.errors import NotServing
from goagents.api.operations import OPERATIONS
from goagents.api.params import DEFAULT_PAGE_SIZE, MAX_IDEMPOTENCY_KEY, MAX_PAGE_SIZE
from goagents.api.sse import KEEP_ALIVE
from goagents.errors import GoAgentsError, ToolError
from goagents.events import EventType
from goagents.spec.config import Config

PAGE = (Path(__file__).parents[3] / "docs" / "http.md").read_text(encoding="utf-8")


def codes(kind: type[GoAgentsError]) -> set[tuple[int, str]]:
    found = {(kind.status, kind.code)}
    for child in kind.__subclasses__():
        if child is not ToolError and child.__module__.startswith(("goagents.errors", "goagents.api")):
            found |= codes(child)
    return found


def test_every_operation_is_there_and_in_its_function():
    rows = set(re.findall(r"^\| `([A-Z]+) ([^`]+)` \| ([a-z]+) \|", PAGE, re.MULTILINE))
    assert {(method, path) for method, path, _ in rows} == {(o.method, o.path) for o in OPERATIONS}
    for method, path, function in rows:
        routes = app.load_by_name(f"goagents.api.{function}:routes")
        assert any(route.path == path and method in route.methods for route in routes), (method, path, function)


def test_every_code_is_there_under_its_status():
    rows = re.findall(r"^\| (\d{3}) \| (.+) \|$", PAGE, re.MULTILINE)
    listed = {(int(status), code) for status, text in rows for code in re.findall(r"`([a-z_]+)`", text)}
    assert listed == codes(GoAgentsError)
    assert (NotServing.status, NotServing.code) in listed


def test_every_event_is_there():
    table = PAGE.split("| event | data |")[1].split("\n\n")[0]
    told = dict(re.findall(r"^\| `([a-z_.]+)` \| (.+) \|$", table, re.MULTILINE))
    written = dict(re.findall(r"^\| ([a-z_.]+) \| (.+) \|$", events.__doc__ or "", re.MULTILINE))
    del written["type"]
    assert list(told) == list(written) == list(get_args(EventType))
    for event, data in told.items():
        fields = set(re.findall(r"`([a-z_]+)`", data)) - {"chat"}
        assert fields <= set(re.findall(r"[a-z_]+", written[event])), event


def test_bounds_are_as_they_are():
    assert f"`page_size` (1 to {MAX_PAGE_SIZE}, {DEFAULT_PAGE_SIZE} by default)" in PAGE
    assert f"up to {MAX_IDEMPOTENCY_KEY} characters" in PAGE
    assert f"After {KEEP_ALIVE:.0f} seconds of silence" in PAGE
    assert f"({Config().server.max_body >> 20} MiB by default)" in PAGE
