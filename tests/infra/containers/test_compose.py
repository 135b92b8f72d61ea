"""The Compose files: what they mount is there, what they start is hardened, its keys are made and not committed."""

import shutil
import stat
import subprocess
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest
from tests.benchmarks.servers import ROOT
from tests.infra.containers.image import Image
from tests.infra.containers.monitoring import COMPOSE, load

from goagents.spec.load import load_clusters, load_files

SERVICES: dict[str, dict[str, Any]] = load(COMPOSE / "compose.yaml")["services"]
ON_FIRESTORE: dict[str, dict[str, Any]] = load(COMPOSE / "compose.firestore.yaml")["services"]


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    """`prepare.py`, which stands outside the packages."""
    spec = spec_from_file_location("prepare", COMPOSE / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def variables(folder: Path) -> dict[str, str]:
    lines = (folder / ".env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("name", [*SERVICES, "firestore"])
def test_a_service_is_hardened(name: str):
    service = SERVICES.get(name) or ON_FIRESTORE[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert not service.get("privileged")
    image, _, tag = service["image"].rpartition(":")
    assert image
    assert tag != "latest"
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_ours_and_prometheus_have_a_read_only_root():
    assert [name for name in SERVICES if not SERVICES[name].get("read_only")] == ["grafana"]
    assert SERVICES["gateway"]["stop_grace_period"] == "10s"


def test_what_is_mounted_is_there():
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", ()) if mount.startswith("./")]
    assert len(mounts) >= 4
    for mount in mounts:
        source, _, options = mount.partition(":")
        assert (COMPOSE / source).exists(), mount
        assert options.endswith(":ro")
    build = SERVICES["gateway"]["build"]
    assert (COMPOSE / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()


def test_grafana_finds_what_is_mounted():
    (provider,) = load(COMPOSE / "grafana/provisioning/dashboards/goagents.yaml")["providers"]
    (source,) = load(COMPOSE / "grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    targets = [mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]]
    assert provider["options"]["path"] in targets
    assert source["url"] == "http://prometheus:9090"


def test_keys_are_made_once_and_kept_from_others(prepare: ModuleType, tmp_path: Path):
    assert prepare.prepare(tmp_path)
    made = variables(tmp_path)
    own, metrics = ((tmp_path / "secrets" / name).read_text() for name in ("api_key", "metrics_key"))
    assert made["GOAGENTS_KEY_HASH"] == f"sha256:{sha256(own.encode()).hexdigest()}"
    assert made["GOAGENTS_METRICS_KEY_HASH"] == f"sha256:{sha256(metrics.encode()).hexdigest()}"
    assert len({*made.values(), own, metrics}) == 6
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "secrets").iterdir()}
    assert modes == {"api_key": 0o600, "metrics_key": 0o644}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert not prepare.prepare(tmp_path)
    assert variables(tmp_path) == made


def test_keys_are_not_committed(prepare: ModuleType, tmp_path: Path):
    """By git itself, in a repository of its own: an upload of the sources is none."""
    shutil.copy(COMPOSE / ".gitignore", tmp_path)
    prepare.prepare(tmp_path)
    git = ("git", "-C", str(tmp_path))
    subprocess.run([*git, "init", "--quiet"], check=True, timeout=20)
    listed = subprocess.run([*git, "status", "--short"], capture_output=True, text=True, check=True, timeout=20).stdout
    assert listed == "?? .gitignore\n"


def test_every_variable_without_a_default_is_made(prepare: ModuleType, tmp_path: Path):
    prepare.prepare(tmp_path)
    asked = {
        value.removeprefix("${").partition(":?")[0]
        for service in SERVICES.values()
        for value in service.get("environment", {}).values()
        if ":?" in value
    }
    assert asked == set(variables(tmp_path))


def test_the_gateway_takes_the_keys_that_were_made(prepare: ModuleType, tmp_path: Path):
    """What Compose starts, on its configuration and keys: the operator's key chats, Prometheus' reads the metrics."""
    prepare.prepare(tmp_path)
    image = Image.read()
    image.lay_out(tmp_path / "app")
    environment = {
        **variables(tmp_path),
        "GOAGENTS_CONFIG": str(COMPOSE / "config.yaml"),
        "GOAGENTS_STORE": f"sqlite:///{tmp_path}/state.db",
    }
    key, metrics = (
        {"authorization": f"Bearer {(tmp_path / 'secrets' / name).read_text()}"} for name in ("api_key", "metrics_key")
    )
    with (
        image.running(tmp_path / "app", environment, tmp_path / "log") as server,
        httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as http,
    ):
        assert http.get("/ready").status_code == 200
        body = (COMPOSE / "cluster.yaml").read_bytes()
        made = http.post("/api/v1/clusters", content=body, headers={"content-type": "application/yaml", **key})
        assert made.status_code == 201, made.text
        answer = http.post("/api/v1/agents/hello.echo/chat", json={"message": "hi"}, headers=key)
        assert "You said: hi" in answer.text
        assert "goagents_runs_total" in http.get("/metrics", headers=metrics).text
        assert http.get("/metrics").status_code == 401


def test_the_firestore_emulator_is_what_the_gateway_is_told_of():
    told = ON_FIRESTORE["gateway"]["environment"]
    host, _, port = told["FIRESTORE_EMULATOR_HOST"].partition(":")
    assert host in ON_FIRESTORE
    assert f"--host-port=0.0.0.0:{port}" in ON_FIRESTORE[host]["command"]
    assert told["GOAGENTS_STORE"] == f"firestore://{told['GOOGLE_CLOUD_PROJECT']}/(default)"


def test_the_configuration_has_no_mistake():
    hashes = {"GOAGENTS_KEY_HASH": "a" * 64, "GOAGENTS_METRICS_KEY_HASH": "b" * 64}
    loaded = load_files([COMPOSE / "config.yaml"], environ=hashes)
    assert [key.name for key in loaded.config.auth.api_keys] == ["operator", "prometheus"]  # type: ignore[union-attr]
    assert [cluster.metadata.name for cluster in load_clusters([COMPOSE / "cluster.yaml"])] == ["hello"]
