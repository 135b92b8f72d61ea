"""What is declared of a tool's calls, and of the hosts that an agent may reach."""

from typing import Any

import pytest
from pydantic import ValidationError

from goagents.spec.cluster import AgentSpec
from goagents.spec.hosts import HostList, literal_place

HTTP = {"type": "http", "name": "t", "url": "https://api.example.com/v1"}


def agent(*tools: dict[str, Any], **fields: Any) -> AgentSpec:
    return AgentSpec.model_validate({"name": "a", "provider": "scripted", "model": "m", "tools": list(tools), **fields})


def refusal(*tools: dict[str, Any], **fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        agent(*tools, **fields)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "expected"),
    [(2, (2, 0.5, 30.0)), ({"max": 3, "backoff": "1s", "max_backoff": "5s"}, (3, 1.0, 5.0)), (None, (0, 0.5, 30.0))],
)
def test_retries_are_a_number_or_a_mapping(written: Any, expected: tuple[int, float, float]):
    tool = agent({**HTTP, **({} if written is None else {"retries": written})}).tools[0]
    assert (tool.retries.max, tool.retries.backoff, tool.retries.max_backoff) == expected
    assert tool.model_dump(mode="json", exclude_unset=True).get("retries") == written


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"retries": 11}, "less than or equal to 10"),
        ({"retries": True}, "valid integer"),
        ({"retries": {"times": 1}}, "Extra inputs"),
        ({"retries": {"max": 1, "backoff": 0}}, "greater than 0"),
        ({"rate_limit": {"calls": 0, "per": "1s"}}, "greater than or equal to 1"),
        ({"rate_limit": 3}, "valid dictionary"),
        ({"circuit_breaker": {"failures": -1}}, "greater than or equal to 0"),
        ({"cache_ttl": 0}, "greater than 0"),
        ({"cache_ttl": "31d"}, "less than or equal to"),
    ],
)
def test_what_is_out_of_bounds_is_refused(fields: dict[str, Any], told: str):
    assert told in refusal({**HTTP, **fields})


@pytest.mark.parametrize(
    "tool",
    [
        {**HTTP, "methods": ["GET", "POST"]},
        {**HTTP, "method": "POST", "parameters": {"type": "object"}},
        {**HTTP, "effect": "idempotent"},
        {"type": "websocket", "name": "w", "url": "wss://a.example.com"},
        {"type": "mcp", "name": "m", "server": "kb", "effect": "unsafe"},
    ],
)
def test_only_reads_are_cached_and_the_remedy_is_told(tool: dict[str, Any]):
    told = refusal({**tool, "cache_ttl": "1m"})
    assert "`cache_ttl` keeps answers of `read` calls only" in told
    assert "write `effect: read`" in told
    assert agent({**tool, "cache_ttl": "1m", "effect": "read"}).tools[0].cache_ttl == 60


@pytest.mark.parametrize(
    "tool",
    [
        HTTP,
        {**HTTP, "method": "GET", "parameters": {"type": "object"}},
        {"type": "http", "name": "t", "openapi": "https://x.example.com/openapi.json"},
        {"type": "mcp", "name": "m", "server": "kb"},
    ],
)
def test_what_reads_or_says_so_itself_may_be_cached(tool: dict[str, Any]):
    assert agent({**tool, "cache_ttl": "1m"}).tools[0].cache_ttl == 60


@pytest.mark.parametrize(
    ("tool", "host"),
    [
        (HTTP, "api.example.com"),
        ({"type": "http", "name": "t", "openapi": "https://docs.example.com/openapi.json"}, "docs.example.com"),
        ({"type": "mcp", "name": "t", "server": "https://kb.example.com/mcp"}, "kb.example.com"),
        ({"type": "websocket", "name": "t", "url": "wss://ws.example.com:8443/x"}, "ws.example.com"),
    ],
)
def test_a_host_that_a_tool_names_has_to_be_allowed(tool: dict[str, Any], host: str):
    told = refusal(tool, allowed_hosts=["other.example.com"])
    assert f"of the tool 't': {host} is not among the agent's `allowed_hosts` (other.example.com)" in told
    assert "add the host, or change the tool" in told
    assert agent(tool, allowed_hosts=["*.example.com"]).allowed_hosts == ("*.example.com",)
    assert "(none)" in refusal(tool, allowed_hosts=[])
    assert agent(tool).allowed_hosts is None


@pytest.mark.parametrize("url", ["${BASE}/v1", "https://${HOST}/v1", "https://a${X}.example.com/v1"])
def test_what_a_reference_leads_to_is_told_at_the_call(url: str):
    assert agent({**HTTP, "url": url}, allowed_hosts=["api.example.com"]).tools


@pytest.mark.parametrize(
    "pattern",
    ["https://a.example.com", "a.example.com/x", "*", "*.", "a b", "*.*.com", "a:0", "a:x", "1.2.3", "[::1", ""],
)
def test_what_is_no_host_is_refused(pattern: str):
    told = refusal(allowed_hosts=[pattern])
    assert "is no host; write api.example.com" in told or "at least 1 character" in told


def test_patterns_are_compared_without_case_and_dots_at_the_end():
    allowed = HostList(["API.example.com.", "*.Example.org", "[::1]:80", "10.0.0.1", "2001:db8::1"])
    for host, port in (
        ("api.EXAMPLE.com.", 1),
        ("a.b.example.org", 9),
        ("::1", 80),
        ("10.0.0.1", 5),
        ("2001:db8::1", 1),
    ):
        assert allowed.allows(host, port)
    for host, port in (("example.org", 1), ("xexample.org", 1), ("::1", 81), ("10.0.0.10", 5), ("", None)):
        assert not allowed.allows(host, port)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://a.example.com/x", ("a.example.com", 443)),
        ("http://A.example.com?x", ("a.example.com", 80)),
        ("wss://u:p@a.example.com:9/x", ("a.example.com", 9)),
        ("https://[::1]:8443", ("::1", 8443)),
        ("https://${HOST}/x", None),
        ("npx server https://a.example.com", None),
        ("kb", None),
    ],
)
def test_a_literal_host_is_read_from_a_url(url: str, place: tuple[str, int] | None):
    assert literal_place(url) == place
