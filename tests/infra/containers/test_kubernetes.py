"""The overlays, rendered: they hold together, run without rights, and have more than one replica on Firestore alone."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.infra.containers.image import Image
from tests.infra.containers.kubernetes import (
    KUBERNETES,
    OVERLAYS,
    Object,
    changed,
    environment,
    most_replicas,
    of,
    pods,
    render,
    selected,
    wrong_with_replicas,
)

from goagents.spec.config import Config
from goagents.spec.load import load_files

HASHES = {"GOAGENTS_KEY_HASH": "a" * 64, "GOAGENTS_METRICS_KEY_HASH": "b" * 64}
GRACE = 10  # seconds that the image may take to end


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def objects(overlay: str) -> list[Object]:
    return render(KUBERNETES / "overlays" / overlay)


def container_of(objects: list[Object]) -> Object:
    (found,) = of(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def configured(objects: list[Object], folder: Path) -> Config:
    """Read the configuration as the pod does: the files of its ConfigMap that GOAGENTS_CONFIG names."""
    (volume,) = [v for v in of(objects, "Deployment")["spec"]["template"]["spec"]["volumes"] if v["name"] == "config"]
    held = of(objects, "ConfigMap", volume["configMap"]["name"])["data"]
    for name, text in held.items():
        (folder / name).write_text(text, encoding="utf-8")
    paths = environment(container_of(objects))["GOAGENTS_CONFIG"].split(":")
    assert {str(Path(path).parent) for path in paths} == {"/etc/goagents"}
    assert {Path(path).name for path in paths} == set(held)
    return load_files([folder / Path(path).name for path in paths], environ=HASHES).config


def test_more_than_one_replica_needs_firestore(objects: list[Object]):
    assert wrong_with_replicas(objects) == []


def test_dev_is_one_and_prod_is_several():
    dev, prod = (render(KUBERNETES / "overlays" / name) for name in OVERLAYS)
    assert most_replicas(dev) == 1
    assert of(prod, "HorizontalPodAutoscaler")["spec"]["minReplicas"] >= 2
    assert "replicas" not in of(prod, "Deployment")["spec"]  # or applying it again would undo the autoscaler's work
    assert of(prod, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_what_breaks_the_rule_is_found():
    dev, prod = (render(KUBERNETES / "overlays" / name) for name in OVERLAYS)
    assert wrong_with_replicas(changed(dev, replicas=2)) == [
        "2 replicas on sqlite:////var/lib/goagents/goagents.db: more than one need Firestore"
    ]
    scaled = [*dev, of(prod, "HorizontalPodAutoscaler")]
    assert "20 replicas" in wrong_with_replicas(scaled)[0]
    assert "Recreate" in wrong_with_replicas(changed(dev, strategy={"type": "RollingUpdate"}))[0]
    without_volume = [each for each in dev if each["kind"] != "PersistentVolumeClaim"]
    assert "ReadWriteOncePod" in wrong_with_replicas(without_volume)[0]
    template = of(prod, "Deployment")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    moved = [
        {**one, "value": "sqlite:////data/x.db"} if one["name"] == "GOAGENTS_STORE" else one for one in container["env"]
    ]
    on_sqlite = {**template, "spec": {**template["spec"], "containers": [{**container, "env": moved}]}}
    assert "more than one need Firestore" in wrong_with_replicas(changed(prod, template=on_sqlite))[0]


def test_every_pod_keeps_to_the_restricted_standard(objects: list[Object]):
    enforced = of(objects, "Namespace")["metadata"]["labels"]
    assert enforced["pod-security.kubernetes.io/enforce"] == "restricted"
    found = pods(objects)
    assert set(found) == {"goagents", "goagents-sweep"}
    for template in found.values():
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == Image.read().user
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        allowed = {"name", "configMap", "emptyDir", "persistentVolumeClaim"}
        assert all(set(volume) <= allowed for volume in pod.get("volumes", ()))
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]) == {"requests", "limits"}
            assert ":" in container["image"]
            assert not container["image"].endswith(":latest")


def test_the_writable_places_are_those_of_the_image(objects: list[Object], overlay: str):
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container_of(objects)["volumeMounts"]}
    volume = {"/var/lib/goagents": False} if overlay == "dev" else {}
    assert mounts == {"/etc/goagents": True, "/tmp": False, **volume}  # noqa: S108 - it is the pod's own


def test_a_pod_has_the_time_to_end(objects: list[Object]):
    pod, container = of(objects, "Deployment")["spec"]["template"]["spec"], container_of(objects)
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= waits + GRACE


def test_probes_ask_what_is_open_to_all(objects: list[Object]):
    container = container_of(objects)
    asked = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": int(Image.read().environment["PORT"])}
    assert {container[name]["httpGet"]["port"] for name in asked} == {"http"}


def test_what_is_named_is_there(objects: list[Object]):
    """Service, autoscaler, budget and policies reach the pods they mean; the sweep's address is the Service's."""
    labels = {name: template["metadata"]["labels"] for name, template in pods(objects).items()}
    service = of(objects, "Service")
    by_selector = [(service, service["spec"]["selector"])]
    by_selector += [(e, e["spec"]["selector"]) for e in objects if e["kind"] in ("Deployment", "PodDisruptionBudget")]
    for each, selector in by_selector:
        assert [name for name in labels if selected(selector, labels[name])] == ["goagents"], each["kind"]
    for policy in (each for each in objects if each["kind"] == "NetworkPolicy"):
        assert [name for name in labels if selected(policy["spec"]["podSelector"], labels[name])], policy["metadata"]
    for scaler in (each for each in objects if each["kind"] == "HorizontalPodAutoscaler"):
        assert scaler["spec"]["scaleTargetRef"]["name"] == of(objects, "Deployment")["metadata"]["name"]
    (sweep,) = pods(objects)["goagents-sweep"]["spec"]["containers"]
    assert service["spec"]["ports"][0]["port"] == 80
    assert environment(sweep)["GOAGENTS_SWEEP_URL"] == f"http://{service['metadata']['name']}/sweep"
    accounts = {template["spec"]["serviceAccountName"] for template in pods(objects).values()}
    assert accounts == {of(objects, "ServiceAccount")["metadata"]["name"]}


def test_nobody_talks_to_anybody_else(objects: list[Object]):
    deny = of(objects, "NetworkPolicy", "goagents-default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (out,) = of(objects, "NetworkPolicy", "goagents-gateway")["spec"]["egress"]
    private = {block for peer in out["to"] for block in peer["ipBlock"]["except"]}
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7"} <= private


def resolvers(objects: list[Object], labels: dict[str, str]) -> set[str]:
    """Return where a pod may ask for names, by UDP and TCP: blocks of addresses, and namespaces."""
    found: set[str] = set()
    for policy in (each["spec"] for each in objects if each["kind"] == "NetworkPolicy"):
        if not selected(policy["podSelector"], labels):
            continue
        for rule in policy.get("egress", ()):
            if [{"protocol": kind, "port": 53} for kind in ("UDP", "TCP")] == rule["ports"]:
                for peer in rule["to"]:
                    names = peer.get("namespaceSelector", {}).get("matchLabels", {})
                    found |= {peer["ipBlock"]["cidr"]} if "ipBlock" in peer else set(names.values())
    return found


def test_every_pod_can_ask_for_names(objects: list[Object], overlay: str):
    """Also on GKE with Cloud DNS, which is the metadata server's; the sweep asks for the Service's name."""
    gke = {"169.254.169.254/32"} if overlay == "prod" else set[str]()
    for name, template in pods(objects).items():
        found = resolvers(objects, template["metadata"]["labels"])
        assert found == {"kube-system", "169.254.20.10/32", *gke}, name


def test_secrets_come_of_the_one_secret_and_each_pod_has_its_own(objects: list[Object]):
    asked: dict[str, dict[str, bool]] = {}
    for name, template in pods(objects).items():
        for container in template["spec"]["containers"]:
            for variable, value in environment(container).items():
                if isinstance(value, dict):
                    reference = value["secretKeyRef"]
                    assert (reference["name"], reference["key"]) == ("goagents", variable)
                    asked.setdefault(name, {})[variable] = not reference.get("optional", False)
                assert "KEY" not in variable or isinstance(value, dict)
    needed = {"GOAGENTS_INTERNAL_KEY": True, "GOAGENTS_KEY_HASH": True, "GOAGENTS_METRICS_KEY_HASH": True}
    models = dict.fromkeys(("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GOOGLE_API_KEY"), False)
    assert asked == {"goagents": needed | models, "goagents-sweep": {"GOAGENTS_INTERNAL_KEY": True}}
    assert [each for each in objects if each["kind"] == "Secret"] == []  # none is kept here


def test_the_configuration_is_read_as_the_pod_reads_it(objects: list[Object], tmp_path: Path):
    config = configured(objects, tmp_path)
    assert config.auth is not None
    assert config.auth.mode == "api_key"
    assert config.dispatch.chosen == "local"


def with_component(name: str, folder: Path) -> list[Object]:
    """Return `prod` with a component added as its README says."""
    copied = shutil.copytree(KUBERNETES, folder / "kubernetes")
    path = copied / "overlays" / "prod" / "kustomization.yaml"
    overlay: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**overlay, "components": [f"../../components/{name}"]}), encoding="utf-8")
    return render(path.parent)


def test_cloud_tasks_is_a_component(tmp_path: Path):
    objects = with_component("cloud-tasks", tmp_path)
    assert configured(objects, tmp_path).dispatch.chosen == "cloud_tasks"
    assert wrong_with_replicas(objects) == []


def test_prometheus_finds_the_pods_of_prod():
    config = yaml.safe_load((KUBERNETES / "monitoring" / "prometheus.yaml").read_text(encoding="utf-8"))
    (discovery,) = config["scrape_configs"][0]["kubernetes_sd_configs"]
    objects = render(KUBERNETES / "overlays" / "prod")
    assert discovery["namespaces"]["names"] == [of(objects, "Namespace")["metadata"]["name"]]
    wanted = dict(label.split("=") for label in discovery["selectors"][0]["label"].split(","))
    found = [name for name, template in pods(objects).items() if selected(wanted, template["metadata"]["labels"])]
    assert found == ["goagents"]
