import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from goagents.messages import Usage
from goagents.telemetry.base import (
    REQUEST,
    Event,
    ModelCallFinished,
    RequestContext,
    RequestFinished,
    RunFinished,
    RunStarted,
    ToolCallFinished,
    ToolCircuitChanged,
    ToolsetFailed,
    Unexpected,
)
from goagents.telemetry.logging import LoggingHook, configure

REQUEST_DONE = RequestFinished(
    "POST", "/api/v1/agents/{id}/chat", "/api/v1/agents/a.b/chat", 200, 0.5, "req_1", "ci", "run_1"
)
MODEL_DONE = ModelCallFinished("run_1", "c", "a", "openai", "gpt", 1.5, 0.25, Usage(10, 5), "end_turn")
RUN_DONE = RunFinished("run_1", "session_1", "default", "c", "a", "succeeded", 2.0, Usage(10, 5))
TOOL_DONE = ToolCallFinished("run_1", "c", "a", "search", 0.1, "ok")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("goagents")
    before = (list(root.handlers), root.level, ours.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_request_is_one_line_in_cloud_loggings_format(capsys: pytest.CaptureFixture[str]):
    configure("info", "json", project="acme")
    token = REQUEST.set(RequestContext("req_1", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"))
    LoggingHook()(REQUEST_DONE)
    REQUEST.reset(token)
    (line,) = lines(capsys)
    assert line["severity"] == "INFO"
    assert line["time"].endswith("Z")
    assert line["logging.googleapis.com/trace"] == "projects/acme/traces/0af7651916cd43dd8448eb211c80319c"
    assert line["logging.googleapis.com/spanId"] == "b7ad6b7169203331"
    assert line["httpRequest"] == {
        "requestMethod": "POST", "requestUrl": "/api/v1/agents/a.b/chat", "status": 200, "latency": "0.500000s",
    }  # fmt: skip
    labels = line["logging.googleapis.com/labels"]
    assert labels["request_id"] == "req_1"
    assert labels["route"] == "/api/v1/agents/{id}/chat"
    assert labels["run_id"] == "run_1"
    assert all(isinstance(value, str) for value in labels.values())


@pytest.mark.parametrize(
    ("event", "severity"),
    [
        (REQUEST_DONE, "INFO"),
        (RequestFinished("GET", "/x", "/x", 404, 0.1, "r", error_code="not_found"), "INFO"),
        (RequestFinished("GET", "/x", "/x", 502, 0.1, "r", error_code="provider_failed"), "ERROR"),
        (RequestFinished("GET", "/health", "/health", 200, 0.1, "r"), "DEBUG"),
        (RequestFinished("GET", "/ready", "/ready", 503, 0.1, "r"), "ERROR"),
        (MODEL_DONE, "INFO"),
        (ModelCallFinished("r", "c", "a", "p", "m", 1, None, Usage(), None, "provider_overloaded", "busy"), "WARNING"),
        (RUN_DONE, "INFO"),
        (RunFinished("r", "s", "t", "c", "a", "failed", 1, Usage(), "run_timed_out", "too long"), "WARNING"),
        (TOOL_DONE, "DEBUG"),
        (RunStarted("r", "s", "t", "c", "a"), "DEBUG"),
        (ToolCallFinished("r", "c", "a", "t", 0.1, "ok", attempts=2, cache=None), "DEBUG"),
        (ToolCallFinished("r", "c", "a", "t", 0.1, "ok", attempts=0, cache="hit"), "DEBUG"),
        (ToolCircuitChanged("c", "a", "t", "api.example.com:443", "open", 5, 30.0), "WARNING"),
        (ToolCircuitChanged("c", "a", "t", "", "half_open", 5, 0.0), "INFO"),
        (ToolCircuitChanged("c", "a", "t", "", "closed", 0, 0.0), "INFO"),
        (ToolsetFailed("c", "a", "t", "no answer"), "WARNING"),
        (Unexpected("GET /x", "KeyError('x')", "Traceback …"), "ERROR"),
    ],
)
def test_each_event_is_one_line_of_its_severity(event: Event, severity: str, capsys: pytest.CaptureFixture[str]):
    configure("debug", "json")
    LoggingHook()(event)
    (line,) = lines(capsys)
    assert line["severity"] == severity
    assert line["message"]


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 0), ("error", 0)])
def test_the_level_acts_as_configured(level: Any, count: int, capsys: pytest.CaptureFixture[str]):
    configure(level, "json")
    for event in (REQUEST_DONE, MODEL_DONE, RUN_DONE, TOOL_DONE):
        LoggingHook()(event)
    assert len(lines(capsys)) == count


def test_a_second_configuration_replaces_the_first(capsys: pytest.CaptureFixture[str]):
    configure("debug", "json")
    configure("info", "pretty")
    LoggingHook()(TOOL_DONE)
    LoggingHook()(REQUEST_DONE)
    (line,) = capsys.readouterr().err.splitlines()
    assert "POST /api/v1/agents/a.b/chat 200 in 500.0 ms" in line
    assert not line.startswith("{")


def test_others_debug_lines_which_hold_headers_never_get_through(capsys: pytest.CaptureFixture[str]):
    configure("debug", "json")
    logging.getLogger("openai").debug("authorization: Bearer sk-secret")
    logging.getLogger("httpx2").info("a request")
    logging.getLogger("openai").warning("retrying")
    assert [line["message"] for line in lines(capsys)] == ["retrying"]


def test_an_unexpected_error_is_reported_with_its_traceback_in_a_field(capsys: pytest.CaptureFixture[str]):
    configure("info", "json")
    LoggingHook()(Unexpected("GET /x", "KeyError('x')", "Traceback (most recent call last):\n…"))
    (line,) = lines(capsys)
    assert line["stack_trace"].startswith("Traceback")
    assert line["@type"].endswith("ReportedErrorEvent")


def test_what_a_caller_sends_cannot_make_a_line_of_its_own(capsys: pytest.CaptureFixture[str]):
    for style in ("json", "pretty"):
        configure("info", style)  # type: ignore[arg-type] # one of the formats
        LoggingHook()(RequestFinished("GET", "unmatched", '/x\n{"severity": "ALERT"}\x1b[2J\x9b2J', 404, 0.1, "r"))
        shown = capsys.readouterr().err
        assert len(shown.splitlines()) == 1
        assert shown.removesuffix("\n").isprintable()


def test_exceptions_of_other_loggers_keep_their_traceback(capsys: pytest.CaptureFixture[str]):
    configure("info", "json")
    try:
        {}["x"]
    except KeyError:
        logging.getLogger("goagents.x").exception("it broke")
    (line,) = lines(capsys)
    assert "KeyError" in line["stack_trace"]
