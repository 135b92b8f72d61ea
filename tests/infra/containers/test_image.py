"""The image holds what it should and nothing else, and runs as it should: by reading the Dockerfile, without Docker."""

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from tests.benchmarks.servers import ROOT
from tests.infra.containers.image import DOCKERFILE, Image, ignored, instructions
from tests.support.ports import free_port

SECRET = (
    ".env",
    ".git/config",
    ".goagents/goagents.db",
    "functions/chat/.env",
    "shared/goagents/.env",
    "infra/compose/.env",
    "infra/compose/secrets/api_key",
    "infra/terraform/terraform.tfvars",
    "key.json",
)
NEEDLESS = ("tests/conftest.py", "docs/index.md", "build/x", ".venv/bin/python", "functions/chat/__pycache__/m.pyc")
FUNCTIONS = json.loads((ROOT / "shared/goagents/deploy/functions.json").read_text(encoding="utf-8"))["functions"]


@pytest.mark.parametrize("path", [*SECRET, *NEEDLESS])
def test_nothing_enters_the_build_but_what_it_needs(path: str):
    assert ignored(path)


def test_everything_that_is_copied_enters_the_build():
    copies = [argument.split()[:-1] for keyword, argument in instructions(DOCKERFILE.read_text()) if keyword == "COPY"]
    sources = [source for found in copies if not found[0].startswith("--from") for source in found]
    assert {"pyproject.toml", "README.md", "LICENSE", "shared", "functions"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source), source
        inside = [path for path in (ROOT / source).rglob("*.py") if path.is_file()]
        assert not [path for path in inside if ignored(path.relative_to(ROOT).as_posix())]


def test_later_patterns_decide():
    patterns = ["*", "!a", "**/*.pyc", "!b/c.txt"]
    assert [ignored(path, patterns) for path in ("x", "a", "a/b.py", "a/b.pyc", "b/d.txt", "b/c.txt")] == [
        *(True, False, False, True, True, False)
    ]


def test_it_runs_without_rights_and_hears_the_signal():
    image = Image.read()
    assert image.user == "65532:65532"
    assert image.stop_signal == "SIGTERM"
    assert image.entrypoint == ["functions-framework"]  # the exec form: no shell between the signal and the server
    assert image.health_check[0] == "python"
    environment = image.environment
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert (environment["PORT"], environment["WORKERS"]) == ("8080", "1")
    stages = [argument for keyword, argument in instructions(DOCKERFILE.read_text()) if keyword == "FROM"]
    assert len(stages) == 2
    assert all(stage.startswith("python:3.11-slim") for stage in stages)


def test_the_version_is_the_projects():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert Image.read().labels["org.opencontainers.image.version"] == version
    named = [*(ROOT / "infra/kubernetes/overlays").glob("*/kustomization.yaml"), ROOT / "infra/compose/compose.yaml"]
    assert len(named) >= 3
    for path in named:
        text = path.read_text(encoding="utf-8")
        assert f"newTag: {version}\n" in text or f"image: goagents:{version}\n" in text, path


def test_every_function_is_in_it(tmp_path: Path):
    image = Image.read()
    image.lay_out(tmp_path)
    for name in FUNCTIONS:
        assert (tmp_path / "functions" / name / "main.py").is_file()
    assert (tmp_path / image.environment["FUNCTION_SOURCE"]).is_file()
    assert (tmp_path / "infra/gcp/config.yaml").is_file()
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pyc", ".db") or path.name == ".env"]


def test_the_package_is_built_from_what_enters_the_build(tmp_path: Path):
    """The wheel, made of the context alone, has every file of the package."""
    context, out = tmp_path / "context", tmp_path / "out"
    package = [path.relative_to(ROOT) for path in (ROOT / "shared").rglob("*") if path.is_file()]
    entering = [path for path in package if not ignored(path.as_posix())]
    for path in [*entering, *map(Path, ("pyproject.toml", "README.md", "LICENSE"))]:
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        (context / path).write_bytes((ROOT / path).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(out), str(context)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    (wheel,) = out.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {path.relative_to("shared").as_posix() for path in entering}
    assert "goagents/api/openapi.json" in expected
    assert expected <= held


def check_health(port: int) -> subprocess.CompletedProcess[str]:
    script = ROOT / "infra" / "docker" / Path(Image.read().health_check[1]).name
    command, environment = [sys.executable, str(script)], {"PORT": str(port)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize("name", ["gateway", "chat"])
def test_a_function_that_answers_is_healthy(name: str, tmp_path: Path):
    image, app = Image.read(), tmp_path / "app"
    image.lay_out(app)
    chosen = {"FUNCTION_TARGET": name, "FUNCTION_SOURCE": f"functions/{name}/main.py"}
    with image.running(app, chosen, tmp_path / "log") as server:
        checked = check_health(server.port)
    assert (checked.returncode, checked.stderr) == (0, ""), (tmp_path / "log").read_text()


def test_where_nothing_answers_is_no_health():
    checked = check_health(free_port())
    assert checked.returncode == 1
    assert "no answer" in checked.stderr
