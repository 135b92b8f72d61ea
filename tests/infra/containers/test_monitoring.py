"""Dashboards and alerts name metrics that `/metrics` really serves; every alert has a runbook and a test."""

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.infra.containers.image import Image
from tests.infra.containers.monitoring import (
    ADDED,
    COMPOSE,
    DASHBOARDS,
    RULE_TESTS,
    Query,
    alerts,
    anchor,
    load,
    queries,
)

from goagents.telemetry.prometheus import Metrics

QUERIES = queries()
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the samples that a gateway serves."""
    folder, image = tmp_path_factory.mktemp("metrics"), Image.read()
    image.lay_out(folder / "app")
    store = {"GOAGENTS_STORE": f"sqlite:///{folder}/state.db"}
    with image.running(folder / "app", store, folder / "log") as server:
        text = httpx2.get(f"{server.url}/metrics", timeout=60, trust_env=False).text
    kinds = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    return {name + suffix for name, kind in kinds for suffix in SUFFIXES.get(kind, ())}


def labels() -> dict[str, set[str]]:
    """By the name of a sample, the labels it has of its own."""
    registry = Metrics().registry
    return {
        name: set(getattr(collector, "_labelnames", ()))
        for collector, names in registry._collector_to_names.items()
        for name in names
    }


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_a_query_names_what_is_served(query: Query, served: set[str]):
    assert query.metrics() or query.expression.startswith(("up{", "absent(up{", "sum(up{"))
    assert query.metrics() <= served
    known = labels()
    own = {label for name in query.metrics() for label in known.get(name, ())}
    assert query.labels() <= own | ADDED


def test_a_query_that_names_something_else_is_found(served: set[str]):
    wrong = Query("planted", 'sum by (agent, cty) (rate(goagents_run_total{stat="failed"}[5m]))')
    assert wrong.metrics() == {"goagents_run_total"}
    assert not wrong.metrics() <= served
    assert wrong.labels() == {"agent", "cty", "stat"}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, Any]):
    assert rule["labels"]["severity"] in ("critical", "warning")
    about = rule["annotations"]
    assert set(about) == {"summary", "description", "runbook"}
    assert about["runbook"] == f"docs/operations.md#{anchor(rule['alert'])}"


def test_every_alert_is_tested_where_it_fires_and_where_it_does_not():
    tried = [each for group in load(RULE_TESTS)["tests"] for each in group["alert_rule_test"]]
    names = {rule["alert"] for rule in alerts()}
    assert len(names) == len(alerts()) > 5
    assert {each["alertname"] for each in tried if each.get("exp_alerts")} == names
    assert {each["alertname"] for each in tried if not each.get("exp_alerts")} == names


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_holds_together(path: Path):
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    (source,) = load(COMPOSE / "grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 5
    shown = [panel for panel in panels if panel["type"] != "row"]
    for panel in [*shown, *dashboard["templating"]["list"]]:
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r'"\$([a-z]+)"', " ".join(t["expr"] for panel in shown for t in panel["targets"])))
    assert used == variables
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells


def test_dashboards_have_names_of_their_own():
    found = [json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS]
    assert len({(each["uid"], each["title"]) for each in found}) == len(found) == 2
