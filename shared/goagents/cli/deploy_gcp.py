"""`deploy --platform gcp` and `destroy`: a deployment on Google Cloud, made and taken away with gcloud."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from goagents.client import Client
from goagents.client.faults import ServerUnreachable, UnexpectedAnswer
from goagents.deploy.carry_out import carry_out, remaining
from goagents.deploy.catalogue import select
from goagents.deploy.gcloud import Gcloud
from goagents.deploy.plan import plan
from goagents.deploy.removal import Kept, find_kept, removal
from goagents.deploy.steps import Step
from goagents.deploy.target import CONFIG, UNKNOWN_NUMBER, Target
from goagents.errors import GoAgentsError, Invalid, NotFound, PermissionDenied, Unauthenticated
from goagents.resources import ClusterApplied
from goagents.settings import Settings
from goagents.spec.check import KEY_VARIABLES
from goagents.spec.cluster import AgentCluster

from .main import command
from .options import Decorator, output_option
from .terminal import note, say, say_json

READY_WITHIN = 180.0  # seconds until who may call is known everywhere
_PAUSE = 5.0
_PLATFORM = click.Choice(["gcp"])


def _options(*options: Decorator) -> Decorator:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


where_options = _options(
    click.option("--project", metavar="ID", help="Project of Google Cloud; else GOOGLE_CLOUD_PROJECT."),
    click.option("--region", metavar="REGION", help="Such as europe-west1; else GOOGLE_CLOUD_REGION."),
    click.option("--prefix", default="goagents", show_default=True, help="What all names begin with."),
    click.option("--database", default="(default)", show_default=True, help="The Firestore database."),
)
platform_options = _options(
    click.option("--platform", type=_PLATFORM, help="Deploy the functions, too; with the options below."),
    where_options,
    click.option(
        "--functions", "names", multiple=True, metavar="NAME", help="Only these, such as gateway; may be repeated."
    ),
    click.option("--source", type=click.Path(path_type=Path), default=".", help="The repository.", show_default=True),
    click.option("--config", default=CONFIG, show_default=True, help="Configuration of the functions, in the source."),
    click.option("--database-location", default="", metavar="LOCATION", help="Of a new database; else the region."),
    click.option(
        "--secret",
        "secrets",
        multiple=True,
        metavar="VARIABLE=SECRET",
        help="Secret of Secret Manager a variable is filled from; may be repeated. The keys of the providers that "
        "the clusters use are ANTHROPIC_API_KEY=anthropic-api-key and so on by default.",
    ),
    click.option(
        "--invoker", "invokers", multiple=True, metavar="MEMBER", help="Who may call, such as user:ann@example.com."
    ),
    click.option("--allow-unauthenticated", is_flag=True, help="Let everybody call; needs `auth.mode: api_key`."),
    click.option("--min-instances", type=click.IntRange(0, 1000), default=0, show_default=True, help="Kept warm."),
    click.option("--max-instances", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most."),
    click.option("--yes", "-y", is_flag=True, help="Do not ask."),
)

# What means nothing without a platform. `--yes` does no harm there.
PLATFORM_ONLY = {
    *("project", "region", "prefix", "database", "names", "source", "config", "database_location", "secrets"),
    *("invokers", "allow_unauthenticated", "min_instances", "max_instances"),
}


def target_of(
    options: dict[str, Any], clusters: Iterable[AgentCluster] = (), *, number: str = UNKNOWN_NUMBER
) -> Target:
    """Return where the options say. Raises Invalid for what cannot be, click.UsageError for what is missing."""
    settings = Settings.from_environ()
    known: dict[str, Any] = {
        "project": options["project"] or settings.project,
        "region": options["region"] or settings.region,
    }
    if missing := [name for name, value in known.items() if not value]:
        raise click.UsageError(f"Missing option {' and '.join(f'--{name}' for name in missing)}.")
    names = [name for each in options.get("names", ()) for name in each.split(",") if name]
    kept = PLATFORM_ONLY - {"project", "region", "names", "secrets"}
    return Target(
        **known,
        functions=select(names),
        secrets=_secrets(options.get("secrets", ()), clusters),
        number=number,
        **{name: options[name] for name in kept if name in options},
    )


def _secrets(given: Sequence[str], clusters: Iterable[AgentCluster]) -> dict[str, str]:
    used = {KEY_VARIABLES[a.provider] for c in clusters for a in c.spec.agents if a.provider in KEY_VARIABLES}
    secrets = {variable: variable.lower().replace("_", "-") for variable in used}
    for each in given:
        variable, equals, secret = each.partition("=")
        if not equals:
            raise Invalid(f"--secret {variable[:64]}: write VARIABLE=SECRET, the name of a secret and never its value")
        secrets[variable] = secret
    return secrets


def deploy_to_gcp(options: dict[str, Any], clusters: Sequence[AgentCluster], *, dry_run: bool, output: str) -> None:
    target = target_of(options, clusters)
    steps = plan(target)
    if dry_run:
        note(f"The plan for {target.project} in {target.region}; nothing is asked or changed.")
        _show(steps, target.project, output)
        return
    gcloud = Gcloud(target.project)
    number = str(gcloud.read(("projects", "describe", target.project))["projectNumber"])
    target = target_of(options, clusters, number=number)
    steps = plan(target)
    note(f"{len(steps)} steps for the project {target.project} in {target.region}; --dry-run shows their commands.")
    if not options["yes"]:
        _ask(f"Deploy {', '.join(function.name for function in target.functions)} to {target.project}?")
    outcomes = carry_out(steps, gcloud, _tell)
    server = target.url(target.server)
    applied = _apply(server, clusters)
    if output == "json":
        said = {"project": target.project, "region": target.region, "server": server, "steps": outcomes}
        say_json({**said, "items": applied})
        return
    changed = sum(outcome != "done already" for outcome in outcomes.values())
    say(f"deployed: {changed} of {len(outcomes)} steps had something to do")
    for answer in applied:
        say(f"cluster {answer.cluster.namespace}/{answer.cluster.name} {answer.outcome}")
    say(f"server {server}\nnext: GOAGENTS_SERVER={server} goagents status")


def _apply(server: str, clusters: Sequence[AgentCluster]) -> list[ClusterApplied]:
    """Apply the clusters, with patience: who may call takes a minute to be known everywhere."""
    if not clusters:
        return []
    note(f"Applying {len(clusters)} cluster{'' if len(clusters) == 1 else 's'} to {server}")
    until = time.monotonic() + READY_WITHIN
    passing = (PermissionDenied, Unauthenticated, NotFound, ServerUnreachable, UnexpectedAnswer)
    with Client(server) as client:
        while True:
            try:
                return [client.apply(cluster.manifest()) for cluster in clusters]
            except passing as error:
                if time.monotonic() + _PAUSE > until:
                    raise _unreachable(server, error) from error
                time.sleep(_PAUSE)


def _unreachable(server: str, error: GoAgentsError) -> GoAgentsError:
    return PermissionDenied(
        f"The functions are deployed, and {server} does not let this account in yet: {error.detail}\n  Sign in by "
        "`gcloud auth login` as somebody whom --invoker names, then: goagents deploy --cluster FILE --server " + server
    )


@command()
@click.option("--platform", type=_PLATFORM, required=True, help="Where it was deployed to.")
@where_options
@click.option("--data", is_flag=True, help="Delete the Firestore database, too.")
@click.option("--queue", is_flag=True, help="Delete the queue, too; Google bars its name for days.")
@click.option("--dry-run", is_flag=True, help="Only show the commands; nothing is asked or changed.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask for the project's name.")
@output_option
def destroy(
    platform: str,  # noqa: ARG001 - there is one
    data: bool,
    queue: bool,
    dry_run: bool,
    yes: bool,
    output: str,
    **options: Any,
) -> None:
    """Take a deployment of the functions away.

    Functions, job, roles and service accounts are deleted. The database with all clusters, sessions and runs stays,
    unless --data is given; so does the queue, emptied and paused, unless --queue is: Google bars the name of a deleted
    queue for days, in which there could be no deployment of the same --prefix. Secrets stay, and the interfaces that
    were enabled. What is deleted is listed first, and the project's name wants to be typed.
    """
    target = target_of(options)
    if dry_run:
        note(f"What would be deleted in {target.project}, if it is there; nothing is asked or changed.")
        _show(removal(target, Kept(), data=data, queue=queue), target.project, output)
        return
    gcloud = Gcloud(target.project)
    left = remaining(removal(target, find_kept(target, gcloud, queue=queue), data=data, queue=queue), gcloud)
    for step in left:
        note(step.line)
    if left and not yes:
        _ask_for_name(target.project)
    outcomes = carry_out(left, gcloud, _tell)
    if output == "json":
        kept = {"data_kept": not data, "queue_kept": not queue}
        say_json({"project": target.project, "deleted": list(outcomes), **kept})
        return
    say(f"destroyed: {len(outcomes)} step{'' if len(outcomes) == 1 else 's'}" if outcomes else "nothing of it is there")
    if not data:
        say(f"kept: the Firestore database {target.database} (--data deletes it), and secrets")
    if not queue:
        say(f"kept: the queue {target.prefix}, empty and paused (--queue deletes it, and bars its name for days)")


def _show(steps: Sequence[Step], project: str, output: str) -> None:
    shown = [{"id": s.id, "line": s.line, "command": f"{s.command} --project={project}"} for s in steps]
    if output == "json":
        say_json({"dry_run": True, "steps": shown})
        return
    for step in shown:
        say(f"# {step['line']}\n{step['command']}")


def _tell(step: Step, what: str) -> None:
    note(f"{step.line}{' …' if what == 'begins' else f': {what}'}")


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: add --yes, or --dry-run to see the plan")
    click.confirm(question, abort=True, err=True)


def _ask_for_name(project: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("this deletes for good, and there is no terminal to ask on: add --yes")
    if click.prompt("Type the project's name to delete all of this", err=True) != project:
        raise click.UsageError("that is not the project's name; nothing was deleted")
