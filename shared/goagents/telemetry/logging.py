"""Logs: one JSON object a line in Cloud Logging's structured format, or short lines for people on a terminal.

What is logged never holds a secret, nor what was said: sizes, names, times and errors only.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from .base import (
    REQUEST,
    Event,
    ModelCallFinished,
    RequestFinished,
    RunFinished,
    RunLeft,
    RunStarted,
    ToolCallFinished,
    ToolCircuitChanged,
    ToolsetFailed,
    Unexpected,
)

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "pretty"]

MAX_MESSAGE = 16_384
_NAME = "goagents"
_FIELDS = "goagents_fields"
_TRACE = "logging.googleapis.com/trace"
_SPAN = "logging.googleapis.com/spanId"
_LABELS = "logging.googleapis.com/labels"
_REPORTED = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"
# Asked every few seconds by platforms and Prometheus: a line each would drown the rest.
_PROBES = frozenset({"/health", "/ready", "/metrics"})
_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}

# A caller's path could else make lines of its own, or move the cursor of the terminal that shows it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

_log = logging.getLogger(_NAME)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON. `project` is the Google Cloud project that traces belong to."""

    def __init__(self, project: str | None = None) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "severity": record.levelname,
            "message": record.getMessage()[:MAX_MESSAGE],
            "time": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        }
        labels = {"logger": record.name}
        if context := REQUEST.get():
            labels["request_id"] = context.request_id
            if context.trace:
                entry[_TRACE] = f"projects/{self._project}/traces/{context.trace}" if self._project else context.trace
            if context.span:
                entry[_SPAN] = context.span
        fields: dict[str, Any] = getattr(record, _FIELDS, {})
        entry |= fields.get("entry", {})
        entry[_LABELS] = labels | {k: str(v) for k, v in fields.get("labels", {}).items() if v is not None}
        if record.exc_info:
            entry["stack_trace"] = self.formatException(record.exc_info)[:MAX_MESSAGE]
        return json.dumps(entry, separators=(",", ":"), default=str)


class PrettyFormatter(logging.Formatter):
    """A record as one line for a person, a traceback below it."""

    def __init__(self, *, colours: bool = False) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        message = _CONTROL.sub(_escaped, record.getMessage()[:MAX_MESSAGE])
        line = f"{time} {record.levelname:<7} {message}"
        if self._colours and (colour := _COLOURS.get(record.levelname)):
            line = f"{colour}{line}\x1b[0m"
        trace = getattr(record, _FIELDS, {}).get("entry", {}).get("stack_trace")
        if record.exc_info:
            trace = self.formatException(record.exc_info)
        return f"{line}\n{trace}" if trace else line


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


