"""The alerts rest on what is really written: each log metric is held against lines of the code.

Cloud Logging takes severity, httpRequest and labels out of a line; the rest is its `jsonPayload`.
"""

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from tests.infra.terraform.schema import TERRAFORM
from tests.infra.terraform.sources import block, literal, read

from goagents.messages import Usage
from goagents.telemetry.base import Event, ModelCallFinished, RequestFinished, RunFinished, Unexpected
from goagents.telemetry.logging import JsonFormatter, LoggingHook

MONITORING = TERRAFORM / "modules" / "monitoring"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SERVICE = {"type": "cloud_run_revision", "labels": {"service_name": "goagents-chat"}}
USAGE = Usage(input_tokens=10, output_tokens=5)
RUN = {"run_id": "run_1", "session_id": "session_1", "tenant": "default", "cluster": "support", "agent": "triage"}
CALL = {"run_id": "run_1", "cluster": "support", "agent": "triage", "provider": "anthropic", "model": "claude"}


Written = Callable[[Event], dict[str, Any]]


def request(route: str, status: int) -> RequestFinished:
    return RequestFinished("POST", route, route, status, 0.1, "request_1")


EVENTS: list[tuple[Event, set[str]]] = [
    (request("/sweep", 200), {"sweeps_found"}),
    (request("/sweep", 503), set()),
    (request("/worker", 200), set()),
    (request("/api/v1/agents/{id}/chat", 500), set()),
    (Unexpected("POST /worker", "KeyError('x')", "Traceback …"), {"unexpected"}),
    (RunFinished(**RUN, status="succeeded", duration=2.0, usage=USAGE), {"runs"}),
    (RunFinished(**RUN, status="failed", duration=2.0, usage=USAGE, error_code="run_failed", error="…"), {"runs"}),
    (RunFinished(**RUN, status="cancelled", duration=0.2, usage=USAGE, error_code="run_cancelled"), {"runs"}),
    (ModelCallFinished(**CALL, duration=2.0, first_token=0.412, usage=USAGE, stop_reason="end_turn"), {"first_token"}),
    (ModelCallFinished(**CALL, duration=2.0, first_token=None, usage=USAGE, error_code="x", error="y"), set()),
]


@pytest.fixture
def written(caplog: pytest.LogCaptureFixture):
    """Return what Cloud Logging has of an event's line."""
    hook = LoggingHook()

    def entry(event: Event) -> dict[str, Any]:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="goagents"):
            hook(event)
        (record,) = caplog.records
        line = json.loads(JsonFormatter("my-project").format(record))
        taken = {
            "severity": line.pop("severity"),
            "httpRequest": line.pop("httpRequest", {}),
            "labels": line.pop("logging.googleapis.com/labels"),
            "resource": SERVICE,
        }
        return {**taken, "jsonPayload": line}

    return entry


def metrics() -> dict[str, dict[str, Any]]:
    values = {name: value for each in read(MONITORING / "logs.tf")["locals"] for name, value in each.items()}
    own = resolved(values["own_log"])
    return {
        literal(name): {
            "filter": resolved(each["filter"]).replace("${local.own_log}", own),
            "labels": {literal(label): resolved(value) for label, value in each["labels"].items()},
            "value": resolved(each["value"]) if isinstance(each["value"], str) else None,
        }
        for name, each in values["log_metrics"].items()
    }


def resolved(text: str) -> str:
    quoted = literal(text).replace('\\"', '"').replace("${var.prefix}", "goagents")
    return quoted.replace("${var.scheduler_job}", "goagents-sweep")


