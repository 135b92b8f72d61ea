"""What a cluster tells of itself."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from goagents.spec.cluster import AgentCluster


def cluster(policy: dict[str, Any] | None = None, **agent: Any) -> AgentCluster:
    spec: dict[str, Any] = {"agents": [{"name": "a", "provider": "openai", "model": "gpt-5.4", **agent}]}
    if policy is not None:
        spec["resource_policy"] = policy
    return AgentCluster.model_validate(
        {"apiVersion": "goagents.dev/v1", "kind": "AgentCluster", "metadata": {"name": "c"}, "spec": spec}
    )


def test_an_agent_is_found_by_name() -> None:
    found = cluster().agent("a")
    assert found is not None
    assert found.model == "gpt-5.4"
    assert cluster().agent("b") is None


@pytest.mark.parametrize(
    ("policy", "agent", "minimum", "maximum"),
    [
        (None, {}, 0, 10),
        ({"max_concurrent_agents": 5}, {}, 0, 5),
        ({"scale_to_zero": False}, {}, 1, 10),
        ({"scale_to_zero": False}, {"min_instances": 0}, 0, 10),
        ({}, {"min_instances": 2, "max_instances": 3}, 2, 3),
    ],
)
def test_bounds_of_instances(policy: Any, agent: Any, minimum: int, maximum: int) -> None:
    found = cluster(policy, **agent)
    assert (found.min_instances("a"), found.max_instances("a")) == (minimum, maximum)
    assert found.max_instances(found.spec.agents[0]) == maximum


def test_instances_of_an_unknown_agent() -> None:
    with pytest.raises(KeyError):
        cluster().max_instances("b")


def test_the_same_content_written_otherwise_has_the_same_digest() -> None:
    plain = cluster()
    spelled_out = cluster(
        {"idle_timeout": "5m", "max_concurrent_agents": 10}, max_turns=25, tools=[], model_settings={}
    )
    assert plain.canonical() == spelled_out.canonical()
    assert plain.digest() == spelled_out.digest()
    assert plain.manifest() != spelled_out.manifest()


def test_other_content_has_another_digest() -> None:
    digests = {cluster().digest(), cluster(system_prompt="x").digest(), cluster({"idle_timeout": "6m"}).digest()}
    assert len(digests) == 3


@pytest.mark.parametrize("form", ["manifest", "canonical"])
def test_both_forms_are_json_and_load_again(form: str) -> None:
    tools = [
        {
            "type": "http",
            "name": "t",
            "url": "https://x",
            "timeout": "1m30s",
            "max_output": "1MiB",
            "methods": ["get", "PUT"],
        },
        {"type": "mcp", "name": "m", "server": "kb", "effect": "read"},
    ]
    found = cluster(
        {"queue_timeout": 0.25}, tools=tools, fallbacks=[{"provider": "gemini", "model": "g"}], timeout="90s"
    )
    data = json.loads(json.dumps(getattr(found, form)()))
    assert AgentCluster.model_validate(data) == found
    assert data["spec"]["resource_policy"] == {"queue_timeout": "250ms"}
    assert data["spec"]["agents"][0]["tools"][0]["max_output"] == "1MiB"
    assert data["spec"]["agents"][0]["tools"][0]["methods"] == ["GET", "PUT"]


def test_it_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        cluster().spec.agents[0].model = "other"  # type: ignore[misc]


def test_errors_of_the_models_do_not_repeat_the_input() -> None:
    with pytest.raises(ValidationError) as caught:
        cluster(system_prompt=["hunter2"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "reference", ["http://127.0.0.1:9/schema", "file:///etc/passwd", "https://example.com/x.json#/a", "other.json"]
)
def test_a_schema_refers_to_itself_only(reference: str) -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": reference}}}
    with pytest.raises(ValidationError, match="must stay within the schema"):
        cluster(output_schema=schema)
    tool = {"type": "http", "name": "t", "url": "https://x", "method": "POST", "parameters": schema}
    with pytest.raises(ValidationError, match="must stay within the schema"):
        cluster(tools=[tool])


def test_a_schema_may_refer_to_itself() -> None:
    schema = {"$defs": {"n": {"type": "integer"}}, "type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}}
    assert cluster(output_schema=schema).spec.agents[0].output_schema == schema


def test_a_foreign_meta_schema_is_refused() -> None:
    with pytest.raises(ValidationError, match="not a valid JSON Schema"):
        cluster(output_schema={"$schema": "http://127.0.0.1:9/meta", "type": "object"})