class _Handler(logging.StreamHandler[Any]):
    """Writes to whatever standard error is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure(level: Level = "info", format: Format = "auto", project: str | None = None) -> None:  # noqa: A002 - the name of the setting
    """Send logs to standard error; a second call replaces the first. Our own at `level`, others' from warnings on.

    Others' debug lines hold headers and bodies, so no level lets them through.
    """
    colours = sys.stderr.isatty()
    pretty = format == "pretty" or (format == "auto" and colours)
    handler = _Handler()
    handler.setFormatter(PrettyFormatter(colours=colours) if pretty else JsonFormatter(project))
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    _log.setLevel(level.upper())


class LoggingHook:
    """A line for what happens: each request, model call and end of a run; each tool call at level debug."""

    def __call__(self, event: Event) -> None:
        match event:
            case RequestFinished():
                _request_finished(event)
            case ModelCallFinished():
                _model_call_finished(event)
            case RunFinished():
                _run_finished(event)
            case ToolCallFinished():
                _tool_call_finished(event)
            case RunStarted():
                text = f"run {event.run_id} of {event.cluster}.{event.agent} started"
                _write(logging.DEBUG, text, run_id=event.run_id, session_id=event.session_id)
            case RunLeft():
                text = f"run {event.run_id} of {event.cluster}.{event.agent} left: {event.reason}"
                _write(logging.INFO, text, run_id=event.run_id, session_id=event.session_id)
            case ToolCircuitChanged():
                _circuit_changed(event)
            case ToolsetFailed():
                text = f"tool {event.tool} of {event.cluster}.{event.agent} cannot be opened: {event.error}"
                _write(logging.WARNING, text, cluster=event.cluster, agent=event.agent, tool=event.tool)
            case Unexpected():
                entry = {"@type": _REPORTED, "stack_trace": event.traceback[-MAX_MESSAGE:]}
                _write(logging.ERROR, f"unexpected error in {event.where}: {event.error}", entry, where=event.where)


def _write(level: int, text: str, entry: dict[str, Any] | None = None, **labels: str | int | None) -> None:
    if _log.isEnabledFor(level):
        _log.log(level, "%s", text, extra={_FIELDS: {"entry": entry or {}, "labels": labels}})


def _request_finished(event: RequestFinished) -> None:
    level = logging.INFO
    if event.status >= 500:
        level = logging.ERROR
    elif event.route in _PROBES and event.status < 400:
        level = logging.DEBUG
    if not _log.isEnabledFor(level):
        return
    text = f"{event.method} {event.path[:512]} {event.status} in {_duration(event.duration)}"
    if event.error_code:
        text += f" ({event.error_code})"
    http = {
        "requestMethod": event.method,
        "requestUrl": event.path[:2048],
        "status": event.status,
        "latency": f"{event.duration:.6f}s",
    }
    _write(
        level, text, {"httpRequest": http},
        route=event.route, principal=event.principal, run_id=event.run_id, error_code=event.error_code,
    )  # fmt: skip


def _model_call_finished(event: ModelCallFinished) -> None:
    text = f"model {event.provider}/{event.model} for {event.cluster}.{event.agent}"
    if event.error_code:
        level, text = logging.WARNING, f"{text} failed after {_duration(event.duration)}: {event.error or ''}"
    else:
        usage = f"{event.usage.input_tokens} + {event.usage.output_tokens} tokens"
        level, text = logging.INFO, f"{text}: {event.stop_reason} in {_duration(event.duration)}, {usage}"
    _write(
        level, text,
        run_id=event.run_id, cluster=event.cluster, agent=event.agent, provider=event.provider, model=event.model,
        input_tokens=event.usage.input_tokens, output_tokens=event.usage.output_tokens,
        first_token=None if event.first_token is None else f"{event.first_token:.3f}", error_code=event.error_code,
    )  # fmt: skip


def _run_finished(event: RunFinished) -> None:
    text = f"run {event.run_id} of {event.cluster}.{event.agent} {event.status} in {_duration(event.duration)}"
    level = logging.INFO
    if event.error_code:
        level, text = logging.WARNING, f"{text}: {event.error_code}: {event.error or ''}"
    _write(
        level, text,
        run_id=event.run_id, session_id=event.session_id, tenant=event.tenant, cluster=event.cluster,
        agent=event.agent, error_code=event.error_code,
    )  # fmt: skip


def _tool_call_finished(event: ToolCallFinished) -> None:
    text = f"tool {event.tool} of {event.cluster}.{event.agent}: {event.outcome} in {_duration(event.duration)}"
    if event.error:
        text += f": {event.error}"
    if event.cache in ("hit", "shared"):
        text += f" (cache: {event.cache})"
    elif event.attempts > 1:
        text += f" ({event.attempts} attempts)"
    _write(
        logging.DEBUG, text,
        run_id=event.run_id, cluster=event.cluster, agent=event.agent, tool=event.tool, outcome=event.outcome,
    )  # fmt: skip


def _circuit_changed(event: ToolCircuitChanged) -> None:
    text = f"tool {event.tool} of {event.cluster}.{event.agent}: {event.host or 'it'} is called again"
    level = logging.INFO
    if event.state == "open":
        text = f"tool {event.tool} of {event.cluster}.{event.agent}: {event.host or 'it'} is not called for "
        level, text = logging.WARNING, f"{text}{_duration(event.left)} after {event.failures} failures in a row"
    elif event.state == "half_open":
        text = f"tool {event.tool} of {event.cluster}.{event.agent}: one call tries {event.host or 'it'} again"
    _write(level, text, cluster=event.cluster, agent=event.agent, tool=event.tool)


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
