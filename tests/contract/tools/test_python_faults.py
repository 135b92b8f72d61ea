"""What is around a `python` tool when its function fails: attempts, the circuit breaker, what the log has."""

import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from tests.support.calling import Desk, desk, text_of

from goagents.spec.tools import PythonToolSpec
from goagents.telemetry.base import Unexpected
from goagents.tools.base import ToolEnvironment
from goagents.tools.python import ToolError, build
from goagents.tools.python_faults import fault_of

FOLDER = Path(__file__).parents[2] / "support" / "python_tools"


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def answered(status: Any, **fields: Any) -> BaseException:
    """Return an exception as HTTP clients raise it for a status."""
    return type("StatusError", (OSError,), {"response": type("Response", (), {"status_code": status, **fields})})()


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ConnectionResetError(), "server"),
        (TimeoutError(), "server"),
        (socket.gaierror(-3, "try again"), "server"),
        (OSError(113, "No route to host"), "server"),
        (caused(RuntimeError("no answer"), caused(RuntimeError(), ConnectionRefusedError())), "server"),
        (caused(ValueError("no answer"), TimeoutError()), "server"),
        (FileNotFoundError(), None),
        (PermissionError(), None),
        (ssl.SSLCertVerificationError("expired"), None),
        (RuntimeError("no answer"), None),
        (answered(503), "server"),
        (answered(HTTPStatus.BAD_GATEWAY), "server"),
        (answered(408), "server"),
        (answered(429), "busy"),
        (answered(404), None),
        (answered(501), None),
        (answered("503"), "server"),
        (HTTPError("http://x", 404, "no", {}, None), None),  # type: ignore[arg-type]
        (HTTPError("http://x", 500, "no", {}, None), "server"),  # type: ignore[arg-type]
        (ToolError("Later.", passing=True), "server"),
        (ToolError("Later.", passing=True, retry_after=5), "busy"),
        (ToolError("No."), None),
    ],
)
def test_what_may_pass(error: BaseException, fault: str | None):
    assert (error.fault if isinstance(error, ToolError) else fault_of(error)) == fault


HTTP = {"type": "http", "name": "shop", "url": "https://x.example", "headers": {"Authorization": "Bearer ${KEY}"}}


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Any]:
    made: list[Desk] = []

    def make(**tool: Any) -> Desk:
        fields = {"type": "python", "name": "find", "target": "sample_tools:fail", "effect": "read", **tool}
        made.append(desk(tmp_path, {"KEY": "sesame-opens"}, {"tools": [fields, HTTP]}))
        return made[-1]

    yield make
    for each in made:
        await each.around.store.aclose()


@pytest.fixture(autouse=True)
def path() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before
    sys.modules.pop("sample_tools", None)


async def made(at: Desk, *failures: BaseException) -> Any:
    """Return what a call came to whose function fails with these, one after another."""
    spec = at.spec.tools[0]
    assert isinstance(spec, PythonToolSpec)
    (found,) = await build(spec, ToolEnvironment(str, trusted=True, python_path=(str(FOLDER),))).open()
    sys.modules["sample_tools"].FAILURES[:] = failures
    return await at.call(found)


async def test_a_failure_that_may_pass_is_met_by_another_attempt(at: Any):
    done = await made(at(retries=3), ConnectionResetError(), TimeoutError(), caused(RuntimeError(), TimeoutError()))
    assert (text_of(done), done.attempts) == ("done", 4)
    assert not done.result.is_error


async def test_one_that_does_not_pass_is_told_at_once(at: Any):
    done = await made(at(retries=3), RuntimeError("no"))
    assert (text_of(done), done.attempts) == ("The function raised RuntimeError. The server's log has the details.", 1)


async def test_a_call_that_may_have_acted_is_not_made_again(at: Any):
    done = await made(at(retries=3, effect="unsafe"), ConnectionResetError())
    assert done.attempts == 1
    assert done.unknown


async def test_a_tool_error_says_that_it_may_pass_and_when(at: Any):
    here = at(retries=3)
    before = here.clock.monotonic()
    done = await made(here, ToolError("The shop opens soon.", passing=True, retry_after=20))
    assert (text_of(done), done.attempts) == ("done", 2)
    assert here.clock.monotonic() - before >= 20
    done = await made(at(retries=3), ToolError("There is no order 404."))
    assert (text_of(done), done.attempts) == ("There is no order 404.", 1)


async def test_the_breaker_sees_what_is_out_of_order(at: Any):
    here = at(circuit_breaker={"failures": 2})
    await made(here, ConnectionRefusedError())
    await made(here, ToolError("The shop is closed.", passing=True))
    assert text_of(await made(here)).startswith("The call is not made: 2 calls of the tool failed in a row.")
    busy = at(circuit_breaker={"failures": 2})
    for _ in range(3):
        await made(busy, ToolError("Later.", passing=True, retry_after=60))
    assert text_of(await made(busy)) == "done"


async def test_what_it_raised_is_in_the_log_once_and_without_secrets(at: Any, caplog: pytest.LogCaptureFixture):
    here = at()
    await made(here, RuntimeError("401 for key sesame-opens"))
    (told,) = [event for event in here.seen if isinstance(event, Unexpected)]
    assert (told.where, told.error) == ("tool find", "RuntimeError('401 for key [redacted]')")
    assert "in fail" in told.traceback
    assert "sesame-opens" not in told.traceback
    assert caplog.text == ""
