"""The overlays as `kubectl kustomize` renders them, and the rule about replicas that they have to keep."""

import copy
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.benchmarks.servers import ROOT

KUBERNETES = ROOT / "infra" / "kubernetes"
OVERLAYS = ("dev", "prod")
REQUIRED = "GOAGENTS_KUBECTL_REQUIRED"  # set where these tests must not be skipped
Object = dict[str, Any]


def kubectl(*words: str | Path) -> str:
    """Return what kubectl prints. Skips the test where there is none, fails it if it complains."""
    if shutil.which("kubectl") is None:
        missing = "kubectl is not installed: see kubernetes.io/docs/tasks/tools"
        if os.environ.get(REQUIRED):
            pytest.fail(missing)
        pytest.skip(missing)
    made = subprocess.run(["kubectl", *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    assert not made.stderr, made.stderr  # kustomize warns of what is deprecated
    return made.stdout


def render(folder: Path) -> list[Object]:
    """Return the objects of a kustomization."""
    return [each for each in yaml.safe_load_all(kubectl("kustomize", folder)) if each]


def of(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """Return the one object of a kind (and name)."""
    (found,) = [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    return found


def pods(objects: list[Object]) -> dict[str, Object]:
    """Return the pod templates by what makes pods of them."""
    found = {}
    for each in objects:
        if each["kind"] == "Deployment":
            found[each["metadata"]["name"]] = each["spec"]["template"]
        if each["kind"] == "CronJob":
            found[each["metadata"]["name"]] = each["spec"]["jobTemplate"]["spec"]["template"]
    return found


def environment(container: Object) -> dict[str, Any]:
    """Return the variables; one that comes from elsewhere is what says where."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container.get("env", ())}


def selected(selector: Object, labels: dict[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", selector).items())


def most_replicas(objects: list[Object]) -> int:
    """Return how many replicas of the gateway there may come to be."""
    counts = [of(objects, "Deployment")["spec"].get("replicas") or 1]
    counts += [each["spec"]["maxReplicas"] for each in objects if each["kind"] == "HorizontalPodAutoscaler"]
    return max(counts)


def wrong_with_replicas(objects: list[Object]) -> list[str]:
    """Return what is wrong: more than one replica needs Firestore, and SQLite a volume that no second pod gets."""
    deployment = of(objects, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    store = environment(container).get("GOAGENTS_STORE", "")
    shared = store.startswith("firestore://")
    wrong = []
    if most_replicas(objects) > 1 and not shared:
        wrong.append(f"{most_replicas(objects)} replicas on {store or 'no store'}: more than one need Firestore")
    label = deployment["spec"]["selector"]["matchLabels"].get("goagents.dev/store")
    if label != ("firestore" if shared else "sqlite"):
        wrong.append(f"the selector's label says {label}, GOAGENTS_STORE {store}")
    if not shared:
        claims = [each for each in objects if each["kind"] == "PersistentVolumeClaim"]
        if [claim["spec"]["accessModes"] for claim in claims] != [["ReadWriteOncePod"]]:
            wrong.append("SQLite needs one volume of the mode ReadWriteOncePod")
        if deployment["spec"].get("strategy", {}).get("type") != "Recreate":
            wrong.append("SQLite needs the strategy Recreate: an old pod and a new one are two")
    return wrong


def changed(objects: list[Object], **spec: Any) -> list[Object]:
    """Return a copy whose Deployment has these fields of its spec."""
    made = copy.deepcopy(objects)
    of(made, "Deployment")["spec"].update(spec)
    return made
