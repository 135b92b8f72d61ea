"""Metrics of this process in Prometheus' format.

Labels are bounded: routes are templates, tools and agents are names of clusters that exist, and beyond
`MAX_SERIES` values of a label the rest counts as "other".
"""

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from goagents.messages import Usage

from .base import (
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

MAX_SERIES = 500
OTHER = "other"

_log = logging.getLogger(__name__)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_RUN_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_CALL_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)
_CIRCUITS = {"closed": 0, "half_open": 1, "open": 2}


class _Bounded:
    """Lets through the first `MAX_SERIES` combinations of label values; a later one is all "other"."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, ...]] = set()

    def __call__(self, *values: str) -> tuple[str, ...]:
        if values in self._seen:
            return values
        if len(self._seen) >= MAX_SERIES:
            return (OTHER,) * len(values)
        self._seen.add(values)
        return values


class Metrics:
    """The metrics themselves, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each series is of no use to us
        self.registry = registry = CollectorRegistry()
        self.bounded = defaultdict[str, _Bounded](_Bounded)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

        def counter(name: str, text: str, labels: Sequence[str]) -> Counter:
            return Counter(f"goagents_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, labels: Sequence[str]) -> Gauge:
            return Gauge(f"goagents_{name}", text, labels, registry=registry)

        def seconds(name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
            return Histogram(f"goagents_{name}_seconds", text, labels, buckets=buckets, registry=registry)

        self.requests = counter("http_requests", "HTTP requests answered.", ("method", "route", "status"))
        self.request_seconds = seconds(
            "http_request_duration", "Time to the end of the answer.", ("method", "route"), _REQUEST_BUCKETS
        )
        self.runs = counter("runs", "Runs that ended.", ("cluster", "agent", "status"))
        self.run_seconds = seconds(
            "run_duration", "Time from start to end of a run.", ("cluster", "agent"), _RUN_BUCKETS
        )
        self.active_runs = gauge("active_runs", "Runs of this process that have not ended.", ("cluster",))
        self.active_instances = gauge(
            "active_instances", "Agent instances that work in this process.", ("cluster", "agent")
        )
        self.model_calls = counter("model_calls", "Calls of a model.", ("provider", "model", "outcome"))
        self.model_seconds = seconds(
            "model_call_duration", "Time to the end of the model's answer.", ("provider", "model"), _CALL_BUCKETS
        )
        self.first_token_seconds = seconds(
            "model_first_token", "Time to the model's first token.", ("provider", "model"), _CALL_BUCKETS
        )
        self.tokens = counter("tokens", "Tokens; kinds that are part of another say so.", ("provider", "model", "kind"))
        self.tool_calls = counter("tool_calls", "Tools called.", ("cluster", "agent", "tool", "outcome"))
        self.tool_seconds = seconds(
            "tool_call_duration", "Time a tool took.", ("cluster", "agent", "tool"), _CALL_BUCKETS
        )
        self.tool_retries = counter("tool_retries", "Repeats of tool calls.", ("cluster", "agent", "tool"))
        self.tool_cache = counter(
            "tool_cache", "Tool calls whose answers are kept.", ("cluster", "agent", "tool", "result")
        )
        self.tool_circuits = gauge(
            "tool_circuit_state",
            "Circuit breakers of this process: 0 closed, 1 half open (the next call tries), 2 open.",
            ("cluster", "agent", "tool", "host"),
        )
        self.toolset_failures = counter(
            "toolset_failures", "Tools that could not be opened.", ("cluster", "agent", "tool")
        )
        self.unexpected = counter("unexpected_errors", "Defects: exceptions nobody expected.", ())


@cache
def process_metrics() -> Metrics:
    """Return the metrics of this process: they outlive a change of the configuration."""
    return Metrics()


class PrometheusHook:
    """Counts what happens. Callable with every event of `telemetry.base`; an `Exposition`."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, metrics: Metrics | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.metrics = metrics or process_metrics()
        self._monotonic = monotonic

    def __call__(self, event: Event) -> None:
        match event:
            case RequestFinished():
                self._request_finished(event)
            case ModelCallFinished():
                self._model_call_finished(event)
            case ToolCallFinished():
                self._tool_call_finished(event)
            case ToolCircuitChanged():
                labels = self.metrics.bounded["circuits"](event.cluster, event.agent, event.tool, event.host)
                self.metrics.tool_circuits.labels(*labels).set_function(self._circuit(event))
            case RunStarted():
                self._run_started(event)
            case RunFinished():
                self._run_finished(event)
            case RunLeft():
                self._run_left(event)
            case ToolsetFailed():
                self.metrics.toolset_failures.labels(
                    *self.metrics.bounded["tools"](event.cluster, event.agent, event.tool)
                ).inc()
            case Unexpected():
                self.metrics.unexpected.inc()

    def _circuit(self, event: ToolCircuitChanged) -> Callable[[], float]:
        """Return what says at each scrape how the breaker is: nobody tells that the time of an open one is over."""
        over = self._monotonic() + event.left if event.state == "open" else math.inf
        state = float(_CIRCUITS[event.state])
        return lambda: _CIRCUITS["half_open"] if self._monotonic() >= over else state

    def _request_finished(self, event: RequestFinished) -> None:
        method = event.method if event.method in _METHODS else OTHER
        method, route = self.metrics.bounded["requests"](method, event.route)
        self.metrics.requests.labels(method, route, str(event.status)).inc()
        self.metrics.request_seconds.labels(method, route).observe(event.duration)

    def _run_started(self, event: RunStarted) -> None:
        cluster, agent = self.metrics.bounded["agents"](event.cluster, event.agent)
        self.metrics.active_runs.labels(cluster).inc()
        self.metrics.active_instances.labels(cluster, agent).inc()

    def _run_left(self, event: RunLeft | RunFinished) -> None:
        cluster, agent = self.metrics.bounded["agents"](event.cluster, event.agent)
        self.metrics.active_runs.labels(cluster).dec()
        self.metrics.active_instances.labels(cluster, agent).dec()

    def _run_finished(self, event: RunFinished) -> None:
        cluster, agent = self.metrics.bounded["agents"](event.cluster, event.agent)
        if event.executed:
            self._run_left(event)
        self.metrics.runs.labels(cluster, agent, event.status).inc()
        self.metrics.run_seconds.labels(cluster, agent).observe(event.duration)

    def _model_call_finished(self, event: ModelCallFinished) -> None:
        provider, model = self.metrics.bounded["models"](event.provider, event.model)
        self.metrics.model_calls.labels(provider, model, event.error_code or "ok").inc()
        self.metrics.model_seconds.labels(provider, model).observe(event.duration)
        if event.first_token is not None:
            self.metrics.first_token_seconds.labels(provider, model).observe(event.first_token)
        for kind, count in tokens_by_kind(event.usage):
            if count:
                self.metrics.tokens.labels(provider, model, kind).inc(count)

    def _tool_call_finished(self, event: ToolCallFinished) -> None:
        # A model can ask for any name: one that no agent has is no label.
        name = OTHER if event.outcome == "unknown_tool" else event.tool
        cluster, agent, tool = self.metrics.bounded["tools"](event.cluster, event.agent, name)
        self.metrics.tool_calls.labels(cluster, agent, tool, event.outcome).inc()
        self.metrics.tool_seconds.labels(cluster, agent, tool).observe(event.duration)
        if event.attempts > 1:
            self.metrics.tool_retries.labels(cluster, agent, tool).inc(event.attempts - 1)
        if event.cache is not None:
            self.metrics.tool_cache.labels(cluster, agent, tool, event.cache).inc()

    def render(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self.metrics.registry)

    def serve(self, port: int) -> None:
        """Serve the metrics on 127.0.0.1:`port` from a daemon thread. A port in use is logged, and that is all."""
        _serve(port, self.metrics.registry)


def tokens_by_kind(usage: Usage) -> tuple[tuple[str, int], ...]:
    """`cached_input` and `cache_write` are part of `input`, `reasoning` is part of `output`."""
    return (
        ("input", usage.input_tokens),
        ("output", usage.output_tokens),
        ("cached_input", usage.cached_input_tokens),
        ("cache_write", usage.cache_write_tokens),
        ("reasoning", usage.reasoning_tokens),
    )


_served: set[int] = set()
_serving = threading.Lock()


def _serve(port: int, registry: CollectorRegistry) -> None:
    with _serving:
        if port in _served:
            return
        _served.add(port)
    try:
        start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        _log.warning("Metrics are not served on 127.0.0.1:%d: %s. Choose another server.metrics.port.", port, error)
