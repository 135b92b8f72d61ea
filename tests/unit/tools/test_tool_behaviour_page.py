"""The page on what is around every tool: its sample loads, and it names what there is."""

import re
from pathlib import Path

from goagents.spec.calling import CircuitBreakerSpec, RateLimitSpec, RetrySpec
from goagents.spec.cluster import AgentSpec
from goagents.spec.yaml_reader import read_yaml

PAGE = (Path(__file__).parents[3] / "docs" / "tool-behaviour.md").read_text(encoding="utf-8")


def test_the_sample_loads_and_its_defaults_are_the_defaults():
    (sample,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (node,) = read_yaml(sample)
    (tool,) = (agent := AgentSpec.model_validate(node.plain()["agents"][0])).tools
    assert agent.allowed_hosts == ("api.example.com", "*.example.org")
    assert tool.circuit_breaker == CircuitBreakerSpec()
    assert (tool.frame, tool.cache_ttl, tool.rate_limit) == (True, 300, RateLimitSpec(calls=20, per=60))
    (written,) = re.findall(r"# or \{(.*?)\}", PAGE)
    assert written == "max: 3, backoff: 500ms, max_backoff: 30s"
    assert RetrySpec.model_validate({"max": 3, "backoff": "500ms", "max_backoff": "30s"}) == tool.retries


def test_every_field_is_named():
    for model in (RetrySpec, CircuitBreakerSpec, RateLimitSpec):
        assert all(f"{name}" in PAGE for name in model.model_fields)
