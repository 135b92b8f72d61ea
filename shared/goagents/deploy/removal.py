"""The plan that takes a deployment away again: whatever `plan` makes, save what is somebody's data.

Kept are the secrets (they were there before), the interfaces enabled, and, unless they are asked for, the database and
the queue: Google bars a deleted queue's name for days, and a deployment in its place could not be made. The accounts
are those of every region, so they stay while there is another.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .gcloud import Gcloud
from .grants import on_project, on_queue, on_secrets
from .plan import purposes
from .standing import Service, elsewhere
from .steps import Step, gone, last, named
from .target import Target

UNKNOWN_SECRET = "SECRET_NAME"  # noqa: S105 - what a plan says that was made without asking Google


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays, and in whose policies accounts that go may stand: secrets by their names; the queue, if it does.

    `accounts_for` are services in other regions, which have the same accounts: with any, the accounts stay.
    """

    secrets: tuple[str, ...] = (UNKNOWN_SECRET,)
    queue: bool = True
    accounts_for: tuple[Service, ...] = ()


def find_kept(target: Target, gcloud: Gcloud, standing: Sequence[Service] = (), *, queue: bool) -> Kept:
    """Ask what will stay; with `queue`, the queue will not. `standing` are the project's services. Raises GcloudFailed.

    Each secret of the project is one: nothing says any more which of them were bound by deployments before the last.
    """
    secrets = [last(each, "secrets") for each in gcloud.read(("secrets", "list")) or ()]
    listed = () if queue else gcloud.read(("tasks", "queues", "list", f"--location={target.region}"))
    there = named("queues", target.prefix)(listed) == "done"
    return Kept(tuple(filter(None, secrets)), there, tuple(elsewhere(target, standing)))


def removal(target: Target, kept: Kept, *, data: bool, queue: bool) -> tuple[Step, ...]:
    """Return the steps that delete what `target` deployed. With `data` the database too, with `queue` the queue.

    Functions go before what they use, and roles before their accounts, or policies keep entries of nobody.
    """
    queued = on_queue(target) if kept.queue else ()
    grants = () if kept.accounts_for else (*on_project(target), *on_secrets(target, kept.secrets))
    return (
        _schedule(target),
        *_functions(target),
        *(_delete_queue(target) if queue else _empty_queue(target)),
        *(grant.take() for grant in (*grants, *queued)),
        *(() if kept.accounts_for else _accounts(target)),
        *(_database(target) if data else ()),
    )


def _schedule(target: Target) -> Step:
    name, location = f"{target.prefix}-sweep", f"--location={target.region}"
    return Step(
        id="schedule",
        line=f"delete the job {name} of Cloud Scheduler",
        argv=("scheduler", "jobs", "delete", name, location),
        look=("scheduler", "jobs", "list", location),
        state=gone(named("jobs", name)),
    )


def _functions(target: Target) -> Iterator[Step]:
    for function in target.functions:
        yield Step(
            id=f"function-{function.name}",
            line=f"delete the function {target.service(function)}",
            argv=("functions", "delete", target.service(function), "--gen2", f"--region={target.region}"),
            look=("functions", "list", "--v2", f"--regions={target.region}"),
            state=gone(named("functions", target.service(function))),
            together=True,
            timeout=600.0,
        )


def _delete_queue(target: Target) -> Iterator[Step]:
    name, location = target.prefix, f"--location={target.region}"
    yield Step(
        id="queue",
        line=f"delete the queue {name}, and what waits in it: its name cannot be used again for days",
        argv=("tasks", "queues", "delete", name, location),
        look=("tasks", "queues", "list", location),
        state=gone(named("queues", name)),
    )


def _empty_queue(target: Target) -> Iterator[Step]:
    """Nobody adds to it by now. It is paused last, so while it is not, both steps are still to do."""
    name, location = target.prefix, f"--location={target.region}"

    def paused(found: Any) -> Any:
        queues = [each for each in found or () if last(each, "queues") == name]
        return "absent" if any(each.get("state") != "PAUSED" for each in queues) else "done"

    for verb, line in (
        ("purge", f"delete what waits in the queue {name}"),
        ("pause", f"pause the queue {name}, which stays: a new deployment has it run again"),
    ):
        yield Step(
            id=f"queue-{verb}",
            line=line,
            argv=("tasks", "queues", verb, name, location),
            look=("tasks", "queues", "list", location),
            state=paused,
        )


def _accounts(target: Target) -> Iterator[Step]:
    for purpose in purposes(target):
        yield Step(
            id=f"account-{purpose}",
            line=f"delete the service account {target.account_id(purpose)}",
            argv=("iam", "service-accounts", "delete", target.account(purpose)),
            look=("iam", "service-accounts", "list"),
            state=gone(named("serviceAccounts", target.account(purpose))),
        )


def _database(target: Target) -> Iterator[Step]:
    where, look = f"--database={target.database}", ("firestore", "databases", "list")

    def protected(found: Any) -> Any:
        return "absent" if any(_is(each) and _protects(each) for each in found or ()) else "done"

    def _is(each: Any) -> bool:
        return named("databases", target.database)([each]) == "done"

    def _protects(each: Any) -> bool:
        return bool(each.get("deleteProtectionState") == "DELETE_PROTECTION_ENABLED")

    yield Step(
        id="protection",
        line=f"lift the protection of the database {target.database} against deletion",
        argv=("firestore", "databases", "update", where, "--no-delete-protection"),
        look=look,
        state=protected,
    )
    yield Step(
        id="database",
        line=f"delete the database {target.database}, for good: the clusters, sessions and runs of all who use it",
        argv=("firestore", "databases", "delete", where),
        look=look,
        state=gone(named("databases", target.database)),
    )
