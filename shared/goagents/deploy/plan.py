"""The plan of a deployment to Google Cloud: pure, settings in, an ordered list of steps out."""

from collections.abc import Iterator
from typing import Any

from .checks import check_configuration, check_source
from .grants import on_invoker, on_project, on_queue, on_secrets
from .plan_functions import Callers, function_steps, no_other_callers
from .plan_store import database_steps
from .steps import Judge, Step, last, named
from .target import Target

SERVICES = (
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudfunctions.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "cloudscheduler.googleapis.com",
    "cloudtasks.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
)


def plan(target: Target, others: Callers | None = None) -> tuple[Step, ...]:
    """Return the steps that deploy `target`, in order. `others` may call functions and shall no longer.

    Raises Invalid where source or configuration would not serve.
    """
    check_source(target.source, target.config)
    check_configuration(target)
    return (
        _services(SERVICES),
        *_secrets_exist(target),
        *_accounts(target),
        *(grant.give() for grant in on_project(target)),
        *database_steps(target),
        _queue(target),
        *(grant.give() for grant in (*on_queue(target), *on_invoker(target), *on_secrets(target))),
        *no_other_callers(target, others or {}),
        *function_steps(target),
        _queue_runs(target),
        _schedule(target),
    )


def database_plan(target: Target) -> tuple[Step, ...]:
    """Return the steps that make the database alone: what a server that runs elsewhere needs."""
    return (_services(("firestore.googleapis.com",)), *database_steps(target))


def _services(names: tuple[str, ...]) -> Step:
    def state(found: Any) -> Any:
        enabled = {each.get("config", {}).get("name") for each in found or ()}
        return "done" if enabled.issuperset(names) else "absent"

    return Step(
        id="services",
        line="enable the interfaces of Google Cloud that are used",
        argv=("services", "enable", *names),
        look=("services", "list", "--enabled"),
        state=state,
    )


def _secrets_exist(target: Target) -> Iterator[Step]:
    for variable, reference in sorted(target.secrets.items()):
        secret = reference.partition(":")[0]
        yield Step(
            id=f"secret-{secret}",
            line=f"find the secret {secret}, for {variable}",
            look=("secrets", "list"),
            state=named("secrets", secret),
            remedy=f'Make it: printf %s "${variable}" | gcloud secrets create {secret} --data-file=- '
            f"--project={target.project}",
        )


def purposes(target: Target) -> dict[str, str]:
    """Return the service accounts by their purpose, each with what it is for."""
    own = {function.name: f"GoAgents: the function {function.name}" for function in target.functions}
    return {"build": "GoAgents: builds the functions", "invoker": "GoAgents: calls worker and sweeper", **own}


def _accounts(target: Target) -> Iterator[Step]:
    for purpose, text in purposes(target).items():
        email = target.account(purpose)
        yield Step(
            id=f"account-{purpose}",
            line=f"make the service account {target.account_id(purpose)}",
            argv=("iam", "service-accounts", "create", target.account_id(purpose), f"--display-name={text}"),
            look=("iam", "service-accounts", "list"),
            state=named("serviceAccounts", email),
        )


def _queue(target: Target) -> Step:
    name, location = target.prefix, f"--location={target.region}"
    settings = ("--max-attempts=20", "--max-retry-duration=3600s", "--min-backoff=1s", "--max-backoff=60s")
    return Step(
        id="queue",
        line=f"make the queue {name}, which hands runs on",
        argv=("tasks", "queues", "create", name, location, *settings),
        look=("tasks", "queues", "list", location),
        state=named("queues", name),
    )


def _queue_runs(target: Target) -> Step:
    """Have a queue run that `destroy` or a restore has paused: what waits in it is for the functions that now serve.

    Looked at once it is made: one that is not known everywhere yet is waited for.
    """
    name, location = target.prefix, f"--location={target.region}"
    return Step(
        id="queue-runs",
        line=f"have the queue {name} run",
        argv=("tasks", "queues", "resume", name, location),
        look=("tasks", "queues", "describe", name, location),
        state=lambda found: "done" if (found or {}).get("state") == "RUNNING" else "absent",
    )


def _schedule(target: Target) -> Step:
    name, sweeper = f"{target.prefix}-sweep", target.url(target.sweeper)
    settings = (
        *(f"--location={target.region}", "--schedule=* * * * *", f"--uri={sweeper}/sweep", "--http-method=POST"),
        *(f"--oidc-service-account-email={target.account('invoker')}", f"--oidc-token-audience={sweeper}"),
        "--attempt-deadline=120s",
    )
    return Step(
        id="schedule",
        line=f"have Cloud Scheduler call {target.sweeper.name} every minute",
        argv=("scheduler", "jobs", "create", "http", name, *settings),
        look=("scheduler", "jobs", "list", f"--location={target.region}"),
        state=_scheduled(name, f"{sweeper}/sweep", target.account("invoker")),
        update=("scheduler", "jobs", "update", "http", name, *settings),
    )


def _scheduled(name: str, uri: str, account: str) -> Judge:
    def state(found: Any) -> Any:
        for each in found or ():
            if last(each, "jobs") == name:
                http = each.get("httpTarget", {})
                same = http.get("uri") == uri and http.get("oidcToken", {}).get("serviceAccountEmail") == account
                return "done" if same else "differs"
        return "absent"

    return state
