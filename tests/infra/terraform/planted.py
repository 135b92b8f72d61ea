"""Defects, planted one at a time: the checks of a plan, and Terraform with the schema, have to find each of them."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from . import planned

Plan = dict[str, Any]


def _modules(plan: Plan) -> list[dict[str, Any]]:
    found, rest = [], [plan["planned_values"]["root_module"]]
    while rest:
        module = rest.pop()
        found.append(module)
        rest += module.get("child_modules", ())
    return found


def without(kind: str, *indexes: str) -> Callable[[Plan], None]:
    """Take resources away: those with these indexes, or the first."""

    def plant(plan: Plan) -> None:
        for module in _modules(plan):
            for each in list(module.get("resources", ())):
                if each["type"] == kind and (not indexes or each.get("index") in indexes):
                    module["resources"].remove(each)
                    return
        raise KeyError(kind)

    return plant


def changed(kind: str, index: str | None, change: Callable[[dict[str, Any]], None]) -> Callable[[Plan], None]:
    def plant(plan: Plan) -> None:
        (found,) = [each for each in planned.resources(plan, kind) if index is None or each.get("index") == index]
        change(found["values"])

    return plant


def _container(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = values["template"][0]["containers"][0]
    return found


def _public(plan: Plan) -> None:
    each = planned.resources(plan, "google_cloud_run_v2_service_iam_member")[0]
    each["values"]["member"] = "allUsers"


def _user_may_work(plan: Plan) -> None:
    each = planned.resources(plan, "google_cloud_run_v2_service_iam_member")[0]
    each["index"] = "europe-west1/worker/user:eve@example.com"


def _released(there: str, instead: str) -> Callable[[Plan], None]:
    """Have the commands that release say something else."""

    def plant(plan: Plan) -> None:
        output = plan["planned_values"]["outputs"]["release_commands"]
        if there not in output["value"]:
            raise KeyError(there)
        output["value"] = output["value"].replace(there, instead)

    return plant


def _store_of_another(values: dict[str, Any]) -> None:
    (found,) = [each for each in _container(values)["env"] if each["name"] == "GOAGENTS_STORE"]
    found["value"] = "firestore://my-project/another"


def _untagged_alone(values: dict[str, Any]) -> None:
    (deleted,) = [each for each in values["cleanup_policies"] if each["action"] == "DELETE"]
    deleted["condition"][0]["tag_state"] = "UNTAGGED"


def _kept_no_more(policy: str) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        (found,) = [each for each in values["cleanup_policies"] if each["id"] == policy]
        values["cleanup_policies"].remove(found)

    return change


def _agents_before_chat(plan: Plan) -> None:
    maps = [each for each in planned.values(plan, "google_compute_url_map") if each["path_matcher"]]
    rules = maps[0]["path_matcher"][0]["route_rules"]
    routes = plan["planned_values"]["outputs"]["routes"]["value"]
    at = next(n for n, rule in enumerate(rules) if rule["match_rules"][0]["path_template_match"] == "/api/v1/agents/**")
    rules.insert(0, {**rules.pop(at), "priority": 1})
    routes.insert(0, routes.pop(at))


PLAN: Mapping[str, Callable[[Plan], None]] = {
    "a function without its service": without("google_cloud_run_v2_service", "europe-west1/chat"),
    "a function without its account": without("google_service_account", "chat"),
    "a database that goes with what made it": changed(
        "google_firestore_database", None, lambda values: values.update(deletion_policy="DELETE")
    ),
    "a database that anybody may delete": changed(
        "google_firestore_database",
        None,
        lambda values: values.update(delete_protection_state="DELETE_PROTECTION_DISABLED"),
    ),
    "a function that may not use the database": without("google_project_iam_member", "chat/(default)"),
    "a function that may use every database": changed(
        "google_project_iam_member", "chat/(default)", lambda values: values.update(condition=[])
    ),
    "a function with a database of its own": changed(
        "google_cloud_run_v2_service", "europe-west1/chat", _store_of_another
    ),
    "a service that the release may not try": without(
        "google_cloud_run_v2_service_iam_member", "europe-west1/chat/release"
    ),
    "images of which each is kept": changed("google_artifact_registry_repository", None, _untagged_alone),
    "images that a tag keeps": changed(
        "google_artifact_registry_repository",
        None,
        lambda values: values["docker_config"][0].update(immutable_tags=True),
    ),
    "images of which few are kept": changed("google_artifact_registry_repository", None, _kept_no_more("keep-recent")),
    "the first image, which is not kept": changed(
        "google_artifact_registry_repository", None, _kept_no_more("keep-first")
    ),
    "a release of a function that has no service": _released("_FUNCTIONS=", "_FUNCTIONS=gateway,"),
    "a release of all functions": _released("_FUNCTIONS=", "_OTHERS="),
    "a release by another account": _released("--service-account=", "--service-account=another-"),
    "a release to another region": _released("_REGION=europe-west1", "_REGION=europe-west4"),
    "a build in another region": _released("--region=europe-west1", "--region=europe-west4"),
    "a release of the functions that a comma ends": _released("'^;^", "'"),
    "a query without its index": without("google_firestore_index"),
    "an index that is read downward, and made upward": changed(
        "google_firestore_index",
        "runs-principal.ascending-created_at.descending",
        lambda values: values["fields"][1].update(order="ASCENDING"),
    ),
    "a field that is indexed": without("google_firestore_field", "runs.usage"),
    "documents that never expire": changed(
        "google_firestore_field", "runs.expire_at", lambda values: values.update(ttl_config=[])
    ),
    "a secret without its place": without("google_secret_manager_secret", "OPENAI_API_KEY"),
    "a secret that its function may not read": without(
        "google_secret_manager_secret_iam_member", "OPENAI_API_KEY/chat"
    ),
    "secrets for a function that calls no model": changed(
        "google_cloud_run_v2_service",
        "europe-west1/health",
        lambda values: _container(values)["env"].append({"name": "OPENAI_API_KEY", "value_source": [{}]}),
    ),
    "another function than its name says": changed(
        "google_cloud_run_v2_service",
        "europe-west1/chat",
        lambda values: next(e for e in _container(values)["env"] if e["name"] == "FUNCTION_TARGET").update(
            value="runs"
        ),
    ),
    "less memory than functions.json says": changed(
        "google_cloud_run_v2_service",
        "europe-west1/chat",
        lambda values: _container(values)["resources"][0]["limits"].update(memory="128Mi"),
    ),
    "everybody may call": _public,
    "a user may call the worker": _user_may_work,
    "the queue may not call the worker": without(
        "google_cloud_run_v2_service_iam_member", "europe-west1/worker/invoker"
    ),
    "the scheduler calls something else": changed(
        "google_cloud_scheduler_job", None, lambda values: values["http_target"][0].update(uri="https://example.com/")
    ),
    "a path that goes to another function": _agents_before_chat,
}

# The module, what is there in its main.tf, and what is planted instead.
SOURCE: Mapping[str, tuple[str, str, str]] = {
    "an attribute that there is not": ("dispatch", "max_attempts       = 20", "max_tries = 20"),
    "a block that there is not": ("dispatch", "  rate_limits {", "  limits {"),
    "a block twice": (
        "dispatch",
        "  http_target {",
        '  http_target {\n    uri = "https://a.b"\n  }\n\n  http_target {',
    ),
    "a required attribute that is not set": ("dispatch", "  location = var.region\n  name     = var.name\n", ""),
    "a text for a number": ("dispatch", "retry_count = 0", 'retry_count = "none"'),
    "a resource that there is not": (
        "dispatch",
        '"google_cloud_tasks_queue" "runs"',
        '"google_cloud_task_queue" "runs"',
    ),
    "an attribute of another that is not there": (
        "dispatch",
        "google_cloud_tasks_queue.runs.name",
        "google_cloud_tasks_queue.runs.title",
    ),
    "a value that there is not": ("registry", 'action = "KEEP"', 'action = "HOLD"'),
}


def unnoticed(plan: Plan) -> list[str]:
    """Return the defects of a plan that no check finds. Raises AssertionError where it has faults to begin with."""
    assert not list(planned.faults(plan, split=True))
    missed = []
    for name, plant in PLAN.items():
        broken = copy.deepcopy(plan)
        plant(broken)
        if not list(planned.faults(broken, split=True)):
            missed.append(name)
    return missed
