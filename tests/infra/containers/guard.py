"""Evaluates the admission policies of infra/kubernetes/base/guard.yaml as the API server does: for the runner.

    python guard.py DEV.yaml PROD.yaml

Works in the tools' own environment (PyPI: common-expression-language), on the overlays as they were rendered, and on
what must be refused.
"""

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cel
import yaml

Object = dict[str, Any]
DEPLOYMENTS, SCALE = "goagents-replicas-need-firestore", "goagents-scale-needs-firestore"


def verdict(policy: Object, new: Object, old: Object | None = None) -> list[str]:
    """Return the messages of what the policy refuses. Raises what an expression does that cannot be evaluated."""
    spec, scope = policy["spec"], {"object": new, "oldObject": old}
    if not all(cel.evaluate(one["expression"], scope) for one in spec.get("matchConditions", ())):
        return []
    variables: Object = {}
    for one in spec.get("variables", ()):
        variables[one["name"]] = cel.evaluate(one["expression"], {**scope, "variables": variables})
    scope["variables"] = variables
    return [one["message"] for one in spec["validations"] if cel.evaluate(one["expression"], scope) is not True]


def of(objects: list[Object], kind: str, name: str | None = None) -> Object:
    (found,) = [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    return found


def scale(deployment: Object, replicas: int) -> Object:
    """Return what `kubectl scale` and an autoscaler send, and the API server fills in."""
    labels = deployment["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
    spec = {"replicas": replicas} if replicas else {}  # 0 is left out
    return {"kind": "Scale", "spec": spec, "status": {"replicas": 1, "selector": selector}}


def with_spec(deployment: Object, **spec: Any) -> Object:
    made = copy.deepcopy(deployment)
    made["spec"].update(spec)
    return made


def without_store(deployment: Object) -> Object:
    made = copy.deepcopy(deployment)
    for container in made["spec"]["template"]["spec"]["containers"]:
        container["env"] = [one for one in container["env"] if one["name"] != "GOAGENTS_STORE"]
    return made


def cases(dev: list[Object], prod: list[Object]) -> Iterator[tuple[str, str, Object, Object | None, bool]]:
    """Yield what it is, the policy, the new and the old object, and whether it is let through."""
    one, many = of(dev, "Deployment"), of(prod, "Deployment")
    yield "dev as it is", DEPLOYMENTS, one, None, True
    yield "prod as it is", DEPLOYMENTS, many, None, True
    yield "prod with 20 replicas", DEPLOYMENTS, with_spec(many, replicas=20), many, True
    yield "dev with 2 replicas", DEPLOYMENTS, with_spec(one, replicas=2), one, False
    yield "dev with none", DEPLOYMENTS, with_spec(one, replicas=0), one, True
    yield "prod without its store", DEPLOYMENTS, without_store(many), many, False
    yield "2 replicas without a store", DEPLOYMENTS, with_spec(without_store(many), replicas=2), many, False
    yield (
        "dev that says it is on Firestore",
        DEPLOYMENTS,
        with_spec(one, selector=many["spec"]["selector"]),
        None,
        False,
    )
    yield "dev without the label", DEPLOYMENTS, with_spec(one, selector={"matchLabels": {"a": "b"}}), None, False
    for replicas, let_through in ((0, True), (1, True), (2, False)):
        yield f"dev scaled to {replicas}", SCALE, scale(one, replicas), scale(one, 1), let_through
    yield "prod scaled to 9", SCALE, scale(many, 9), scale(many, 2), True
    yield "another Deployment scaled", SCALE, {"spec": {"replicas": 9}}, {"status": {"selector": "app=x"}}, True


def main(dev_path: str, prod_path: str) -> int:
    dev, prod = ([*yaml.safe_load_all(Path(path).read_text(encoding="utf-8"))] for path in (dev_path, prod_path))
    wrong = tried = 0
    for what, name, new, old, let_through in cases(dev, prod):
        for objects in (dev, prod):
            refused = verdict(of(objects, "ValidatingAdmissionPolicy", name), new, old)
            tried += 1
            if bool(refused) == let_through:
                wrong += 1
                sys.stdout.write(f"{what}: {'refused' if refused else 'let through'}, and should not be: {refused}\n")
    sys.stdout.write(f"admission policies: {tried} objects judged, {wrong} wrongly\n")
    return 1 if wrong or not tried else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