def field(entry: dict[str, Any], path: str) -> Any:
    found: Any = entry
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def fits(condition: str, entry: dict[str, Any]) -> bool:
    """Evaluate one comparison of Cloud Logging's query language. Fails where it is of a kind that is not used here."""
    found = re.fullmatch(r'([\w.]+)(=~|>=|!=|=)"?(.*?)"?', condition)
    assert found, condition
    path, operator, wanted = found.groups()
    value = field(entry, path)
    if value is None:
        return False
    match operator:
        case "=":
            return str(value) == wanted
        case "!=":
            return str(value) != wanted
        case "=~":
            return re.search(wanted, str(value)) is not None
        case _:
            return LEVELS.index(value) >= LEVELS.index(wanted)


def counted(entry: dict[str, Any]) -> set[str]:
    return {
        name
        for name, metric in metrics().items()
        if all(fits(condition, entry) for condition in metric["filter"].split(" AND "))
    }


def extracted(how: str, entry: dict[str, Any]) -> str | None:
    whole = re.fullmatch(r"EXTRACT\(([\w.]+)\)", how)
    if whole:
        return field(entry, whole[1])
    part = re.fullmatch(r'REGEXP_EXTRACT\(([\w.]+), "(.*)"\)', how)
    assert part, how
    found = re.search(part[2], str(field(entry, part[1])))
    return found[1] if found else None


@pytest.mark.parametrize(("event", "expected"), EVENTS, ids=lambda each: type(each).__name__)
def test_lines_are_counted_where_they_should_be(written: Written, event: Event, expected: set[str]):
    entry = written(event)
    assert counted(entry) == expected
    for name in expected:
        for label, how in metrics()[name]["labels"].items():
            assert extracted(how, entry), f"{name}: {label} is not in {entry}"


def test_every_metric_of_the_functions_is_met():
    met = {name for _, names in EVENTS for name in names}
    assert met | {"sweeps_failed"} == metrics().keys()


def test_values_are_what_the_line_says(written: Written):
    entry = written(EVENTS[8][0])
    assert float(extracted(metrics()["first_token"]["value"], entry) or "nan") == 0.412
    failed = written(EVENTS[6][0])
    labels = {label: extracted(how, failed) for label, how in metrics()["runs"]["labels"].items()}
    assert labels == {"status": "failed", "cluster": "support", "agent": "triage"}


def test_a_line_of_another_service_is_not_counted(written: Written):
    entry = {**written(EVENTS[4][0]), "resource": {**SERVICE, "labels": {"service_name": "shop-api"}}}
    assert counted(entry) == set()


def test_the_schedulers_failures_are_counted():
    resource = {"type": "cloud_scheduler_job", "labels": {"job_id": "goagents-sweep"}}
    assert counted({"resource": resource, "severity": "ERROR"}) == {"sweeps_failed"}
    assert counted({"resource": resource, "severity": "INFO"}) == set()
    job = block(TERRAFORM / "modules" / "dispatch" / "main.tf", "resource", "google_cloud_scheduler_job", "sweep")
    assert literal(job["name"]) == "${var.name}-sweep"
    told = block(TERRAFORM / "main.tf", "module", "monitoring")["scheduler_job"]
    assert literal(told) == "${var.prefix}-sweep"


def test_alerts_name_metrics_that_are_made():
    text = (MONITORING / "locals.tf").read_text(encoding="utf-8")
    text += (MONITORING / "dashboard.tf").read_text(encoding="utf-8")
    assert set(re.findall(r'local\.metric\["(\w+)"\]', text)) == metrics().keys()


def test_the_alerts_are_those_that_operations_need():
    values = {name: value for each in read(MONITORING / "locals.tf")["locals"] for name, value in each.items()}
    names = set(re.findall(r"\b(GoAgents[A-Za-z]+) = ", str(values)))
    names |= {literal(name) for name in values["slow"]}
    assert names == {
        "GoAgentsDown",
        "GoAgentsErrorRatio",
        "GoAgentsFirstTokenSlow",
        "GoAgentsRequestsSlow",
        "GoAgentsRunsFailing",
        "GoAgentsRunsStuck",
        "GoAgentsUnexpectedErrors",
    }
