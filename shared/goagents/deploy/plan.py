"""The plan of a deployment to Google Cloud: pure, settings in, an ordered list of steps out."""

from collections.abc import Iterator
from typing import Any

from .checks import check_configuration, check_source
from .plan_functions import function_steps
from .plan_store import database_steps
from .steps import Judge, Step, bound, last, named
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
    "run.googleapis.com",
    "secretmanager.googleapis.com",
)
BUILD_ROLES = ("roles/artifactregistry.writer", "roles/logging.logWriter", "roles/storage.objectViewer")
DATA_ROLE = "roles/datastore.user"
ENQUEUER = "roles/cloudtasks.enqueuer"
ACT_AS = "roles/iam.serviceAccountUser"
ACCESSOR = "roles/secretmanager.secretAccessor"


def plan(target: Target) -> tuple[Step, ...]:
    """Return the steps that deploy `target`, in order. Raises Invalid where source or configuration would not serve."""
    check_source(target.source, target.config)
    check_configuration(target)
    return (
        _services(),
        *_secrets_exist(target),
        *_accounts(target),
        *_project_roles(target),
        *database_steps(target),
        *_queue(target),
        *_secret_access(target),
        *function_steps(target),
        _schedule(target),
    )


def _services() -> Step:
    def state(found: Any) -> Any:
        enabled = {each.get("config", {}).get("name") for each in found or ()}
        return "done" if enabled.issuperset(SERVICES) else "absent"

    return Step(
        id="services",
        line="enable the interfaces of Google Cloud that are used",
        argv=("services", "enable", *SERVICES),
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


def project_roles(target: Target) -> Iterator[tuple[str, str, str | None]]:
    """Yield purpose, role and condition of what is granted on the project itself."""
    for role in BUILD_ROLES:
        yield "build", role, None
    for function in target.functions:
        if function.store:  # this database alone, not every one of the project
            yield function.name, DATA_ROLE, f'resource.name=="projects/{target.project}/databases/{target.database}"'


def condition(expression: str | None) -> str:
    """Return gcloud's option; without it gcloud asks where a policy has conditions."""
    return f"--condition=expression={expression},title=goagents-database" if expression else "--condition=None"


def _project_roles(target: Target) -> Iterator[Step]:
    for purpose, role, expression in project_roles(target):
        member = f"serviceAccount:{target.account(purpose)}"
        yield Step(
            id=f"role-{purpose}-{role.rpartition('/')[2]}",
            line=f"give {target.account_id(purpose)} the role {role}",
            argv=(
                *("projects", "add-iam-policy-binding", target.project, f"--member={member}", f"--role={role}"),
                condition(expression),
            ),
            look=("projects", "get-iam-policy", target.project),
            state=bound(role, member, expression),
        )


def _queue(target: Target) -> Iterator[Step]:
    name, location = target.prefix, f"--location={target.region}"
    settings = ("--max-attempts=20", "--max-retry-duration=3600s", "--min-backoff=1s", "--max-backoff=60s")
    yield Step(
        id="queue",
        line=f"make the queue {name}, which hands runs on",
        argv=("tasks", "queues", "create", name, location, *settings),
        look=("tasks", "queues", "list", location),
        state=named("queues", name),
    )
    invoker = target.account("invoker")
    for function in target.functions:
        if not function.dispatch:
            continue
        member = f"serviceAccount:{target.account(function.name)}"
        for role, on, where in (
            (ENQUEUER, f"the queue {name}", ("tasks", "queues", "{}", name, location)),
            (ACT_AS, target.account_id("invoker"), ("iam", "service-accounts", "{}", invoker)),
        ):
            yield _binding(f"{function.name}-{role.rpartition('/')[2]}", member, role, on, where)


def _secret_access(target: Target) -> Iterator[Step]:
    for function in target.functions:
        member = f"serviceAccount:{target.account(function.name)}"
        for reference in sorted(set(target.secrets_of(function).values())):
            secret = reference.partition(":")[0]
            yield _binding(
                f"{function.name}-reads-{secret}", member, ACCESSOR, f"the secret {secret}", ("secrets", "{}", secret)
            )


def _binding(id: str, member: str, role: str, on: str, where: tuple[str, ...]) -> Step:  # noqa: A002 - the step's
    """Grant a role on one resource. `where` are the arguments of both commands, the verb's place being `{}`."""

    def command(verb: str) -> tuple[str, ...]:
        return tuple(verb if part == "{}" else part for part in where)

    return Step(
        id=id,
        line=f"give {member.partition(':')[2].partition('@')[0]} the role {role} on {on}",
        argv=(*command("add-iam-policy-binding"), f"--member={member}", f"--role={role}"),
        look=command("get-iam-policy"),
        state=bound(role, member),
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
