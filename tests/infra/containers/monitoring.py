"""What Prometheus and Grafana are given, and what of our metrics it names."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.benchmarks.servers import ROOT

COMPOSE = ROOT / "infra" / "compose"
RULES = COMPOSE / "prometheus" / "rules.yaml"
RULE_TESTS = COMPOSE / "prometheus" / "rules.test.yaml"
DASHBOARDS = sorted((COMPOSE / "grafana" / "dashboards").glob("*.json"))
ADDED = frozenset({"job", "instance", "le"})  # labels that Prometheus adds, and a histogram's own
METRIC = re.compile(r"\b(?:goagents|process|python)_[a-z_]+\b")
GROUPED = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
MATCHED = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"")


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and where it stands."""

    place: str
    expression: str

    def metrics(self) -> set[str]:
        return set(METRIC.findall(self.expression))

    def labels(self) -> set[str]:
        grouped = {label.strip() for found in GROUPED.findall(self.expression) for label in found.split(",")}
        return {*grouped, *MATCHED.findall(self.expression)} - {""}

    def plain(self) -> str:
        """Return it as Prometheus itself takes it: Grafana's variables have values."""
        return self.expression.replace("$__rate_interval", "5m").replace("$cluster", ".*").replace("$provider", ".*")


def load(path: Path) -> Any:
    """Return YAML, and JSON, which is YAML."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def alerts() -> list[dict[str, Any]]:
    return [rule for group in load(RULES)["groups"] for rule in group["rules"]]


def anchor(alert: str) -> str:
    """`GoAgentsModelCallsFailing` is goagents-model-calls-failing."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", alert.replace("GoAgents", "Goagents")).lower()


def queries() -> list[Query]:
    """Return those of every alert, panel and variable."""
    found = [Query(rule["alert"], rule["expr"]) for rule in alerts()]
    for path in DASHBOARDS:
        found += _of_dashboard(path.stem, json.loads(path.read_text(encoding="utf-8")))
    return found


def _of_dashboard(name: str, dashboard: dict[str, Any]) -> Iterator[Query]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield Query(f"{name}: {panel['title']}", target["expr"])
    for variable in dashboard["templating"]["list"]:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
        yield Query(f"{name}: ${variable['name']}", f"count by ({label}) ({metric})")
