"""What a release leaves of a service, as Terraform then finds it: no change of its own, and any other one goes through.

A service is planned, given the state it would have, and the marks of `gcloud run deploy`; then it is planned again. The
module stands alone for it, so that nothing it is told is known only after an apply.
"""

import copy
import json
from collections.abc import Mapping
from typing import Any

from goagents.deploy.catalogue import catalogue

from . import planned
from .schema import SCHEMA

KIND = "google_cloud_run_v2_service"
FOLDER = "released"  # beside `modules`
IMAGE = "registry/goagents:released"
REVISION = "goagents-chat-00002-abc"
_EMPTY: Mapping[str, Any] = {"string": "", "number": 0, "bool": False, "list": [], "set": [], "map": {}}
Plan = dict[str, Any]


def configuration(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the module `functions` with all it is told, as main.tf.json."""
    function = catalogue()["chat"]
    fields = ("cpu", "memory", "concurrency", "timeout", "called_by", "paths", "models")
    given = {
        "source": "../modules/functions",
        "project": "my-project",
        "prefix": "goagents",
        "regions": ["europe-west1"],
        "functions": {"chat": {name: getattr(function, name) for name in fields}},
        "image": "registry/goagents:first",
        "accounts": {"chat": "chat@example.com"},
        "environment": dict(environment),
        "own_environment": {},
        "secrets": {"OPENAI_API_KEY": "openai-api-key"},
        "request_timeout": 300,
        "invoker": "invoker@example.com",
        "releaser": "serviceAccount:release@example.com",
        "internal": [],
        "invokers": [],
        "watched": "health",
        "monitoring_agent": None,
        "audiences": [],
        "restrict_ingress": False,
        "min_instances": {},
        "max_instances": 5,
        "deletion_protection": True,
        "labels": {"app": "goagents"},
    }
    return {"module": {"functions": given}}


def state(plan: Plan, *, revision: str | None = None) -> dict[str, Any]:
    """Return Terraform's state after an apply of the plan and a release. `revision`: the name that the template has."""
    (service,) = planned.resources(plan, KIND)
    (provider,) = {each["provider_name"] for each in plan["resource_changes"] if each["type"] == KIND}
    block = json.loads(SCHEMA.read_text(encoding="utf-8"))["resource"][KIND]
    values = _applied(block, copy.deepcopy(service["values"]))
    _release(values, revision)
    module = service["address"].partition(f".{KIND}.")[0]
    instance = {"index_key": service["index"], "schema_version": 0, "attributes": values, "sensitive_attributes": []}
    resource = {"module": module, "mode": "managed", "type": KIND, "name": service["name"]}
    resource |= {"provider": f'provider["{provider}"]', "instances": [instance]}
    return {"version": 4, "terraform_version": plan["terraform_version"], "serial": 1, "lineage": "a"} | {
        "outputs": {},
        "resources": [resource],
        "check_results": None,
    }


def _applied(block: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Fill in what only the provider says, so that nothing of it is unknown any more."""
    for name, each in block["attributes"].items():
        if values.get(name) is None:
            kind = each["type"] if isinstance(each["type"], str) else each["type"][0]
            values[name] = copy.deepcopy(_EMPTY[kind]) if "computed" in each["is"] else None
    for name, nested in block["blocks"].items():
        found = values.setdefault(name, None if nested["nesting"] == "single" else [])
        for inner in [found] if isinstance(found, dict) else found or ():
            _applied(nested["block"], inner)
    return values


def _release(values: dict[str, Any], revision: str | None) -> None:
    """Mark the service as `gcloud run deploy` and `update-traffic` do."""
    values |= {"client": "gcloud", "client_version": "528.0.0"}
    (template,) = values["template"]
    template["revision"] = revision
    template["labels"] = {**template["labels"], "client.knative.dev/nonce": "lwjmnzlxsm"}
    template["annotations"] = {"client.knative.dev/user-image": IMAGE}
    template["containers"][0]["image"] = IMAGE
    share: dict[str, Any] = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}
    tagged = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": REVISION, "tag": "candidate"}
    values["traffic"] = [dict.fromkeys(("type", "percent", "revision", "tag")) | each for each in (share, tagged)]


def changed(plan: Plan) -> dict[str, tuple[Any, Any]]:
    """Return what of the service the plan changes: before and after, by the name of the attribute."""
    (change,) = [each["change"] for each in plan["resource_changes"] if each["type"] == KIND]
    if change["actions"] == ["no-op"]:
        return {}
    before, after = (_flat(change[name]) for name in ("before", "after"))
    return {name: (before.get(name), after.get(name)) for name in before | after if before.get(name) != after.get(name)}


def _flat(service: dict[str, Any]) -> dict[str, Any]:
    (template,) = service["template"]
    container = template["containers"][0]
    found = {name: value for name, value in service.items() if name != "template"}
    found |= {f"template.{name}": value for name, value in template.items() if name != "containers"}
    return found | {f"container.{name}": value for name, value in container.items()}
