"""What `gcloud builds submit` and a deployment from source upload: all that they need, and nobody's secrets.

The tree is what git holds, and planted beside it what must not leave the machine. gcloud itself says what it uploads:
for a function it lists it, for a build it submits it, by the command that the documents show.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.ci.source_deploy import tracked_files, tree_of, uploaded_files
from tests.support.google_api_builds import submitted
from tests.support.google_project import ROOT, gcloud, google_project, needs_gcloud

from goagents.deploy.catalogue import catalogue

pytestmark = [
    needs_gcloud,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="there is no git to say which files are the repository's"),
]
IGNORE = "--ignore-file=.cloudbuildignore"
SECRETS = (
    "infra/compose/secrets/api_key",
    "infra/compose/.env",
    "infra/terraform/terraform.tfstate",
    "infra/terraform/terraform.tfstate.backup",
    "infra/terraform/terraform.tfstate.d/prod/terraform.tfstate",
    "infra/terraform/.terraform.tfstate.lock.info",
    "infra/terraform/examples/prod/terraform.tfvars",
    "infra/terraform/examples/prod/keys.auto.tfvars",
    "infra/terraform/keys.auto.tfvars.json",
    "infra/terraform/release.tfplan",
    "infra/terraform/.terraform/terraform.tfstate",
    "infra/kubernetes/overlays/prod/secrets.env",
    ".env",
    ".env.local",
    "prod.env",
    "functions/gateway/.env",
    "shared/goagents/prod.env",
    "my-project-1a2b3c4d5e6f.json",
    "shared/goagents/application_default_credentials.json",
    "functions/gateway/service-account.json",
    "infra/terraform/key.json",
    "infra/gcp/key.json",
    "server.key",
    "shared/goagents/server.pem",
    "client.p12",
    ".goagents/goagents.db",
    ".peers/note",
    "state.db",
    "shared/goagents/state.db-wal",
    "goagents.sqlite",
    "shared/goagents/goagents.sqlite3-wal",
)
MADE = (
    ".git/config",
    ".git/objects/ab/cdef",
    ".venv/bin/python",
    "venv/pyvenv.cfg",
    "build/terraform/plan",
    "dist/goagents.whl",
    "node_modules/a/index.js",
    "tests/support/peers/node_modules/a/index.js",
    "infra/terraform/.terraform/providers/google",
    "shared/goagents/__pycache__/app.cpython-311.pyc",
    "shared/goagents.egg-info/PKG-INFO",
    ".pytest_cache/README.md",
    ".mypy_cache/3.11/a.data.py",
    ".ruff_cache/CACHEDIR.TAG",
    ".hypothesis/examples/a",
    ".schemathesis/a",
)


def documented() -> list[str]:
    """The commands that submit a build, wherever one is shown."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("infra/**/*.md"), ROOT / "cloudbuild.yaml"]
    texts = [page.read_text(encoding="utf-8").replace("\\\n", " ") for page in pages]
    return [found for text in texts for found in re.findall(r"gcloud builds submit [^`\n]*", text)]


def ignored_by_git() -> list[str]:
    """A file for each pattern of each .gitignore: what git must not hold, nobody else gets either."""
    found = []
    for name in tracked_files():
        if Path(name).name != ".gitignore":
            continue
        for line in (ROOT / name).read_text(encoding="utf-8").split():
            planted = Path(name).parent / line.strip("/").replace("*", "planted")
            found.append((planted / "planted" if line.endswith("/") else planted).as_posix())
    return found


PLANTED = {*SECRETS, *MADE}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tree_of(tracked_files(), tmp_path_factory.mktemp("tree"))
    for name in {*PLANTED, *ignored_by_git()}:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("planted", encoding="utf-8")
    return tree


@pytest.fixture(scope="module")
def of_a_function(tree: Path) -> set[str]:
    return set(uploaded_files(tree))


@pytest.fixture(scope="module")
def of_a_build(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    words = shlex.split(re.sub(r"\$\([^)]*\)", "gateway", documented()[0]))[1:]
    with google_project(tmp_path_factory.mktemp("google")) as google:
        gcloud(google, *words, "--async", cwd=tree)
        assert google.cloud.unknown == []
        yield set(submitted(google.cloud))


def test_every_command_that_submits_a_build_names_the_file():
    shown = documented()
    assert len(shown) >= 3
    assert [line for line in shown if IGNORE not in line.split()] == []


@pytest.mark.parametrize("upload", ["of_a_function", "of_a_build"])
def test_no_secret_and_nothing_that_was_made_here_is_uploaded(upload: str, request: pytest.FixtureRequest):
    files, planted = request.getfixturevalue(upload), {*PLANTED, *ignored_by_git()}
    assert len(planted) > len(PLANTED)
    assert files
    assert sorted(files & planted) == []


def test_a_function_gets_what_it_needs_and_no_more(of_a_function: set[str]):
    needed = {"main.py", "requirements.txt", "pyproject.toml", "README.md", "LICENSE", "infra/gcp/config.yaml"}
    needed |= {function.source for function in catalogue().values()}
    needed |= {name for name in tracked_files() if name.startswith("shared/")}
    assert sorted(needed - of_a_function) == []
    more = {"tests", "docs", "scripts", ".ci", ".github"}
    assert [name for name in of_a_function if Path(name).parts[0] in more] == []


def used_by_the_pipeline() -> set[str]:
    """What the steps of cloudbuild.yaml name, and what the Dockerfile copies from the build."""
    build = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text(encoding="utf-8"))
    words = " ".join(word for step in build["steps"] for word in step["args"])
    used = {"Makefile", *re.findall(r"--file=(\S+)", words)}
    used |= {f"shared/{name.replace('.', '/')}.py" for name in re.findall(r"-m (goagents[\w.]+)", words)}
    docker = (ROOT / "infra" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.*)$", docker, re.MULTILINE):
        used |= {word.rstrip("/") for word in line.split()[:-1]}
    return used


def test_a_build_gets_what_its_steps_use_and_all_that_git_holds(of_a_build: set[str], of_a_function: set[str]):
    used = used_by_the_pipeline()
    assert {"infra/docker/Dockerfile", "infra/docker/healthcheck.py", "shared/goagents/deploy/release.py"} <= used

    def missing(files: set[str]) -> set[str]:
        folders = {parent.as_posix() for name in files for parent in Path(name).parents}
        return used - files - folders

    assert missing(of_a_build) == set()
    assert "infra/docker/Dockerfile" in missing(of_a_function), "so a build needs a file of its own"
    assert sorted(set(tracked_files()) - of_a_build) == [], "a JSON file has to be named in .cloudbuildignore"
