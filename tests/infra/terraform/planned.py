"""What a plan has to hold: everything the code needs, and nothing that lets in whom nobody named."""

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from goagents.app import FUNCTIONS
from goagents.deploy.catalogue import GATEWAY, catalogue
from goagents.deploy.plan_store import exempt_fields, expiring_collections
from goagents.spec.check import KEY_VARIABLES
from goagents.store.indexes import INDEXES

from . import released

ROOT = Path(__file__).parents[3]
PUBLIC = {"allUsers", "allAuthenticatedUsers"}
Plan = dict[str, Any]


def resources(plan: Plan, kind: str) -> list[dict[str, Any]]:
    """Return all planned resources of one type, of all modules: `address`, `index` and `values`."""

    def below(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from (each for each in module.get("resources", ()) if each["type"] == kind)
        for child in module.get("child_modules", ()):
            yield from below(child)

    return list(below(plan["planned_values"]["root_module"]))


def values(plan: Plan, kind: str) -> list[dict[str, Any]]:
    return [each["values"] for each in resources(plan, kind)]


def faults(plan: Plan, *, split: bool) -> Iterator[str]:
    """Yield what is wrong. `split`: one service for each function, rather than the gateway."""
    for check in (_functions, _callers, _databases, _index, _fields, _secrets, _schedule, _release):
        yield from check(plan, split)
    if split:
        yield from _routes(plan)


def _expected(split: bool) -> set[str]:
    found = {path.parent.name for path in (ROOT / "functions").glob("*/main.py")}
    return found - {GATEWAY} if split else {GATEWAY}


def _services(plan: Plan) -> dict[str, dict[str, Any]]:
    return {each["index"]: each["values"] for each in resources(plan, "google_cloud_run_v2_service")}


def _functions(plan: Plan, split: bool) -> Iterator[str]:
    services = _services(plan)
    regions = {key.partition("/")[0] for key in services}
    wanted = {f"{region}/{name}" for region in regions for name in _expected(split)}
    if missing := sorted(wanted ^ services.keys()):
        yield f"functions/ and the services differ: {', '.join(missing)}"
    for key, service in services.items():
        function = catalogue().get(key.partition("/")[2])
        if function is None:
            continue
        (template,) = service["template"]
        (container,) = template["containers"]
        given = {each["name"]: each.get("value") for each in container["env"] if not each["value_source"]}
        if (given["FUNCTION_TARGET"], given["FUNCTION_SOURCE"]) != (function.name, function.source):
            yield f"{key}: serves {given['FUNCTION_TARGET']} of {given['FUNCTION_SOURCE']}"
        limits = container["resources"][0]["limits"]
        sizes = (limits["cpu"], limits["memory"], template["max_instance_request_concurrency"], template["timeout"])
        if sizes != (function.cpu, function.memory, function.concurrency, f"{function.timeout}s"):
            yield f"{key}: functions.json says otherwise than {sizes}"
        bound = {each["name"] for each in container["env"] if each["value_source"]}
        if bool(bound) != function.models:
            yield f"{key}: has the secrets {sorted(bound)}, and functions.json says models: {function.models}"
        probe = next(iter(container["startup_probe"]))
        if not probe["http_get"] and not probe["tcp_socket"]:
            yield f"{key}: has no startup probe"


def _callers(plan: Plan, split: bool) -> Iterator[str]:
    accounts = {each["account_id"] for each in values(plan, "google_service_account")}
    for name in (*_expected(split), "invoker"):
        if f"goagents-{name}" not in accounts:
            yield f"{name} has no service account of its own"
    bindings = resources(plan, "google_cloud_run_v2_service_iam_member")
    for each in bindings:
        service, _, caller = each["index"].rpartition("/")
        if each["values"].get("member") in PUBLIC:
            yield f"everybody may call {service}"
        if service.endswith(("/worker", "/sweeper")) and caller not in ("invoker", "release"):
            yield f"{caller} may call {service}"
    asked = {each["index"].removesuffix("/release") for each in bindings if each["index"].endswith("/release")}
    if untried := sorted(_services(plan).keys() - asked):
        yield f"the release may not try {', '.join(untried)}"
    for name in ("worker", "sweeper") if split else (GATEWAY,):
        if not any(each["index"].endswith(f"/{name}/invoker") for each in bindings):
            yield f"nobody may call {name}: neither the queue nor the scheduler gets through"


def _databases(plan: Plan, split: bool) -> Iterator[str]:
    """Documents are never lost, and each function may use the databases there are, and no others."""
    databases = {each["name"]: each for each in values(plan, "google_firestore_database")}
    for name, each in databases.items():
        if (each["deletion_policy"], each["delete_protection_state"]) != ("ABANDON", "DELETE_PROTECTION_ENABLED"):
            yield f"the database {name} may be deleted"
    stores = {
        variable["value"]
        for service in _services(plan).values()
        for variable in service["template"][0]["containers"][0]["env"]
        if variable["name"] == "GOAGENTS_STORE"
    }
    if len(stores) != 1 or not stores <= {f"firestore://my-project/{name}" for name in databases}:
        yield f"the functions are told of {', '.join(sorted(stores))}, which is not one database there is"
    wanted = {
        f'{name}/{database}: resource.name == "projects/my-project/databases/{database}"'
        for database in databases
        for name in _expected(split)
        if catalogue()[name].store
    }
    grants = [
        each
        for each in resources(plan, "google_project_iam_member")
        if each["values"]["role"].startswith("roles/datastore.")
    ]
    given = {
        f"{each.get('index')}: {(each['values']['condition'] or [{'expression': 'every'}])[0]['expression']}"
        for each in grants
    }
    if differ := sorted(wanted ^ given):
        yield f"may use a database, or may not: {differ}"


def _release(plan: Plan, _: bool) -> Iterator[str]:
    (repository,) = values(plan, "google_artifact_registry_repository")
    yield from released.faults(plan, _services(plan), repository["location"])
    yield from released.unkept(repository, _services(plan))


def _index(plan: Plan, _: bool) -> Iterator[str]:
    made = {
        (each["collection"], tuple((field["field_path"], field["order"]) for field in each["fields"]))
        for each in values(plan, "google_firestore_index")
        if each["database"] == "(default)"
    }
    needed = set()
    for index in INDEXES:
        if len(index.fields) > 1:
            orders = ["ASCENDING"] * (len(index.fields) - 1) + ["DESCENDING" if index.descending else "ASCENDING"]
            needed.add((index.collection, tuple(zip(index.fields, orders, strict=True))))
    for collection, fields in sorted(needed ^ made):
        yield f"the index of {collection} on {fields} is {'not made' if (collection, fields) in needed else 'useless'}"


def _fields(plan: Plan, _: bool) -> Iterator[str]:
    made = [each for each in values(plan, "google_firestore_field") if each["database"] == "(default)"]
    exempt = {(each["collection"], each["field"]) for each in made if each["index_config"] == [{"indexes": []}]}
    expiring = {(each["collection"], each["field"]) for each in made if each["ttl_config"]}
    if differ := sorted(exempt ^ set(exempt_fields())):
        yield f"exempt from indexes, or not: {differ}"
    if differ := sorted(expiring ^ {(group, "expire_at") for group in expiring_collections()}):
        yield f"expires, or does not: {differ}"


def _secrets(plan: Plan, split: bool) -> Iterator[str]:
    secrets = {each["index"]: each["values"]["secret_id"] for each in resources(plan, "google_secret_manager_secret")}
    if split and (missing := sorted(set(KEY_VARIABLES.values()) - secrets.keys())):
        yield f"no secret for {', '.join(missing)}"
    readers = {each["index"] for each in resources(plan, "google_secret_manager_secret_iam_member")}
    wanted = {f"{name}/{reader}" for name in secrets for reader in _expected(split) if catalogue()[reader].models}
    if differ := sorted(readers ^ wanted):
        yield f"may read secrets, or may not: {differ}"


def _schedule(plan: Plan, split: bool) -> Iterator[str]:
    (job,) = values(plan, "google_cloud_scheduler_job")
    name = "sweeper" if split else GATEWAY
    if not re.fullmatch(rf"https://goagents-{name}-\d+\.[a-z0-9-]+\.run\.app/sweep", job["http_target"][0]["uri"]):
        yield f"the scheduler calls {job['http_target'][0]['uri']}"


def _routes(plan: Plan) -> Iterator[str]:
    """The URL map sends each path of the API to the function that has it."""
    routes = plan["planned_values"]["outputs"]["routes"]["value"]
    (matcher,) = next(each["path_matcher"] for each in values(plan, "google_compute_url_map") if each["path_matcher"])
    rules = sorted(matcher["route_rules"], key=lambda rule: rule["priority"])
    tests = [_matcher(rule["match_rules"][0]) for rule in rules]
    for name, modules in FUNCTIONS.items():
        if name == GATEWAY or catalogue()[name].called_by != "users":
            continue
        for route in (route for module in modules for route in import_module(f"goagents.api.{module}").routes):
            path = re.sub(r"\{[^}]*\}", "a.b", route.path)
            serving = next((routes[number]["function"] for number, fits in enumerate(tests) if fits(path)), None)
            if serving != name:
                yield f"{path} goes to {serving}, and {name} has it"


def _matcher(rule: dict[str, Any]) -> Callable[[str], bool]:
    whole, template = rule["full_path_match"], rule["path_template_match"]
    if whole:
        return whole.__eq__
    pattern = re.escape(template).replace(r"\*\*", ".*").replace(r"\*", "[^/]+")
    return lambda path: re.fullmatch(pattern, path) is not None
