"""What the pages have people type about Terraform is there: folders, outputs, variables, make's targets.

gcloud's commands are read by tests/e2e/test_readme.py (those within others here), addresses and the command that
releases by `python -m tests.ci.terraform`, which plans them.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.infra.terraform.schema import TERRAFORM
from tests.infra.terraform.sources import blocks
from tests.support.cli_process import environment, goagents
from tests.support.gcloud_lint import gcloud_faults
from tests.support.google_project import needs_gcloud
from tests.support.ports import await_port, free_port

ROOT = Path(__file__).parents[3]
PAGES = (TERRAFORM / "README.md", ROOT / "docs" / "operations.md", ROOT / "docs" / "deploy.md")
OPERATIONS = PAGES[1].read_text(encoding="utf-8")
CLUSTER = """\
apiVersion: goagents.dev/v1
kind: AgentCluster
metadata: {name: shop}
spec:
  agents:
    - {name: clerk, provider: anthropic, model: claude-sonnet-4-5}
"""
START_TIMEOUT = 30.0  # seconds
EXAMPLES = [TERRAFORM / "examples" / name for name in ("dev", "prod")]


def typed(page: Path) -> list[str]:
    """The lines of a page's shell blocks, and what it says to type within a sentence."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()]
    return [*lines, *re.findall(r"`((?:terraform|make) [^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))]


def unknown(line: str) -> list[str]:
    """Return what a line names and the repository does not have."""
    faults = []
    for command in re.findall(r"\bterraform (?!test\b|destroy\b)([^)|;>`]+)", line):
        folder = re.match(r"-chdir=(\S+)", command)
        if folder is None:
            faults.append(f"says not where: terraform {command}")
            continue
        if not (ROOT / folder[1] / "main.tf").is_file():
            faults.append(f"there is no {folder[1]}")
            continue
        names = {name for name, _ in blocks(ROOT / folder[1] / "outputs.tf", "output")}
        faults += [
            f"{folder[1]} has no output {name}"
            for name in re.findall(r"output -raw (\w+)", command)
            if name not in names
        ]
    if re.search(r"\bmake\b", line):
        target, *words = shlex.split(line.partition("make ")[2])
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE):
            faults.append(f"make has no target {target}")
        for variable in (word.partition("=")[0] for word in words):
            if not re.search(rf"^{variable} \?=", makefile, re.MULTILINE):
                faults.append(f"make does not ask for {variable}")
    copied = re.match(r"cp (\S+) ", line)
    if copied and not (ROOT / copied[1]).is_file():
        faults.append(f"there is no {copied[1]}")
    if "--data-file=-" in line and "|" not in line:
        faults.append("waits for a secret that nobody gives it")
    return faults


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_typed_is_there(page: Path):
    lines = [line for line in typed(page) if re.search(r"\bterraform\b|\bmake [a-z]|^cp |--data-file=-", line)]
    assert lines
    assert [f"{line}: {fault}" for line in lines for fault in unknown(line)] == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("terraform init", "says not where"),
        ("terraform -chdir=infra/terraform/examples/test init", "there is no infra/terraform/examples/test"),
        ('sh -ec "$(terraform -chdir=infra/terraform/examples/dev output -raw functions)"', "has no output functions"),
        ("make docker-push", "make has no target docker-push"),
        ("make docker-build TAG=a", "make does not ask for TAG"),
        ("gcloud secrets versions add anthropic-api-key --data-file=-", "nobody gives it"),
        ("cp infra/terraform/terraform.tfvars.example a", "there is no infra/terraform/terraform.tfvars.example"),
    ],
)
def test_what_is_not_there_is_found(line: str, fault: str):
    assert any(fault in found for found in unknown(line))


@needs_gcloud
def test_gcloud_takes_what_is_within_other_commands(tmp_path: Path):
    lines = [
        command for page in PAGES for command in re.findall(r"\$\((gcloud [^)]*)\)", page.read_text(encoding="utf-8"))
    ]
    assert lines
    assert gcloud_faults(lines, tmp_path) == []


def test_the_variables_of_a_restore_are_those_of_the_examples():
    section = OPERATIONS.partition("### Firestore\n")[2].partition("\n### ")[0]
    named = set(re.findall(r"`(\w+) = ", section))
    assert named == {"restored_databases", "served_database", "database", "delete_data"}
    root = {name for name, _ in blocks(TERRAFORM / "variables.tf", "variable")}
    assert named <= root
    for example in EXAMPLES:
        variables = {name for name, _ in blocks(example / "variables.tf", "variable")}
        assert {"restored_databases", "served_database"} <= variables
        assert (example / "restored.tf").read_text(encoding="utf-8").count("import {") == 2
        assert 'file("${path.module}/${name}.indexes")' in (example / "main.tf").read_text(encoding="utf-8")
    assert "examples/prod/goagents-restored.indexes" in section


def test_the_steps_of_a_restore_look_before_they_switch():
    section = OPERATIONS.partition("### Firestore\n")[2].partition("\n### ")[0]
    steps = {
        found[1]: found[2] for found in re.finditer(r"^(\d)\. (.*?)(?=^\d\. |\Z)", section, re.MULTILINE | re.DOTALL)
    }
    assert list(steps) == list("123456")
    assert "unfinished.py" in steps["3"]
    assert "restored_databases" in steps["4"]
    assert "served_database" in steps["5"]
    before = "".join(steps[number] for number in "1234")
    assert "served_database" not in before
    deployments = re.findall(r"^goagents deploy .*--database goagents-restored.*$", before, re.MULTILINE)
    assert deployments
    assert all("--database-only" in line.split() for line in deployments)


def test_a_database_is_looked_at_without_a_deployment(tmp_path: Path):
    """The page's command, with a store that is at hand instead of Firestore."""
    (line,) = re.findall(r"^GOAGENTS_STORE=\S+ (functions-framework .*)$", OPERATIONS, re.MULTILINE)
    port = free_port()
    words = shlex.split(re.sub(r"--port=\d+", f"--port={port}", line))
    (tmp_path / "cluster.yaml").write_text(CLUSTER, encoding="utf-8")
    process = subprocess.Popen(
        [Path(sys.executable).with_name(words[0]), *words[1:]],
        cwd=ROOT,
        env=environment(GOAGENTS_STORE=f"sqlite:///{tmp_path / 'restored.db'}", ANTHROPIC_API_KEY="not-a-key"),
        stdin=subprocess.DEVNULL,
    )
    try:
        await_port(process, port, START_TIMEOUT)
        server = ("--server", f"http://127.0.0.1:{port}")
        made = goagents("deploy", "--cluster", "cluster.yaml", *server, cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        (look,) = re.findall(r"^goagents (status) --server http://127\.0\.0\.1:8081$", OPERATIONS, re.MULTILINE)
        told = goagents(look, *server, cwd=tmp_path)
        assert "shop" in told.stdout, told.stderr
    finally:
        process.terminate()
        process.wait(15)
