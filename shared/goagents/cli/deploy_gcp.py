"""`deploy --platform gcp` and `destroy`: a deployment on Google Cloud, made and taken away with gcloud."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from goagents.client import Client
from goagents.client.faults import ServerUnreachable, UnexpectedAnswer
from goagents.deploy.carry_out import Outcome, carry_out, remaining
from goagents.deploy.checks import check_uploaded
from goagents.deploy.gcloud import Gcloud
from goagents.deploy.plan import database_plan, plan
from goagents.deploy.plan_functions import no_other_callers, unknown_callers
from goagents.deploy.removal import Kept, find_kept, removal
from goagents.deploy.standing import check_database_unused, check_from_source, other_callers, services
from goagents.deploy.steps import Step
from goagents.deploy.target import Target
from goagents.errors import GoAgentsError, NotFound, PermissionDenied, Unauthenticated
from goagents.resources import ClusterApplied
from goagents.spec.cluster import AgentCluster

from .deploy_options import PLATFORM, target_of, where_options
from .main import command
from .options import output_option
from .terminal import note, say, say_json

READY_WITHIN = 180.0  # seconds until who may call is known everywhere
_PAUSE = 5.0


def deploy_to_gcp(options: dict[str, Any], clusters: Sequence[AgentCluster], *, dry_run: bool, output: str) -> None:
    target = target_of(options, clusters)
    if options["database_only"]:
        if clusters:
            raise click.UsageError("--cluster and --database-only exclude each other: no server is deployed")
        _make_database(target, yes=options["yes"], dry_run=dry_run, output=output)
        return
    steps, gcloud = plan(target, unknown_callers(target)), Gcloud(target.project)
    _check_upload(target, gcloud, dry_run=dry_run)
    if dry_run:
        note(f"The plan for {target.project} in {target.region}; nothing is asked or changed.")
        _show(steps, target.project, output)
        return
    number = str(gcloud.read(("projects", "describe", target.project))["projectNumber"])
    target = target_of(options, clusters, number=number)
    standing = services(gcloud)
    check_from_source(target, standing)
    others = other_callers(target, standing, gcloud)
    steps = plan(target, others)
    for step in no_other_callers(target, others):
        note(step.line)
    note(f"{len(steps)} steps for the project {target.project} in {target.region}; --dry-run shows their commands.")
    if not options["yes"]:
        _ask(f"Deploy {', '.join(function.name for function in target.functions)} to {target.project}?")
    outcomes = carry_out(steps, gcloud, _tell)
    applied = _apply(target.url(target.server), clusters)
    _say_deployed(target, outcomes, applied, output)


def _check_upload(target: Target, gcloud: Gcloud, *, dry_run: bool) -> None:
    """Have gcloud say that the configuration goes along; a plan can be seen where there is no gcloud."""
    if dry_run and not shutil.which("gcloud"):
        note(f"gcloud is not installed: whether it would upload {target.config} is not known.")
        return
    check_uploaded(target, gcloud)


def _say_deployed(
    target: Target, outcomes: Mapping[str, Outcome], applied: Sequence[ClusterApplied], output: str
) -> None:
    server = target.url(target.server)
    addresses = {each.name: target.url(each) for each in target.functions if each.called_by == "users"}
    if output == "json":
        said = {"project": target.project, "region": target.region, "server": server, "addresses": addresses}
        say_json({**said, "steps": outcomes, "items": applied})
        return
    say(f"deployed: {_changed(outcomes)}")
    for answer in applied:
        say(f"cluster {answer.cluster.namespace}/{answer.cluster.name} {answer.outcome}")
    if len(addresses) > 1:
        for name, address in addresses.items():
            say(f"function {name} {address}")
        note("Each serves its own paths: have a load balancer in front, or one address for all by --functions gateway.")
    say(f"server {server}\nnext: GOAGENTS_SERVER={server} goagents status")


def _changed(outcomes: Mapping[str, Outcome]) -> str:
    changed = sum(outcome != "done already" for outcome in outcomes.values())
    return f"{changed} of {len(outcomes)} steps had something to do"


def _make_database(target: Target, *, yes: bool, dry_run: bool, output: str) -> None:
    """Deploy what any server on Firestore needs of Google Cloud, wherever it runs."""
    steps = database_plan(target)
    if dry_run:
        note(f"The plan for {target.project}; nothing is asked or changed.")
        _show(steps, target.project, output)
        return
    if not yes:
        _ask(f"Make the database {target.database} of {target.project}, with its indexes?")
    outcomes = carry_out(steps, Gcloud(target.project), _tell)
    store = f"firestore://{target.project}/{target.database}"
    if output == "json":
        say_json({"project": target.project, "store": store, "steps": outcomes})
        return
    say(f"database: {_changed(outcomes)}\nnext: GOAGENTS_STORE={store}")


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
@click.option("--platform", type=PLATFORM, required=True, help="Where it was deployed to.")
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
        _show(removal(target, Kept(queue=not queue), data=data, queue=queue), target.project, output)
        return
    gcloud = Gcloud(target.project)
    standing = services(gcloud)
    check_from_source(target, standing)
    if data:
        check_database_unused(target, standing)
    kept = find_kept(target, gcloud, standing, queue=queue)
    left = remaining(removal(target, kept, data=data, queue=queue), gcloud)
    for step in left:
        note(step.line)
    if left and not yes:
        _ask_for_name(target, data=data)
    outcomes = carry_out(left, gcloud, _tell)
    if output == "json":
        stays = {"data_kept": not data, "queue_kept": kept.queue, "accounts_kept": bool(kept.accounts_for)}
        say_json({"project": target.project, "deleted": list(outcomes), **stays})
        return
    say(f"destroyed: {len(outcomes)} step{'' if len(outcomes) == 1 else 's'}" if outcomes else "nothing of it is there")
    if not data:
        say(f"kept: the Firestore database {target.database} (--data deletes it), and secrets")
    if kept.accounts_for:
        say(f"kept: the service accounts, which are also those of {kept.accounts_for[0]}")
    if kept.queue:
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


def _ask_for_name(target: Target, *, data: bool) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("this deletes for good, and there is no terminal to ask on: add --yes")
    database = f", and the database {target.database}, which others may use, too" if data else ""
    if click.prompt(f"Type the project's name to delete all of this{database}", err=True) != target.project:
        raise click.UsageError("that is not the project's name; nothing was deleted")
