"""Who may do what: each role, as the step of a plan that gives it and as the one that takes it away."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .steps import Judge, Step, bound, gone
from .target import Target

BUILD_ROLES = ("roles/artifactregistry.writer", "roles/logging.logWriter", "roles/storage.objectViewer")
DATA_ROLE = "roles/datastore.user"
ENQUEUER = "roles/cloudtasks.enqueuer"
ACT_AS = "roles/iam.serviceAccountUser"
ACCESSOR = "roles/secretmanager.secretAccessor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role that one of our service accounts has on a resource. `account` is its e-mail address, `where` are gcloud's
    arguments, the verb's place being `{}`; `on` is what a person calls the resource, empty for the project itself.

    `expression` is the role's condition. `conditional` says that gcloud knows conditions there: it has to be told that
    there is none, or it asks where the policy has others.
    """

    id: str
    account: str
    role: str
    on: str
    where: tuple[str, ...]
    expression: str | None = None
    conditional: bool = True

    def give(self) -> Step:
        return self._step("add", f"give {self._whom} the role {self._what}", self._bound)

    def take(self) -> Step:
        return self._step("remove", f"take {self._what} from {self._whom}", gone(self._bound))

    def _step(self, verb: str, line: str, state: Judge) -> Step:
        options = (f"--member={self._member}", f"--role={self.role}", *self._condition())
        return Step(
            id=self.id,
            line=line,
            argv=(*self._command(f"{verb}-iam-policy-binding"), *options),
            look=self._command("get-iam-policy"),
            state=state,
        )

    @property
    def _bound(self) -> Judge:
        return bound(self.role, self._member, self.expression)

    @property
    def _member(self) -> str:
        return f"serviceAccount:{self.account}"

    @property
    def _whom(self) -> str:
        return self.account.partition("@")[0]

    @property
    def _what(self) -> str:
        return f"{self.role} on {self.on}" if self.on else self.role

    def _command(self, verb: str) -> tuple[str, ...]:
        return tuple(verb if part == "{}" else part for part in self.where)

    def _condition(self) -> tuple[str, ...]:
        if self.expression:
            return (f"--condition=expression={self.expression},title=goagents-database",)
        return ("--condition=None",) if self.conditional else ()


def on_project(target: Target) -> Iterator[Grant]:
    """Yield what is granted on the project itself."""
    database = f'resource.name=="projects/{target.project}/databases/{target.database}"'
    wanted: list[tuple[str, str, str | None]] = [("build", role, None) for role in BUILD_ROLES]
    # This database alone, not every one of the project.
    wanted += [(function.name, DATA_ROLE, database) for function in target.functions if function.store]
    for purpose, role, expression in wanted:
        yield Grant(
            id=f"role-{purpose}-{role.rpartition('/')[2]}",
            account=target.account(purpose),
            role=role,
            on="",
            where=("projects", "{}", target.project),
            expression=expression,
        )


def on_queue(target: Target) -> Iterator[Grant]:
    where = ("tasks", "queues", "{}", target.prefix, f"--location={target.region}")
    for function in target.functions:
        if function.dispatch:
            yield Grant(
                id=f"{function.name}-{ENQUEUER.rpartition('/')[2]}",
                account=target.account(function.name),
                role=ENQUEUER,
                on=f"the queue {target.prefix}",
                where=where,
                conditional=False,
            )


def on_invoker(target: Target) -> Iterator[Grant]:
    """Yield the right to have the invoker's tokens put into tasks."""
    for function in target.functions:
        if function.dispatch:
            yield Grant(
                id=f"{function.name}-{ACT_AS.rpartition('/')[2]}",
                account=target.account(function.name),
                role=ACT_AS,
                on=target.account_id("invoker"),
                where=("iam", "service-accounts", "{}", target.account("invoker")),
            )


def on_secrets(target: Target, secrets: Iterable[str] | None = None) -> Iterator[Grant]:
    """Yield the right to read secrets: a function's own, or all of `secrets` for each function that may have any."""
    for function in target.functions:
        own = {reference.partition(":")[0] for reference in target.secrets_of(function).values()}
        for secret in sorted(own if secrets is None else secrets if function.models else ()):
            yield Grant(
                id=f"{function.name}-reads-{secret}",
                account=target.account(function.name),
                role=ACCESSOR,
                on=f"the secret {secret}",
                where=("secrets", "{}", secret),
            )
