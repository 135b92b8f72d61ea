"""The part of a plan that deploys the functions from source, and says who may call them."""

from collections.abc import Iterator
from typing import Any

from .catalogue import Function
from .digest import digest
from .steps import Judge, Step, bound, last, pairs
from .target import Target

INVOKER = "roles/run.invoker"
EVERYBODY = "allUsers"
_LABEL = "goagents-digest"
_BUILD_TIMEOUT = 1200.0  # seconds; building and starting take two to four minutes


def function_steps(target: Target) -> Iterator[Step]:
    for function in target.functions:
        yield _deployment(target, function)
    for function in target.functions:
        yield from _callers(target, function)


def deploy_arguments(target: Target, function: Function) -> tuple[str, ...]:
    """Return gcloud's arguments that deploy a function from source, without the label."""
    secrets = target.secrets_of(function)
    return (
        *("functions", "deploy", target.service(function), "--gen2", f"--runtime={target.runtime}"),
        *(f"--region={target.region}", f"--source={target.source}", f"--entry-point={function.name}"),
        *("--trigger-http", "--no-allow-unauthenticated", "--ingress-settings=all"),
        f"--service-account={target.account(function.name)}",
        f"--build-service-account=projects/{target.project}/serviceAccounts/{target.account('build')}",
        f"--set-build-env-vars=GOOGLE_FUNCTION_SOURCE={function.source}",
        pairs("set-env-vars", target.environment(function)),
        pairs("set-secrets", secrets) if secrets else "--clear-secrets",
        *(f"--cpu={function.cpu}", f"--memory={function.memory}", f"--concurrency={function.concurrency}"),
        *(f"--timeout={function.timeout}s", f"--min-instances={target.min_instances.get(function.name, 0)}"),
        f"--max-instances={target.max_instances}",
    )


def _deployment(target: Target, function: Function) -> Step:
    arguments = deploy_arguments(target, function)
    label = digest(target.source, target.config, arguments)
    per_cpu = "CPU" if function.cpu == "1" else "CPUs"
    kept = target.min_instances.get(function.name, 0)
    warm = f", {kept} instance{'' if kept == 1 else 's'} kept warm" if kept else ""
    return Step(
        id=f"function-{function.name}",
        line=f"deploy the function {function.name} ({function.cpu} {per_cpu}, {function.memory}, "
        f"{function.concurrency} requests at once, {function.timeout} s{warm})",
        argv=(*arguments, f"--update-labels={_LABEL}={label}"),
        look=("functions", "list", "--v2", f"--regions={target.region}"),
        state=_deployed(target.service(function), label),
        together=True,
        timeout=_BUILD_TIMEOUT,
    )


def _deployed(name: str, label: str) -> Judge:
    def state(found: Any) -> Any:
        for each in found or ():
            if last(each, "functions") == name:
                current = each.get("state") == "ACTIVE" and each.get("labels", {}).get(_LABEL) == label
                return "done" if current else "differs"
        return "absent"

    return state


def _callers(target: Target, function: Function) -> Iterator[Step]:
    members = []
    if function in (target.worker, target.sweeper):
        members.append(f"serviceAccount:{target.account('invoker')}")
    if function.called_by == "users":
        members += [*target.invokers, *([EVERYBODY] if target.allow_unauthenticated else [])]
    where = (target.service(function), f"--region={target.region}")
    for member in members:
        yield Step(
            id=f"call-{function.name}-{member}",
            line=f"let {'everybody' if member == EVERYBODY else member} call {function.name}",
            argv=("run", "services", "add-iam-policy-binding", *where, f"--member={member}", f"--role={INVOKER}"),
            look=("run", "services", "get-iam-policy", *where),
            state=bound(INVOKER, member),
        )
