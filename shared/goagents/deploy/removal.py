"""The plan that takes a deployment away again: whatever `plan` makes, save what is somebody's data.

Kept are the secrets (they were there before), the interfaces enabled, and the database unless it is asked for.
"""

from collections.abc import Iterator
from typing import Any

from .plan import condition, project_roles, purposes
from .steps import Judge, Step, bound, named
from .target import Target


def removal(target: Target, *, data: bool) -> tuple[Step, ...]:
    """Return the steps that delete what `target` deployed, callers first. With `data`, the database too."""
    return (
        *_callers(target),
        *_functions(target),
        *_grants(target),
        *_accounts(target),
        *(_database(target) if data else ()),
    )


def _gone(there: Judge) -> Judge:
    return lambda found: "absent" if there(found) != "absent" else "done"


def _callers(target: Target) -> Iterator[Step]:
    name, location = target.prefix, f"--location={target.region}"
    yield Step(
        id="schedule",
        line=f"delete the job {name}-sweep of Cloud Scheduler",
        argv=("scheduler", "jobs", "delete", f"{name}-sweep", location),
        look=("scheduler", "jobs", "list", location),
        state=_gone(named("jobs", f"{name}-sweep")),
    )
    yield Step(
        id="queue",
        line=f"delete the queue {name}, and what waits in it",
        argv=("tasks", "queues", "delete", name, location),
        look=("tasks", "queues", "list", location),
        state=_gone(named("queues", name)),
    )


def _functions(target: Target) -> Iterator[Step]:
    for function in target.functions:
        yield Step(
            id=f"function-{function.name}",
            line=f"delete the function {target.service(function)}",
            argv=("functions", "delete", target.service(function), "--gen2", f"--region={target.region}"),
            look=("functions", "list", "--v2", f"--regions={target.region}"),
            state=_gone(named("functions", target.service(function))),
            together=True,
            timeout=600.0,
        )


def _grants(target: Target) -> Iterator[Step]:
    """Roles go before their accounts, or the policy keeps entries of nobody."""
    for purpose, role, expression in project_roles(target):
        member = f"serviceAccount:{target.account(purpose)}"
        yield Step(
            id=f"role-{purpose}-{role.rpartition('/')[2]}",
            line=f"take {role} from {target.account_id(purpose)}",
            argv=(
                *("projects", "remove-iam-policy-binding", target.project, f"--member={member}", f"--role={role}"),
                condition(expression),
            ),
            look=("projects", "get-iam-policy", target.project),
            state=_gone(bound(role, member, expression)),
        )


def _accounts(target: Target) -> Iterator[Step]:
    for purpose in purposes(target):
        yield Step(
            id=f"account-{purpose}",
            line=f"delete the service account {target.account_id(purpose)}",
            argv=("iam", "service-accounts", "delete", target.account(purpose)),
            look=("iam", "service-accounts", "list"),
            state=_gone(named("serviceAccounts", target.account(purpose))),
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
        line=f"delete the database {target.database}: all clusters, sessions and runs, for good",
        argv=("firestore", "databases", "delete", where),
        look=look,
        state=_gone(named("databases", target.database)),
    )
