"""The part of a plan that deploys the functions from source, and says who may call them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .catalogue import Function
from .digest import digest
from .steps import Judge, Step, bound, gone, last, pairs
from .target import Target

INVOKER = "roles/run.invoker"
EVERYBODY = "allUsers"
UNKNOWN_MEMBER = "MEMBER"  # what a plan says that was made without asking Google
Callers = Mapping[str, Sequence[str]]  # members of IAM by the function they may call
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
        *("--trigger-http", "--allow-unauthenticated" if _open(target, function) else "--no-allow-unauthenticated"),
        "--ingress-settings=all",
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


def _open(target: Target, function: Function) -> bool:
    """Say whether everybody may call. gcloud is told at each deployment, or it would take that away for its time."""
    return target.allow_unauthenticated and function.called_by == "users"


def callers(target: Target, function: Function) -> tuple[str, ...]:
    """Return the members that may call a function, and nobody else may."""
    internal = function in (target.worker, target.sweeper)
    return (
        *((f"serviceAccount:{target.account('invoker')}",) if internal else ()),
        *(target.invokers if function.called_by == "users" else ()),
        *((EVERYBODY,) if _open(target, function) else ()),
    )


def _callers(target: Target, function: Function) -> Iterator[Step]:
    for member in callers(target, function):
        yield _call(target, function, member, "add", f"let {_whom(member)} call {function.name}")


def no_other_callers(target: Target, others: Callers) -> Iterator[Step]:
    """Yield the steps that take the right to call from who has it and should not.

    They go before the functions: a new configuration may trust whom Cloud Run lets in.
    """
    for function in target.functions:
        for member in others.get(function.name, ()):
            whom = f"{member}, whoever else may," if member == UNKNOWN_MEMBER else _whom(member)
            yield _call(target, function, member, "remove", f"let {whom} call {function.name} no longer")


def unknown_callers(target: Target) -> Callers:
    return {function.name: (UNKNOWN_MEMBER,) for function in target.functions}


def policy(target: Target, function: Function) -> tuple[str, ...]:
    """Return gcloud's arguments that ask who may call a function."""
    return ("run", "services", "get-iam-policy", target.service(function), f"--region={target.region}")


def _whom(member: str) -> str:
    return "everybody" if member == EVERYBODY else member


def _call(target: Target, function: Function, member: str, verb: str, line: str) -> Step:
    where = (target.service(function), f"--region={target.region}")
    there = bound(INVOKER, member)
    return Step(
        id=f"{'call' if verb == 'add' else 'no-call'}-{function.name}-{member}",
        line=line,
        argv=("run", "services", f"{verb}-iam-policy-binding", *where, f"--member={member}", f"--role={INVOKER}"),
        look=policy(target, function),
        state=there if verb == "add" else gone(there),
    )
