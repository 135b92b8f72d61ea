"""Everything about infra/terraform that needs Terraform: format, init, validate, plan, test, and the policy scan.

    python -m tests.ci.terraform

Terraform is the real one. The google provider is its schema (tests/infra/terraform), because the provider cannot be had
where this runs: it is served from a mirror, so init, validate, plan and test go the whole way, but apply. What it needs
is installed once, below build/terraform. Exit status 0 where all passed.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.infra.terraform import drifted, planned, planted, policies, released, restored
from tests.infra.terraform.schema import PROVIDER, SCHEMA, TERRAFORM, used
from tests.support.gcloud_lint import gcloud_faults

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "terraform"
TESTS = ROOT / "tests" / "infra" / "terraform"
TIMEOUT = 300.0  # seconds of one command
# What is planned: the folder, and its variables. The root is planned as a module of its own, too.
_PROD = {
    "project": "my-project",
    "domain": "agents.example.com",
    "invokers": ["group:support@example.com"],
    "alert_emails": ["oncall@example.com"],
    "billing_account": "012345-6789AB-CDEF01",
    "monthly_budget": 500,
}
PLANS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "root": (".", {"project": "my-project", "regions": ["europe-west1"], "domain": "agents.example.com"}),
    "dev": ("examples/dev", {"project": "my-project", "invokers": ["user:ann@example.com"]}),
    "prod": ("examples/prod", _PROD),
    "restored": ("examples/prod", _PROD | {"restored_databases": [restored.NAME], "served_database": restored.NAME}),
}


class Failed(Exception):
    """A step did not pass; the message says which, and what it said."""


def run(command: list[str], folder: Path, **environ: str) -> str:
    """Return what the command writes. Raises Failed."""
    try:
        result = subprocess.run(
            command, cwd=folder, env=os.environ | environ, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except FileNotFoundError as error:
        raise Failed(f"{command[0]} is not installed here: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(command)}: took longer than {TIMEOUT:.0f} s") from error
    if result.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit status {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result.stdout


def environment(name: str) -> Path:
    """Return the folder of the programs in a virtual environment made of `NAME-requirements.txt`, once."""
    requirements = TESTS / f"{name}-requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = BUILD / f"{name}-{digest}"
    if not (folder / ".complete").exists():
        sys.stdout.write(f"installing {name} (once) …\n")
        shutil.rmtree(folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(folder)], ROOT)
        run([str(folder / "bin" / "pip"), "--quiet", "install", "--requirement", str(requirements)], ROOT)
        (folder / ".complete").touch()
    return folder / "bin"


class Workspace:
    """A copy of the repository's part that Terraform reads, and a mirror with the provider."""

    def __init__(self) -> None:
        self.folder = BUILD / "workspace"
        self.terraform = self.folder / "infra" / "terraform"
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(TERRAFORM, self.terraform, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        catalogue = Path("shared/goagents/deploy/functions.json")
        (self.folder / catalogue).parent.mkdir(parents=True)
        shutil.copy(ROOT / catalogue, self.folder / catalogue)
        # State in a bucket needs the bucket: an override keeps it here.
        override = 'terraform {\n  backend "local" {}\n}\n'
        for backend in self.terraform.rglob("backend.tf"):
            (backend.parent / "backend_override.tf").write_text(override, encoding="utf-8")
        self.environ = {"TF_CLI_CONFIG_FILE": "/dev/null", "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}

    def offer_provider(self, python: Path) -> None:
        """Make the mirror, and the configuration that has Terraform look nowhere else."""
        told = self("providers", "-no-color", folder="modules/registry")  # the host is Terraform's to know
        found = re.search(r"provider\[([\w./-]+/google)\]", told)
        if found is None:
            raise Failed(f"terraform providers does not name the google provider:\n{told}")
        mirror, home = self.folder / "mirror", self.folder / "home"
        machine = json.loads(self("version", "-json", folder="."))["platform"]
        place = mirror / found[1] / PROVIDER / machine
        place.mkdir(parents=True)
        home.mkdir()
        program = place / f"terraform-provider-google_v{PROVIDER}"
        program.write_text(f'#!/bin/sh\nexec "{python}" "{TESTS / "provider.py"}"\n', encoding="utf-8")
        program.chmod(0o755)
        config = self.folder / "terraformrc"
        config.write_text(
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n', encoding="utf-8"
        )
        self.environ |= {"TF_CLI_CONFIG_FILE": str(config), "GOAGENTS_PROVIDER_HOME": str(home)}

    def __call__(self, *arguments: str, folder: str) -> str:
        return run(["terraform", *arguments], self.terraform / folder, **self.environ)


def check_schema() -> str:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    missing = sorted(name for kind, name in used() if name not in schema[kind])
    if missing:
        raise Failed(f"{SCHEMA.name} lacks {', '.join(missing)}: run python -m tests.infra.terraform.schema")
    return f"{len(schema['resource'])} types of resources, as of {PROVIDER}"


def check_plan(terraform: Workspace, name: str) -> str:
    folder, variables = PLANS[name]
    terraform("init", "-input=false", "-no-color", folder=folder)
    verdict = json.loads(terraform("validate", "-json", folder=folder))
    if not verdict["valid"] or verdict["warning_count"]:
        raise Failed(f"{name}: {json.dumps(verdict['diagnostics'], indent=2)}")
    (terraform.terraform / folder / f"{restored.NAME}.indexes").write_text(restored.listing(), encoding="utf-8")
    file = terraform.terraform / folder / "test.auto.tfvars.json"
    file.write_text(json.dumps({"image_tag": "0.1.0"} | variables), encoding="utf-8")
    terraform("plan", "-input=false", "-no-color", "-out=plan", folder=folder)
    plan = json.loads(terraform("show", "-json", "plan", folder=folder))
    file.unlink()
    faults = list(planned.faults(plan, split=name != "dev"))
    if name == "restored":
        faults += [*restored.faults(plan), *restored.unknown_addresses(plan)]
    faults += linted(released.commands(plan))
    if name == "dev":
        faults += released.undocumented(plan)
    if faults:
        raise Failed(f"{name}: " + "\n".join(faults))
    planting = {"root": planted.unnoticed, "restored": restored.unnoticed}.get(name)
    if planting and (missed := planting(plan)):
        raise Failed(f"planted in the plan, and not found: {'; '.join(missed)}")
    return f"{len(plan['resource_changes'])} resources planned"


def linted(commands: list[str]) -> list[str]:
    """Return what gcloud says is wrong with commands."""
    if not shutil.which("gcloud"):
        raise Failed("gcloud is not installed here; its linter reads the commands that release")
    with tempfile.TemporaryDirectory() as scratch:
        return gcloud_faults(commands, Path(scratch))


def check_released(terraform: Workspace) -> str:
    """What a release leaves is no change to Terraform, and what Terraform changes then is not refused."""
    folder = terraform.terraform / drifted.FOLDER
    folder.mkdir()

    def plan(environment: dict[str, str], state: dict[str, Any] | None = None) -> dict[str, Any]:
        (folder / "main.tf.json").write_text(json.dumps(drifted.configuration(environment)), encoding="utf-8")
        (folder / "terraform.tfstate").unlink(missing_ok=True)
        if state:
            (folder / "terraform.tfstate").write_text(json.dumps(state), encoding="utf-8")
        terraform("init", "-input=false", "-no-color", folder=drifted.FOLDER)
        terraform("plan", "-input=false", "-no-color", "-out=plan", folder=drifted.FOLDER)
        found: dict[str, Any] = json.loads(terraform("show", "-json", "plan", folder=drifted.FOLDER))
        return found

    first = plan({})
    if found := drifted.changed(plan({}, drifted.state(first))):
        raise Failed(f"a release leaves what Terraform would change: {found}")
    # One that had a revision's name in the template is mended by the next apply, not sent again with another content.
    for named, wanted in ((None, {"container.env"}), (drifted.REVISION, {"container.env", "template.revision"})):
        found = drifted.changed(plan({"GOAGENTS_LOG_LEVEL": "debug"}, drifted.state(first, revision=named)))
        if found.keys() != wanted or found.get("template.revision", (None, None))[1] is not None:
            raise Failed(f"after a release, another variable changes {found}")
    return "no change of its own, and another variable goes through"


def check_planted(terraform: Workspace) -> str:
    """What is wrong is found: otherwise that all is valid would say nothing."""
    for module in sorted({module for module, _, _ in planted.SOURCE.values()}):
        terraform("init", "-input=false", "-no-color", folder=f"modules/{module}")
        terraform("validate", folder=f"modules/{module}")
    for name, (module, there, instead) in planted.SOURCE.items():
        path = terraform.terraform / "modules" / module / "main.tf"
        text = path.read_text(encoding="utf-8")
        if there not in text:
            raise Failed(f"{there!r} is no longer in {module}/main.tf: mend tests/infra/terraform/planted.py")
        path.write_text(text.replace(there, instead, 1), encoding="utf-8")
        try:
            terraform("validate", folder=f"modules/{module}")
        except Failed:
            path.write_text(text, encoding="utf-8")
            continue
        raise Failed(f"planted in the module {module}, and not found: {name}")
    return f"{len(planted.SOURCE)} in the source, {len(planted.PLAN)} in the plan, each of them found"


def check_tests(terraform: Workspace) -> str:
    """Run the tests of the root, which `check_plan` has initialised."""
    told = terraform("test", "-no-color", folder=".")
    found = re.search(r"Success! (\d+) passed, 0 failed", told)
    written = sum(
        len(re.findall(r'^run "', path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in (TERRAFORM / "tests").glob("*.tftest.hcl")
    )
    # Without tests, or where they cannot begin, terraform test exits with 0.
    if found is None or int(found[1]) != written or not written:
        raise Failed(f"terraform test: {written} tests are written, and not all of them passed:\n{told}")
    return f"{written} tests"


def check_policies() -> str:
    found, excused = policies.scan(environment("checkov") / "checkov", TERRAFORM)
    if found:
        raise Failed("checkov:\n" + "\n".join(found))
    return f"nothing found, {excused} exceptions explained where they stand"


def main() -> int:
    began = time.monotonic()
    pool = ThreadPoolExecutor(max_workers=1)  # checkov needs no Terraform: it reads beside it
    try:
        scanned = pool.submit(check_policies)
        terraform = Workspace()
        terraform("fmt", "-check", "-diff", "-recursive", folder=".")
        terraform.offer_provider(environment("provider") / "python")
        steps = {"fmt": "clean", "schema": check_schema()}
        for name in PLANS:
            steps[f"init, validate, plan: {name}"] = check_plan(terraform, name)
        steps["after a release"] = check_released(terraform)
        steps["planted defects"] = check_planted(terraform)
        steps["terraform test"] = check_tests(terraform)
        steps["checkov"] = scanned.result()
    except Failed as error:
        sys.stdout.write(f"FAILED: {error}\n")
        return 1
    finally:
        pool.shutdown(cancel_futures=True)
    for name, outcome in steps.items():
        sys.stdout.write(f"ok: {name}: {outcome}\n")
    sys.stdout.write(f"{len(steps)} passed, 0 failed, {time.monotonic() - began:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
