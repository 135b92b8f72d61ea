"""Where it is deployed to, and under which names. Standard library only: the release pipeline uses it, too."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from goagents.errors import FieldError, Invalid

from .catalogue import GATEWAY, Function, serving

CONFIG = "infra/gcp/config.yaml"
UNKNOWN_NUMBER = "PROJECT_NUMBER"  # what a plan says that was made without asking Google
# Cloud Run holds each service's most instances x CPU against the region's quota: 20 CPUs in a project that is new.
MAX_INSTANCES = 10
REQUEST_TIMEOUT = 300  # seconds; server.timeout, where the function may take longer
_LONGEST_ACCOUNT = 30
_RULES = {
    "project": (r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "a project's id, such as my-project (not its name or number)"),
    "region": (r"[a-z]+-[a-z]+[0-9]+", "a region, such as europe-west1"),
    "prefix": (r"[a-z][a-z0-9-]*[a-z0-9]", "lower-case letters, digits and hyphens, such as goagents"),
    "database": (r"\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9]", "a Firestore database's id, such as (default)"),
    "database_location": (r"[a-z]+[0-9]|[a-z]+-[a-z]+[0-9]+", "a location of Firestore, such as eur3 or europe-west1"),
    "runtime": (r"python3[0-9]{2}", "a Python runtime of Cloud Run functions, such as python311"),
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
# What a deployment or the platform sets. A secret of such a name would take its place.
RESERVED = re.compile(
    r"GOAGENTS_(CONFIG|STORE|QUEUE|WORKER_URL|INVOKER|LOG_LEVEL|TIMEOUT)|GOOGLE_CLOUD_PROJECT|PORT|HOST|K_.*"
    r"|(FUNCTION|GOOGLE_FUNCTION|CLOUD_RUN|X_GOOGLE)_.*"
)
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,255}(:(latest|[1-9][0-9]*))?")
_MEMBER = re.compile(r"(user|group|serviceAccount|domain):[^\s,@:]+(@[^\s,@:]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A deployment. `secrets` are names in Secret Manager by the variable they are bound to, `invokers` the members
    that may call what users call, `number` the project's number, `min_instances` how many are kept warm of a function.

    Raises Invalid that names every value that cannot be one.
    """

    project: str
    region: str
    functions: tuple[Function, ...]
    prefix: str = "goagents"
    source: Path = field(default_factory=Path)
    config: str = CONFIG
    database: str = "(default)"
    database_location: str = ""
    runtime: str = "python311"
    secrets: Mapping[str, str] = field(default_factory=dict)
    invokers: tuple[str, ...] = ()
    allow_unauthenticated: bool = False
    min_instances: Mapping[str, int] = field(default_factory=dict)
    max_instances: int = MAX_INSTANCES
    number: str = UNKNOWN_NUMBER

    def __post_init__(self) -> None:
        errors = [
            FieldError(name.replace("_", "-"), f"{getattr(self, name)!r} is not {form}")
            for name, (pattern, form) in _RULES.items()
            if (name != "database_location" or self.database_location)
            and not re.fullmatch(pattern, getattr(self, name))
        ]
        longest = max((len(self.account_id(function.name)) for function in self.functions), default=0)
        if longest > _LONGEST_ACCOUNT:
            errors.append(FieldError("prefix", f"is {longest - _LONGEST_ACCOUNT} characters too long"))
        errors += [
            FieldError("secret", f"{variable}={secret} is not VARIABLE=SECRET or VARIABLE=SECRET:VERSION")
            for variable, secret in self.secrets.items()
            if not _VARIABLE.fullmatch(variable) or not _SECRET.fullmatch(secret)
        ]
        errors += [
            FieldError("secret", f"{variable}={secret}: the deployment sets {variable} itself; choose another variable")
            for variable, secret in self.secrets.items()
            if RESERVED.fullmatch(variable)
        ]
        errors += [
            FieldError("invoker", f"{member!r} is not a member, such as user:ann@example.com or group:, domain:")
            for member in self.invokers
            if not _MEMBER.fullmatch(member)
        ]
        deployed = [function.name for function in self.functions]
        errors += [
            FieldError("min-instances", f"{name}={count}: {fault}")
            for name, count in self.min_instances.items()
            for fault in _instances_faults(name in deployed, count, self.max_instances)
        ]
        if errors:
            raise Invalid("This cannot be deployed to:", errors=errors)

    def service(self, function: Function) -> str:
        return f"{self.prefix}-{function.name}"

    def account_id(self, purpose: str) -> str:
        return f"{self.prefix}-{purpose}"

    def account(self, purpose: str) -> str:
        """Return the e-mail address of a service account: of the function with this name, `invoker` or `build`."""
        return f"{self.account_id(purpose)}@{self.project}.iam.gserviceaccount.com"

    def url(self, function: Function) -> str:
        """Return the address that Cloud Run gives the function, known before there is one."""
        return f"https://{self.service(function)}-{self.number}.{self.region}.run.app"

    @property
    def store(self) -> str:
        return f"firestore://{self.project}/{self.database}"

    @property
    def queue(self) -> str:
        return f"projects/{self.project}/locations/{self.region}/queues/{self.prefix}"

    @property
    def worker(self) -> Function:
        return serving(self.functions, "/worker")

    @property
    def sweeper(self) -> Function:
        return serving(self.functions, "/sweep")

    @property
    def server(self) -> Function:
        """The function that the command line speaks to: the one that serves everything, where it is deployed."""
        gateway = next((function for function in self.functions if function.name == GATEWAY), None)
        return gateway or serving(self.functions, "/api/v1/clusters")

    def environment(self, function: Function) -> dict[str, str]:
        """Return the variables of a function, without those that Secret Manager fills."""
        return {
            "GOAGENTS_CONFIG": self.config,
            "GOAGENTS_STORE": self.store,
            "GOAGENTS_QUEUE": self.queue,
            "GOAGENTS_WORKER_URL": f"{self.url(self.worker)}/worker",
            "GOAGENTS_INVOKER": self.account("invoker"),
            "GOAGENTS_TIMEOUT": f"{min(function.timeout, REQUEST_TIMEOUT)}s",
            "GOOGLE_CLOUD_PROJECT": self.project,
        }

    def secrets_of(self, function: Function) -> dict[str, str]:
        """Return `SECRET:VERSION` by variable; only a function that calls models or tools has any."""
        if not function.models:
            return {}
        return {name: secret if ":" in secret else f"{secret}:latest" for name, secret in self.secrets.items()}


def _instances_faults(deployed: bool, count: int, most: int) -> list[str]:
    if not deployed:
        return ["no function of this name is deployed"]
    return [] if 0 <= count <= most else [f"must be from 0 to --max-instances, which is {most}"]
