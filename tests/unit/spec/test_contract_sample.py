"""The sample of the contract loads as it stands."""

from pathlib import Path
from typing import Any

import pytest

from goagents.errors import ConfigurationError
from goagents.spec.cluster import AgentCluster
from goagents.spec.interpolation import check_untrusted
from goagents.spec.load import Loaded, load_clusters, load_files, parse_cluster
from goagents.spec.tools import HttpToolSpec, McpToolSpec

SAMPLE = Path(__file__).parent / "data" / "contract.yaml"
ALL_SET = {
    "ANTHROPIC_API_KEY": "sk-ant",
    "OPENAI_API_KEY": "sk-oai",
    "OPENAI_ORG_ID": "org-1",
    "GOOGLE_API_KEY": "goog",
    "GOOGLE_PROJECT_ID": "proj",
}


@pytest.fixture(scope="module")
def loaded():
    return load_files([SAMPLE], environ=ALL_SET)


def test_the_server(loaded: Loaded):
    server = loaded.config.server
    assert (server.host, server.port, server.timeout, server.log_level) == ("0.0.0.0", 8080, 30.0, "info")  # noqa: S104
    assert (server.metrics.enabled, server.metrics.path, server.metrics.port) == (True, "/metrics", 9090)


def test_the_providers(loaded: Loaded):
    providers = loaded.config.providers
    assert providers.anthropic.api_key.get_secret_value() == "sk-ant"
    assert (providers.anthropic.base_url, providers.anthropic.version) == ("https://api.anthropic.com", "2023-06-01")
    assert (providers.openai.org_id, providers.gemini.project_id) == ("org-1", "proj")


def test_the_cluster(loaded: Loaded):
    (cluster,) = loaded.clusters
    assert (cluster.namespace, cluster.name) == ("default", "customer-support")
    policy = cluster.spec.resource_policy
    assert (policy.max_concurrent_agents, policy.idle_timeout, policy.scale_to_zero) == (5, 300.0, True)
    agent = cluster.agent("intent-classifier")
    assert (agent.provider, agent.model) == ("anthropic", "claude-sonnet-4")
    http, mcp = agent.tools
    assert isinstance(http, HttpToolSpec)
    assert http.url == "https://api.example.com/customers"
    assert isinstance(mcp, McpToolSpec)
    assert mcp.server == "knowledge-base-mcp-server"


def test_only_the_key_in_use_is_needed():
    config = load_files([SAMPLE], environ={"ANTHROPIC_API_KEY": "k"}).config
    assert config.providers.openai.api_key is None
    assert config.providers.openai.org_id is None
    assert config.unset_reference("providers.openai.api_key") == "OPENAI_API_KEY"


@pytest.mark.parametrize("environ", [{}, {"ANTHROPIC_API_KEY": ""}])
def test_the_missing_key_of_the_provider_in_use_names_variable_field_and_place(environ: Any):
    with pytest.raises(ConfigurationError) as caught:
        load_files([SAMPLE], environ=environ)
    (error,) = caught.value.errors
    assert (error.path, error.line, error.column) == ("providers.anthropic.api_key", 15, 14)
    assert str(error).startswith(
        f"{SAMPLE}:15:14: providers.anthropic.api_key: the variable ANTHROPIC_API_KEY is not set"
    )


def test_a_retired_model_is_a_warning_with_its_place(loaded: Loaded):
    (warning,) = loaded.warnings
    assert (warning.path, warning.line, warning.column) == ("spec.agents.0.model", 40, 14)
    assert "claude-sonnet-4-20250514" in warning.message


def test_it_can_be_sent_to_a_server_without_any_key_here():
    (cluster,) = load_clusters([SAMPLE], environ={})
    assert cluster.name == "customer-support"


def test_the_manifest_is_what_was_written(loaded: Loaded):
    manifest = loaded.clusters[0].manifest()
    assert manifest["spec"]["resource_policy"] == {
        "max_concurrent_agents": 5,
        "idle_timeout": "5m",
        "scale_to_zero": True,
    }
    assert AgentCluster.model_validate(manifest) == loaded.clusters[0]


def test_secrets_do_not_show(loaded: Loaded):
    for text in (repr(loaded), str(loaded.config), loaded.config.model_dump_json()):
        assert "sk-ant" not in text


def test_posted_its_command_is_refused_unless_the_server_defines_it():
    text = SAMPLE.read_text().split("# Agent cluster definition")[1]
    cluster = parse_cluster(text.encode(), "application/yaml")
    config = load_files([SAMPLE], environ=ALL_SET).config
    assert [error.path for error in check_untrusted(cluster, config)] == ["spec.agents.0.tools.1.server"]
