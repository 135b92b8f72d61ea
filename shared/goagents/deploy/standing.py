"""What stands in the project already, under names of ours or on the same database: seen before anything is changed."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from goagents.errors import Invalid

from .carry_out import AT_ONCE
from .catalogue import Function, select
from .gcloud import Gcloud
from .plan_functions import INVOKER, Callers, callers, policy
from .target import Target

_RUN = "run.googleapis.com"
_SHOWN = 5  # services that an error names


@dataclass(frozen=True, slots=True)
class Service:
    """A service of Cloud Run; `from_source` says that it is a function, `store` is its GOAGENTS_STORE, if any."""

    name: str
    region: str
    from_source: bool
    store: str

    def __str__(self) -> str:
        return f"{self.name} in {self.region}"


def services(gcloud: Gcloud) -> tuple[Service, ...]:
    """Return the project's services, of every region: the accounts' names are those of all. Raises GcloudFailed."""
    enabled = gcloud.read(("services", "list", "--enabled")) or ()
    if all(each.get("config", {}).get("name") != _RUN for each in enabled):
        return ()
    return tuple(map(_service, gcloud.read(("run", "services", "list")) or ()))


def _service(found: dict[str, Any]) -> Service:
    metadata, labels = found["metadata"], found["metadata"].get("labels", {})
    containers = found.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())
    variables = {each["name"]: each.get("value", "") for one in containers for each in one.get("env", ())}
    return Service(
        name=metadata["name"],
        region=labels.get("cloud.googleapis.com/location", ""),
        from_source=labels.get("goog-managed-by") == "cloudfunctions",
        store=variables.get("GOAGENTS_STORE", ""),
    )


def ours(target: Target, standing: Iterable[Service]) -> list[Service]:
    """Return those with names of this prefix, whichever functions are deployed: they share accounts."""
    names = {target.service(function) for function in select()}
    return [service for service in standing if service.name in names]


def check_from_source(target: Target, standing: Iterable[Service]) -> None:
    """Raise Invalid where something else made services of these names: accounts and queue are theirs, too."""
    if others := [service for service in ours(target, standing) if not service.from_source]:
        raise Invalid(
            f"{_named(others)}: not deployed from source, so by Terraform or the pipeline, under the names of this "
            "prefix. Nothing was changed. Name another --prefix, or take it away first by what made it (terraform "
            "destroy)."
        )


def other_callers(target: Target, standing: Iterable[Service], gcloud: Gcloud) -> Callers:
    """Ask who may call the functions and is not among those that should. Raises GcloudFailed.

    Also by another hand than ours: who may call is said by the options, all of it.
    """
    there = {service.name for service in standing if service.region == target.region}
    functions = [function for function in target.functions if target.service(function) in there]

    def others(function: Function) -> list[str]:
        bindings = (gcloud.read(policy(target, function)) or {}).get("bindings", ())
        members = {
            member
            for binding in bindings
            if binding.get("role") == INVOKER and not binding.get("condition")
            for member in binding.get("members", ())
        }
        return sorted(members.difference(callers(target, function)))

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        found = zip(functions, pool.map(others, functions), strict=True)
        return {function.name: members for function, members in found if members}


def elsewhere(target: Target, standing: Iterable[Service]) -> list[Service]:
    """Return those of this prefix in other regions: they have the same accounts, and a queue of their own."""
    return [service for service in ours(target, standing) if service.region != target.region]


def check_database_unused(target: Target, standing: Iterable[Service]) -> None:
    """Raise Invalid where a service of another deployment has its state in this database."""
    standing = tuple(standing)
    own = {service for service in ours(target, standing) if service.region == target.region}
    if others := [service for service in standing if service.store == target.store and service not in own]:
        raise Invalid(
            f"{_named(others)}: has its state in the database {target.database}, too. Nothing was deleted. Take that "
            "away first, or leave --data out."
        )


def _named(services_found: list[Service]) -> str:
    more = len(services_found) - _SHOWN
    return ", ".join(map(str, services_found[:_SHOWN])) + (f" and {more} more" if more > 0 else "")
