"""Metrics: a summary of the whole deployment, and Prometheus' text.

A function that runs agents tells of its own process. One that does not has nothing of its own to tell: it tells what
the store knows of the whole deployment.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from goagents.engine.summary import metrics_summary
from goagents.resources import MetricsSummary, Totals

from .calls import call_of, session_of
from .responses import resource
from .routing import ConfiguredRoute, not_found

if TYPE_CHECKING:
    from goagents.engine.services import Services

_RUN_AGENTS = frozenset({"/api/v1/agents/{id}/chat", "/api/v1/agents/{id}/stream"})
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


async def get_summary(request: Request) -> Response:
    """The whole deployment, from the store."""
    return resource(await metrics_summary(*session_of(request)))


async def get_text(request: Request) -> Response:
    services, principal = session_of(request)
    if call_of(request).paths.isdisjoint(_RUN_AGENTS):
        return Response(deployment_text(await metrics_summary(services, principal)), headers={"content-type": _TEXT})
    exposition = services.telemetry.exposition
    if exposition is None:
        raise not_found()
    return Response(exposition.render(), headers={"content-type": exposition.content_type})


def deployment_text(summary: MetricsSummary) -> str:
    """Return the summary in Prometheus' text format. Sums over a window that moves on are gauges."""
    total = summary.total
    today = summary.days[0] if summary.days else Totals()
    lines = [
        *_gauge("deployment_active_runs", "Runs in progress.", {"": summary.active_runs}),
        *_gauge("deployment_clusters", "Clusters.", {"": summary.clusters}),
        *_gauge("deployment_agents", "Agents of all clusters.", {"": summary.agents}),
    ]
    for window, sums in (("30d", total), ("latest_day", today)):
        lines += _sums(window, sums)
    return "\n".join(lines) + "\n"


def _sums(window: str, sums: Totals) -> list[str]:
    statuses = {"succeeded": sums.succeeded, "failed": sums.failed, "cancelled": sums.cancelled}
    kinds = {
        "input": sums.input_tokens,
        "output": sums.output_tokens,
        "cached_input": sums.cached_input_tokens,
        "reasoning": sums.reasoning_tokens,
    }
    over = "the last 30 days" if window == "30d" else "the latest UTC day with runs"
    return [
        *_gauge(f"deployment_runs_{window}", f"Runs that ended in {over}.", _labelled("status", statuses)),
        *_gauge(f"deployment_tokens_{window}", f"Tokens used in {over}.", _labelled("kind", kinds)),
        *_gauge(f"deployment_tool_calls_{window}", f"Tools called in {over}.", {"": sums.tool_calls}),
        *_gauge(
            f"deployment_run_mean_seconds_{window}", f"Mean duration of a run in {over}.", {"": sums.mean_run_seconds}
        ),
    ]


def _labelled(label: str, values: dict[str, int]) -> dict[str, float]:
    return {f'{{{label}="{name}"}}': value for name, value in values.items()}


def _gauge(name: str, text: str, values: Mapping[str, float]) -> list[str]:
    full = f"goagents_{name}"
    return [
        f"# HELP {full} {text}",
        f"# TYPE {full} gauge",
        *(f"{full}{labels} {value}" for labels, value in values.items()),
    ]


def _path(services: "Services") -> str:
    metrics = services.config.server.metrics
    return metrics.path if metrics.enabled else ""


routes = [
    Route("/api/v1/metrics", get_summary),
    ConfiguredRoute("/metrics", get_text, _path),
]
