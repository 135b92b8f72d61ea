import logging
import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from goagents.messages import Usage
from goagents.telemetry import prometheus
from goagents.telemetry.base import (
    Exposition,
    ModelCallFinished,
    RequestFinished,
    RunFinished,
    RunStarted,
    Telemetry,
    ToolCallFinished,
    ToolCircuitChanged,
    ToolsetFailed,
    Unexpected,
)
from goagents.telemetry.prometheus import MAX_SERIES, Metrics, PrometheusHook, process_metrics


@pytest.fixture
def hook() -> PrometheusHook:
    return PrometheusHook(Metrics())


def value(hook: PrometheusHook, name: str, **labels: str) -> float | None:
    return hook.metrics.registry.get_sample_value(f"goagents_{name}", labels)


def request(method: str = "GET", route: str = "/x", status: int = 200) -> RequestFinished:
    return RequestFinished(method, route, route, status, 0.2, "req_1")


def test_requests_are_counted_and_timed_by_route(hook: PrometheusHook):
    hook(request())
    hook(request())
    hook(request(status=404))
    assert value(hook, "http_requests_total", method="GET", route="/x", status="200") == 2
    assert value(hook, "http_requests_total", method="GET", route="/x", status="404") == 1
    assert value(hook, "http_request_duration_seconds_count", method="GET", route="/x") == 3
    assert value(hook, "http_request_duration_seconds_sum", method="GET", route="/x") == pytest.approx(0.6)


def test_runs_are_active_until_they_end(hook: PrometheusHook):
    for n in range(2):
        hook(RunStarted(f"run_{n}", "s", "default", "c", "a"))
    assert value(hook, "active_runs", cluster="c") == 2
    assert value(hook, "active_instances", cluster="c", agent="a") == 2
    hook(RunFinished("run_0", "s", "default", "c", "a", "succeeded", 3.0, Usage()))
    hook(RunFinished("run_1", "s", "default", "c", "a", "failed", 1.0, Usage(), "run_timed_out"))
    assert value(hook, "active_runs", cluster="c") == 0
    assert value(hook, "active_instances", cluster="c", agent="a") == 0
    assert value(hook, "runs_total", cluster="c", agent="a", status="failed") == 1
    assert value(hook, "run_duration_seconds_sum", cluster="c", agent="a") == 4


def test_model_calls_tokens_and_the_first_token(hook: PrometheusHook):
    hook(ModelCallFinished("r", "c", "a", "openai", "gpt", 2.0, 0.5, Usage(10, 5, 4, 0, 3), "end_turn"))
    hook(ModelCallFinished("r", "c", "a", "openai", "gpt", 1.0, None, Usage(), None, "provider_overloaded", "busy"))
    names = {"provider": "openai", "model": "gpt"}
    assert value(hook, "model_calls_total", outcome="ok", **names) == 1
    assert value(hook, "model_calls_total", outcome="provider_overloaded", **names) == 1
    assert value(hook, "model_call_duration_seconds_sum", **names) == 3
    assert value(hook, "model_first_token_seconds_count", **names) == 1
    tokens = {
        kind: value(hook, "tokens_total", kind=kind, **names)
        for kind in ("input", "output", "cached_input", "reasoning")
    }
    assert tokens == {"input": 10, "output": 5, "cached_input": 4, "reasoning": 3}


def test_tools_defects_and_failed_toolsets(hook: PrometheusHook):
    hook(ToolCallFinished("r", "c", "a", "search", 0.5, "ok"))
    hook(ToolCallFinished("r", "c", "a", "whatever the model said", 0.0, "unknown_tool"))
    hook(ToolsetFailed("c", "a", "kb", "no answer"))
    hook(Unexpected("run run_1", "KeyError", "…"))
    names = {"cluster": "c", "agent": "a"}
    assert value(hook, "tool_calls_total", tool="search", outcome="ok", **names) == 1
    assert value(hook, "tool_calls_total", tool="other", outcome="unknown_tool", **names) == 1
    assert value(hook, "toolset_failures_total", tool="kb", **names) == 1
    assert value(hook, "unexpected_errors_total") == 1


