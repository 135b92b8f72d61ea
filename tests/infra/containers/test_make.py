"""What `make docker-*` and `make deploy-k8s` carry out, seen by programs that take docker's and kubectl's place.

A stand-in writes down how it was called; kubectl's renders by the real one. Where the real thing is missing, the target
fails and says what to do.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.benchmarks.servers import ROOT
from tests.support.ports import free_port

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
STAND_IN = """#!{python}
import os, sys
with open({log!r}, "a", encoding="utf-8") as log:
    asked = os.environ.get("GOAGENTS_PORT")
    log.write((f"GOAGENTS_PORT={{asked}} " if asked else "") + " ".join(sys.argv[1:]) + "\\n")
if " ".join(sys.argv[1:]).startswith({failing!r}):
    sys.exit(1)
if sys.argv[1] == "kustomize":
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
if sys.argv[1] == "compose" and sys.argv[-3] == "port":
    ports = {{"gateway": asked or "8080", "prometheus": "9091", "grafana": "3001"}}
    print("127.0.0.1:" + ports[sys.argv[-2]])
    sys.exit()
print("a-context")
"""


class Machine:
    """A PATH with make, a shell and what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        (folder / "bin").mkdir()
        for name in ("make", "sh", "sed", "awk", "grep", "mktemp", "rm", "dirname", "cat", "test", "env"):
            real = shutil.which(name)
            assert real is not None
            (folder / "bin" / name).symlink_to(real)

    def has(self, name: str, *, failing: str = "never") -> None:
        """Put a stand-in there; it fails where its arguments begin with `failing`."""
        real = shutil.which(name) or "/nonexistent"
        path = self.folder / "bin" / name
        path.write_text(STAND_IN.format(python=sys.executable, log=str(self.log), failing=failing, real=real))
        path.chmod(0o755)

    def make(self, *words: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.folder / "bin"), "HOME": str(self.folder), **variables}
        command = ["make", "--no-print-directory", f"PYTHON={sys.executable}", *words]
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def calls(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The Makefile and what it needs of infra/, in a place where keys may be made."""
    folder = tmp_path / "copy"
    for name in ("compose", "kubernetes"):
        kept = shutil.ignore_patterns(".env", "secrets")
        shutil.copytree(ROOT / "infra" / name, folder / "infra" / name, ignore=kept)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.parametrize("target", ["docker-build", "docker-up", "docker-down"])
@pytest.mark.parametrize("installed", [True, False])
def test_without_an_engine_it_fails_and_says_so(machine: Machine, copied: Path, target: str, installed: bool):
    if installed:
        machine.has("docker", failing="info")
    made = machine.make(target, cwd=copied)
    assert made.returncode != 0
    assert "No Docker engine answers" in made.stderr
    assert machine.calls() == (["info"] if installed else [])
    assert not (copied / "infra/compose/.env").exists()


def test_docker_build_makes_the_image_of_this_version(machine: Machine):
    machine.has("docker")
    assert machine.make("docker-build").returncode == 0
    assert machine.calls() == ["info", f"build --file infra/docker/Dockerfile --tag goagents:{VERSION} ."]


@pytest.mark.parametrize(
    ("store", "files"),
    [
        ("sqlite", "--file infra/compose/compose.yaml"),
        ("firestore", "--file infra/compose/compose.yaml --file infra/compose/compose.firestore.yaml"),
    ],
)
def test_docker_up_makes_keys_and_starts_all(machine: Machine, copied: Path, store: str, files: str):
    machine.has("docker")
    made = machine.make("docker-up", f"STORE={store}", cwd=copied)
    assert made.returncode == 0, made.stderr
    up = f"compose {files} up --build --detach --wait --remove-orphans"
    assert machine.calls()[:3] == ["info", "compose version", up]
    assert (copied / "infra/compose/.env").exists()
    assert "infra/compose/secrets/api_key" in made.stdout


@pytest.mark.parametrize("store", ["sqlite", "firestore", ""])
def test_docker_down_ends_the_emulator_too_whatever_it_is_told(machine: Machine, copied: Path, store: str):
    machine.has("docker")
    (copied / "infra/compose/.env").touch()
    made = machine.make("docker-down", *([f"STORE={store}"] if store else []), cwd=copied)
    assert made.returncode == 0, made.stderr
    both = "--file infra/compose/compose.yaml --file infra/compose/compose.firestore.yaml"
    assert machine.calls()[-1] == f"compose {both} down --remove-orphans"


@pytest.mark.parametrize("port", ["", "9000"])
def test_docker_up_takes_a_port_and_tells_the_addresses_that_there_are(machine: Machine, copied: Path, port: str):
    machine.has("docker")
    made = machine.make("docker-up", *([f"PORT={port}"] if port else []), cwd=copied)
    assert made.returncode == 0, made.stderr
    (up,) = [call for call in machine.calls() if " up " in call]
    assert up.startswith("GOAGENTS_PORT=9000 compose " if port else "compose ")
    assert re.findall(r"http://\S+", made.stdout) == [
        f"http://127.0.0.1:{port or 8080}",
        *("http://127.0.0.1:9091", "http://127.0.0.1:3001"),
    ], "where Compose says that they are"


def test_docker_up_tells_what_it_lacks(machine: Machine, copied: Path):
    machine.has("docker", failing="compose version")
    assert "docker-compose-plugin" in machine.make("docker-up", cwd=copied).stderr
    assert "must be sqlite or firestore" in machine.make("docker-up", "STORE=redis", cwd=copied).stderr
    assert "docker-up has started nothing" in machine.make("docker-down", cwd=copied).stderr


def needs_kubectl() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: see kubernetes.io/docs/tasks/tools")


def test_deploy_k8s_looks_applies_and_waits(machine: Machine):
    needs_kubectl()
    machine.has("kubectl")
    made = machine.make("deploy-k8s")
    assert made.returncode == 0, made.stderr
    calls = machine.calls()
    assert calls[0] == f"kustomize {ROOT}/infra/kubernetes/overlays/dev"
    assert calls[1:4] == [
        "config current-context",
        "--request-timeout=10s get --raw /readyz",
        "--request-timeout=10s get secret goagents --namespace goagents-dev",
    ]
    assert calls[4].startswith("apply --filename /")
    assert calls[5:] == ["rollout status deployment/goagents --namespace goagents-dev --timeout=180s"]


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ("config current-context", "no current context"),
        ("--request-timeout=10s get --raw", "The cluster of kubectl's context a-context does not answer"),
        ("--request-timeout=10s get secret", "kubectl create secret generic goagents --namespace goagents-dev"),
    ],
)
def test_deploy_k8s_applies_nothing_where_something_is_missing(machine: Machine, failing: str, said: str):
    needs_kubectl()
    machine.has("kubectl", failing=failing)
    made = machine.make("deploy-k8s")
    assert made.returncode != 0
    assert said in made.stderr
    assert not [call for call in machine.calls() if call.startswith("apply")]


def named(said: str) -> list[str]:
    """The files that a refusal names, below infra/kubernetes, with their lines."""
    return re.findall(r"^\S*/infra/kubernetes/(\S+?):\d+:", said, re.MULTILINE)


def test_deploy_k8s_wants_the_projects_name(machine: Machine, copied: Path):
    needs_kubectl()
    machine.has("kubectl")
    made = machine.make("deploy-k8s", "OVERLAY=prod", cwd=copied)
    assert made.returncode != 0
    files = ("deployment.yaml", "deployment.yaml", "kustomization.yaml", "serviceaccount.yaml")
    assert named(made.stderr) == [f"overlays/prod/{name}" for name in files], "and no component that is not used"
    assert len(machine.calls()) == 1
    for path in (copied / "infra/kubernetes/overlays/prod").iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace("my-project", "my-project-2"), encoding="utf-8")
    made = machine.make("deploy-k8s", "OVERLAY=prod", cwd=copied)
    assert made.returncode == 0, made.stderr
    assert machine.calls()[-1].startswith("rollout status deployment/goagents --namespace goagents ")


def test_deploy_k8s_names_the_files_that_an_overlay_of_ones_own_is_made_of(machine: Machine, copied: Path):
    needs_kubectl()
    machine.has("kubectl")
    for path in (copied / "infra/kubernetes/overlays/prod").iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace("my-project", "shop-1234"), encoding="utf-8")
    (copied / "mine").mkdir()
    (copied / "mine/kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        "resources:\n  - ../infra/kubernetes/overlays/prod\n"
        "components: [../infra/kubernetes/components/cloud-tasks]\n",
        encoding="utf-8",
    )
    made = machine.make("deploy-k8s", "OVERLAY=./mine", cwd=copied)
    assert made.returncode != 0
    assert "OVERLAY=./mine still has names that stand for yours" in made.stderr
    assert named(made.stderr) == ["components/cloud-tasks/dispatch.yaml"] * 2


def test_deploy_k8s_tells_of_an_overlay_there_is_not(machine: Machine):
    said = machine.make("deploy-k8s", "OVERLAY=staging").stderr
    assert "OVERLAY=staging: there is no " in said
    assert "OVERLAY is dev, prod, or the folder of an overlay of your own" in said


def test_deploy_k8s_without_kubectl_says_so(machine: Machine):
    made = machine.make("deploy-k8s")
    assert made.returncode != 0
    assert "kubectl is not installed" in made.stderr


def test_the_real_kubectl_takes_these_commands_as_far_as_there_is_no_cluster(machine: Machine):
    needs_kubectl()
    config = machine.folder / "kubeconfig"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: none\n"
        "contexts: [{name: none, context: {cluster: none}}]\n"
        f"clusters: [{{name: none, cluster: {{server: 'http://127.0.0.1:{free_port()}'}}}}]\n",
        encoding="utf-8",
    )
    path = f"{machine.folder}/bin{os.pathsep}{os.environ['PATH']}"
    made = machine.make("deploy-k8s", PATH=path, KUBECONFIG=str(config))
    assert made.returncode != 0
    assert "The cluster of kubectl's context none does not answer." in made.stderr


def test_every_function_loads():
    venv = Path(sys.executable).parents[1]
    installed = ("--old-file", f"{venv}/.development")  # a test installs nothing
    command = ["make", "--no-print-directory", *installed, f"VENV={venv}", "functions"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stderr
    loaded = [line.split()[1] for line in made.stdout.splitlines() if line.startswith("function ")]
    assert loaded == sorted(path.parent.name for path in (ROOT / "functions").glob("*/main.py"))
