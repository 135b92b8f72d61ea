"""`deploy`, `scale`, `delete`: what changes clusters on a server."""

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from goagents.errors import Invalid
from goagents.resources import ClusterApplied
from goagents.spec.load import load_clusters

from .deploy_gcp import deploy_to_gcp
from .deploy_options import PLATFORM_ONLY, platform_options
from .main import command
from .options import agent_id, client_of, cluster_option, output_option, server_options
from .terminal import note, say, say_json

_FILE = click.Path(path_type=Path)


@command()
@click.option(
    "--cluster",
    "-c",
    "files",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="File with one or more clusters; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--server", help="Address of the server; else GOAGENTS_SERVER, else http://127.0.0.1:8080.")
@output_option
@platform_options
def deploy(
    files: tuple[Path, ...], dry_run: bool, server: str | None, output: str, platform: str | None, **options: Any
) -> None:
    """Create or update clusters; deploy the functions they run on.

    The files are checked here first; every error is printed with its place. A new generation of a cluster takes
    effect for new runs; runs in progress end with the one they began with.

    With --platform gcp the functions are deployed from source with gcloud, and all they need: interfaces, service
    accounts, database, indexes, queue and schedule. The clusters come last. What is there already is left as it is, so
    after a failure the same command goes on. --dry-run prints every command and asks nobody.
    """
    clusters = load_clusters(files)
    if files and not clusters:
        raise Invalid(f"{', '.join(map(str, files))}: no document of `kind: AgentCluster`")
    if platform:
        if server:
            raise click.UsageError("--server and --platform exclude each other: the server is the one deployed")
        deploy_to_gcp(options, clusters, dry_run=dry_run, output=output)
        return
    _refuse_without_platform()
    if not files:
        raise click.UsageError("Missing option '--cluster' / '-c'.")
    applied = []
    with client_of(server) as client:
        note(f"{'Checking against' if dry_run else 'Deploying to'} {client.server}")
        for cluster in clusters:
            answer = client.apply(cluster.manifest(), dry_run=dry_run)
            applied.append(answer)
            if output == "table":
                _say_applied(answer, dry_run)
    if output == "json":
        say_json({"dry_run": dry_run, "items": applied})


def _refuse_without_platform() -> None:
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name in PLATFORM_ONLY:
            raise click.UsageError(f"{parameter.opts[0]} goes with --platform gcp")


def _say_applied(answer: ClusterApplied, dry_run: bool) -> None:
    cluster = answer.cluster
    outcome = f"would be {answer.outcome}" if dry_run and answer.outcome != "unchanged" else answer.outcome
    say(f"cluster {cluster.namespace}/{cluster.name} {outcome} (generation {cluster.generation})")
    if answer.outcome == "updated":
        for path in answer.changes or (
            "the same content; it now has the rights of a cluster that is sent, not those of the server's own file",
        ):
            say(f"  {path}")
    if answer.outcome == "created":
        for agent in cluster.agents:
            say(f"  agent {agent.id} ({agent.provider} {agent.model})")


@command()
@cluster_option()
@click.option("--agent", "-a", required=True, metavar="NAME", help="Name of the agent.")
@click.option("--instances", "-i", required=True, type=click.IntRange(0, 1000), help="How many to keep; 0 lets all go.")
@server_options
@output_option
def scale(cluster: str, agent: str, instances: int, server: str | None, namespace: str, output: str) -> None:
    """Set how many instances of an agent are kept.

    More come on demand, up to the agent's max_instances; with 0 the next request brings one back.
    """
    with client_of(server, namespace) as client:
        answer = client.scale(cluster, agent, instances)
    if output == "json":
        say_json(answer)
        return
    say(
        f"agent {agent_id(namespace, cluster, agent)} keeps {answer.kept_instances} of at most {answer.max_instances} "
        f"instances ({answer.active_instances} active, {answer.idle_instances} idle)"
    )


@command()
@cluster_option()
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@server_options
@output_option
def delete(cluster: str, yes: bool, server: str | None, namespace: str, output: str) -> None:
    """Delete a cluster with all that is its own.

    Its generations, instances, sessions and runs are gone for good.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("this deletes for good, and there is no terminal to ask on: add --yes")
        click.confirm(f"Delete cluster {namespace}/{cluster} with its sessions and runs?", abort=True, err=True)
    with client_of(server, namespace) as client:
        client.delete_cluster(cluster)
    if output == "json":
        say_json({"outcome": "deleted", "namespace": namespace, "name": cluster})
    else:
        say(f"cluster {namespace}/{cluster} deleted")
