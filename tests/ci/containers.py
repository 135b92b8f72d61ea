"""Image, Kubernetes, Compose, Prometheus and Grafana, each by the checker its own users have.

    python -m tests.ci.containers

| what | checked by |
|---|---|
| Dockerfile | hadolint, checkov |
| overlays | `kubectl kustomize`, Kubernetes' schemas (oldest, newest), our rules, checkov, the guard's CEL |
| Compose files | the schema of the Compose specification |
| Prometheus | `promtool check config`, `check rules`, `test rules`, and every query of a dashboard |
| dashboards | Grafana's own types |

The checkers are installed once below build/: Python's with pip, promtool from Debian's package. Each is also shown
something wrong, which it has to find.
"""

import shutil
import sys
from pathlib import Path

import yaml
from tests.ci.checkers import ROOT, Check, Wrong, carry_out, finds, installed, run
from tests.infra.containers.kubernetes import KUBERNETES, OVERLAYS, REQUIRED
from tests.infra.containers.monitoring import COMPOSE, DASHBOARDS, RULE_TESTS, RULES, queries

BUILD = ROOT / "build" / "containers"
TESTS = ROOT / "tests" / "infra" / "containers"
REQUIREMENTS = Path(__file__).with_name("containers-requirements.txt")
VERSIONS = ("1.30.0", "1.37.0")  # of Kubernetes: preStop's sleep and admission policies came with the first
UNMET = {  # of checkov's policies, and why
    "CKV_K8S_15": "the tag is a version, so a node may keep the image",
    "CKV_K8S_35": "the process reads its configuration's secrets from variables",
    "CKV_K8S_43": "the digest is known to who builds the image",
}


def tool(name: str) -> Path:
    """Return a checker of Python's."""
    return installed(REQUIREMENTS, BUILD / "tools") / name


def promtool() -> Path:
    """Return promtool: the one that is installed, or else Debian's, unpacked below build/."""
    own = shutil.which("promtool")
    if own is not None:
        return Path(own)
    folder = BUILD / "prometheus"
    program = folder / "usr" / "bin" / "promtool"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            run("apt-get", "download", "prometheus", cwd=folder)
        except Wrong:
            run("apt-get", "update")  # no list of packages yet, or an old one
            run("apt-get", "download", "prometheus", cwd=folder)
        (package,) = folder.glob("prometheus_*.deb")
        run("dpkg", "-x", package, folder)
        package.unlink()
    return program


def policies(framework: str, *files: Path) -> None:
    """Raises Wrong where checkov finds a policy unmet, but for those of UNMET. It asks nobody outside."""
    named = [word for file in files for word in ("--file", file)]
    quiet = ("--skip-download", "--quiet", "--compact", "--skip-check", ",".join(UNMET))
    printed = run(tool("checkov"), "--framework", framework, *quiet, *named, more={"LOG_LEVEL": "ERROR"})
    if "Passed checks:" not in printed:
        raise Wrong(f"checkov checked nothing: {printed}")


def check_image(scratch: Path) -> None:
    dockerfile = ROOT / "infra" / "docker" / "Dockerfile"
    run(tool("hadolint"), dockerfile)
    policies("dockerfile", dockerfile)
    planted = scratch / "Dockerfile"
    planted.write_text(dockerfile.read_text(encoding="utf-8").replace("USER 65532:65532", "USER root"), "utf-8")
    finds("an image that runs as root", lambda: run(tool("hadolint"), planted))
    finds("an image that runs as root", lambda: policies("dockerfile", planted))


def check_kubernetes(scratch: Path) -> None:
    if shutil.which("kubectl") is None:
        raise Wrong("kubectl is not installed: see kubernetes.io/docs/tasks/tools")
    rendered = []
    for name in OVERLAYS:
        rendered.append(scratch / f"{name}.yaml")
        rendered[-1].write_text(run("kubectl", "kustomize", KUBERNETES / "overlays" / name), encoding="utf-8")
    planted = scratch / "planted.yaml"
    for version in VERSIONS:
        validate = (tool("kubernetes-validate"), "--strict", "--quiet", "--kubernetes-version", version)
        run(*validate, *rendered)
        planted.write_text(rendered[0].read_text(encoding="utf-8").replace("replicas: 1", "replicas: one"), "utf-8")
        finds("a Deployment with one replicas", lambda given=(*validate, planted): run(*given))
    policies("kubernetes", *rendered)
    planted.write_text(rendered[0].read_text(encoding="utf-8").replace("- ALL", "- NET_RAW"), encoding="utf-8")
    finds("a container with capabilities", lambda: policies("kubernetes", planted))
    sys.stdout.write(run(tool("python"), TESTS / "guard.py", *rendered))
    sys.stdout.write(run(sys.executable, "-m", "pytest", "-q", TESTS / "test_kubernetes.py", more={REQUIRED: "1"}))


def check_compose(scratch: Path) -> None:
    check = (tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec")
    files = [COMPOSE / "compose.yaml", COMPOSE / "compose.firestore.yaml"]
    run(*check, *files)
    planted = scratch / "compose.yaml"
    planted.write_text(files[0].read_text(encoding="utf-8").replace("read_only:", "readonly:"), encoding="utf-8")
    finds("a Compose file with readonly", lambda: run(*check, planted))


def check_prometheus(scratch: Path) -> None:
    # Syntax only: the key that they name is in the container. Debian's build knows no discovery in Kubernetes.
    elsewhere = scratch / "prometheus.yaml"
    config = yaml.safe_load((KUBERNETES / "monitoring" / "prometheus.yaml").read_text(encoding="utf-8"))
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": ["localhost"]} for _ in job.pop("kubernetes_sd_configs")]
    elsewhere.write_text(yaml.safe_dump(config), encoding="utf-8")
    for path in (COMPOSE / "prometheus" / "prometheus.yaml", elsewhere):
        run(promtool(), "check", "config", "--syntax-only", path)
    run(promtool(), "check", "rules", RULES)
    run(promtool(), "test", "rules", RULE_TESTS.name, cwd=RULE_TESTS.parent)
    shown = [query for query in queries() if ":" in query.place]
    records = [{"record": f"query_{number}", "expr": query.plain()} for number, query in enumerate(shown)]
    asked = scratch / "queries.yaml"
    asked.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": records}]}), encoding="utf-8")
    run(promtool(), "check", "rules", asked)
    sys.stdout.write(f"queries of dashboards: {len(shown)} parsed by promtool\n")
    asked.write_text(asked.read_text(encoding="utf-8").replace("rate(", "rte("), encoding="utf-8")
    finds("a query with rte()", lambda: run(promtool(), "check", "rules", asked))


def check_dashboards(_: Path) -> None:
    sys.stdout.write(run(tool("python"), TESTS / "grafana_schema.py", *DASHBOARDS))


CHECKS: dict[str, Check] = {
    "image": check_image,
    "Kubernetes": check_kubernetes,
    "Compose": check_compose,
    "Prometheus": check_prometheus,
    "Grafana": check_dashboards,
}


if __name__ == "__main__":
    sys.exit(carry_out(CHECKS))