def test_repeats_the_cache_and_circuit_breakers_of_tools(hook: PrometheusHook):
    for cache, attempts in ((None, 3), ("miss", 1), ("hit", 0), ("shared", 0), ("hit", 0)):
        hook(ToolCallFinished("r", "c", "a", "search", 0.5, "ok", attempts=attempts, cache=cache))
    names = {"cluster": "c", "agent": "a", "tool": "search"}
    assert value(hook, "tool_retries_total", **names) == 2
    counted = {kind: value(hook, "tool_cache_total", result=kind, **names) for kind in ("hit", "miss", "shared")}
    assert counted == {"hit": 2, "miss": 1, "shared": 1}
    for state, number in (("open", 2), ("half_open", 1), ("closed", 0)):
        hook(ToolCircuitChanged("c", "a", "search", "api.example.com:443", state, 5, 30.0))
        assert value(hook, "tool_circuit_state", host="api.example.com:443", **names) == number


def test_a_circuit_whose_time_is_over_is_half_open_though_nobody_calls():
    now = 100.0
    hook = PrometheusHook(Metrics(), monotonic=lambda: now)
    at = {"cluster": "c", "agent": "a", "tool": "search", "host": "api.example.com:443"}
    hook(ToolCircuitChanged("c", "a", "search", "api.example.com:443", "open", 5, 30.0))
    states = []
    for now in (100.0, 129.9, 130.0, 9999.0):  # noqa: B007 - what the hook's clock says
        assert f"\n{_SERIES} {value(hook, 'tool_circuit_state', **at)}\n" in hook.render().decode()
        states.append(value(hook, "tool_circuit_state", **at))
    assert states == [2, 2, 1, 1]
    for state, number in (("half_open", 1), ("open", 2), ("closed", 0)):
        hook(ToolCircuitChanged("c", "a", "search", "api.example.com:443", state, 5, 30.0))
        assert value(hook, "tool_circuit_state", **at) == number


_SERIES = 'goagents_tool_circuit_state{agent="a",cluster="c",host="api.example.com:443",tool="search"}'


def test_series_are_bounded_whatever_comes(hook: PrometheusHook):
    for n in range(MAX_SERIES + 50):
        hook(request(method=f"M{n}"))
        hook(RunFinished("r", "s", "t", f"c{n}", "a", "succeeded", 1, Usage()))
    samples = [s for m in hook.metrics.runs.collect() for s in m.samples]
    assert len(samples) == MAX_SERIES + 1
    assert value(hook, "runs_total", cluster="other", agent="other", status="succeeded") == 50
    assert value(hook, "http_requests_total", method="other", route="/x", status="200") == MAX_SERIES + 50


def test_the_text_can_be_parsed_and_has_no_second_series_for_each(hook: PrometheusHook):
    hook(request())
    families = {family.name: family for family in text_string_to_metric_families(hook.render().decode())}
    assert families["goagents_http_requests"].samples
    assert not [name for name in families if name.endswith("_created")]


def test_hooks_share_the_metrics_of_their_process():
    assert PrometheusHook().metrics is PrometheusHook().metrics is process_metrics()


def test_telemetry_finds_the_hook_that_can_be_scraped(hook: PrometheusHook):
    assert isinstance(hook, Exposition)
    assert Telemetry([lambda event: None, hook]).exposition is hook
    assert Telemetry([lambda event: None]).exposition is None


def test_metrics_are_served_on_a_port_of_loopback(hook: PrometheusHook):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hook(request())
    hook.serve(port)
    hook.serve(port)  # a second time changes nothing
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert b"goagents_http_requests_total" in answer.read()


def test_a_port_in_use_is_logged_and_not_fatal(hook: PrometheusHook, caplog: pytest.LogCaptureFixture):
    with socket.socket() as taken, caplog.at_level(logging.WARNING, prometheus.__name__):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        hook.serve(taken.getsockname()[1])
    assert "server.metrics.port" in caplog.text
