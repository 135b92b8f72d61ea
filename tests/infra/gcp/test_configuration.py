"""The configuration that functions are deployed with: what gcloud says that it would not upload is refused."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.gcloud_zygote import zygote
from tests.support.google_project import ROOT, WHERE, needs_gcloud

from goagents.cli.main import main
from goagents.deploy.digest import PARTS

PRESENT = "infra/gcp/prod.yaml"
LEFT_OUT = ("tests/x/c.yaml", "docs/c.yaml", "scripts/c.yaml", "infra/terraform/c.yaml", "infra/gcp/keys/c.yaml")
Deploy = Callable[[str], tuple[int, str, str]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The least that is a source, with our `.gcloudignore`."""
    source = tmp_path_factory.mktemp("source")
    for part in PARTS:
        if (ROOT / part).is_dir():
            (source / part).mkdir()
        else:
            shutil.copy(ROOT / part, source / part)
    for name in (PRESENT, *LEFT_OUT):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "infra/gcp/config.yaml", source / name)
    return source


@pytest.fixture
def deploy(source: Path, capsys: pytest.CaptureFixture[str]) -> Deploy:
    def run(config: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["deploy", *WHERE, "--source", str(source), "--config", config, "--dry-run"])
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture
def with_gcloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{zygote().folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))


@needs_gcloud
@pytest.mark.usefixtures("with_gcloud")
@pytest.mark.parametrize("config", LEFT_OUT)
def test_what_would_not_be_uploaded_is_refused_with_what_helps(deploy: Deploy, source: Path, config: str):
    status, printed, said = deploy(config)
    assert (status, printed) == (1, "")
    assert f"{config}: the functions would not get it, {source}/.gcloudignore leaves it out" in said
    assert "put it into infra/gcp, as a file *.yaml" in said


@needs_gcloud
@pytest.mark.usefixtures("with_gcloud")
@pytest.mark.parametrize("config", [PRESENT, f"./{PRESENT}"])
def test_a_configuration_beside_ours_goes_along(deploy: Deploy, config: str):
    status, printed, said = deploy(config)
    assert status == 0, said
    assert f"GOAGENTS_CONFIG={config}," in printed


def test_a_path_that_is_this_machines_is_refused(deploy: Deploy, source: Path):
    status, _, said = deploy(str(source / PRESENT))
    assert status == 1
    assert "--config is relative to the source" in said


def test_a_plan_can_be_seen_without_gcloud(deploy: Deploy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    status, printed, said = deploy(PRESENT)
    assert status == 0, said
    assert "gcloud functions deploy goagents-health " in printed
    assert f"gcloud is not installed: whether it would upload {PRESENT} is not known" in said
