"""`status`: clusters, agents, instances, tools."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from goagents.resources import Agent, Cluster, ToolStatus

from .main import command
from .options import client_of, cluster_option, output_option, server_options
from .tables import ago, print_table
from .terminal import note, say, say_json


@command()
@cluster_option(required=False, help="Show one cluster with its instances and tools.")
@server_options
@output_option
def status(cluster: str | None, server: str | None, namespace: str, output: str) -> None:
    """Show clusters, agents, instances and tools."""
    with client_of(server, namespace) as client:
        if cluster is not None:
            found = client.get_cluster(cluster)
            say_json(found) if output == "json" else _show_one(found)
            return
        clusters = list(client.clusters())
        if output == "json":
            say_json({"items": clusters})
            return
        if not clusters:
            note(f"no clusters in the namespace {namespace} of {client.server}; make one by `goagents deploy`")
            return
        _show_all(clusters)


def _show_all(clusters: Sequence[Cluster]) -> None:
    print_table(
        ("CLUSTER", "GENERATION", "AGENTS", "RUNS", "UPDATED"),
        ((c.name, c.generation, len(c.agents), _runs(c), ago(c.updated_at)) for c in clusters),
    )
    say("")
    _show_agents([agent for cluster in clusters for agent in cluster.agents])


def _show_one(cluster: Cluster) -> None:
    say(click.style(f"{cluster.namespace}/{cluster.name}", bold=True))
    say(
        f"generation {cluster.generation}, updated {ago(cluster.updated_at)} ago, "
        f"{cluster.active_runs} of at most {cluster.max_concurrent_agents} runs"
    )
    say("")
    _show_agents(cluster.agents)
    if any(agent.instances for agent in cluster.agents):
        say("")
        print_table(
            ("INSTANCE", "STATUS", "LAST ACTIVE", "RUN"),
            (
                (f"{agent.name}/{instance.number}", instance.status, ago(instance.last_active_at), instance.run)
                for agent in cluster.agents
                for instance in agent.instances
            ),
        )
    if any(agent.tools for agent in cluster.agents):
        say("")
        print_table(
            ("TOOL", "TYPE", "STATUS", "DETAIL"),
            (
                (f"{agent.name}/{tool.name}", tool.type, tool.status, detail_of(tool, datetime.now(UTC)))
                for agent in cluster.agents
                for tool in agent.tools
            ),
        )


def detail_of(tool: ToolStatus, now: datetime) -> str | None:
    """Return why a tool is not on offer, and which of its hosts are left alone for how long from `now` on."""
    circuits = (
        f"{circuit.host or 'it'} is not called for {max(0, math.ceil((circuit.until - now).total_seconds()))}s"
        if circuit.state == "open" and circuit.until is not None
        else f"{circuit.host or 'it'} is tried again"
        for circuit in tool.circuits
    )
    return "; ".join(filter(None, [tool.detail, *circuits])) or None


def _show_agents(agents: Sequence[Agent]) -> None:
    print_table(
        ("AGENT", "PROVIDER", "MODEL", "ACTIVE", "IDLE", "KEPT", "MAX"),
        (
            (a.id, a.provider, a.model, a.active_instances, a.idle_instances, a.kept_instances, a.max_instances)
            for a in agents
        ),
    )


def _runs(cluster: Cluster) -> str:
    return f"{cluster.active_runs}/{cluster.max_concurrent_agents}"
