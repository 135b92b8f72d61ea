"""The interfaces of Google Cloud that are enabled are those that are used: by Terraform, and by `goagents deploy`.

What is used is read from what uses it: types of resources, roles, gcloud's commands, the code's imports. None of it is
known to Google Cloud by our names, so what is used anew has to be named here, with the interface it needs.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.infra.terraform.schema import TERRAFORM, used
from tests.infra.terraform.sources import literal, read

from goagents.deploy.catalogue import select
from goagents.deploy.plan import SERVICES, plan
from goagents.deploy.target import Target

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "shared" / "goagents" / "deploy"
SUBMITTED = (ROOT / "cloudbuild.yaml", TERRAFORM / "modules" / "release" / "main.tf")
PIPELINE = (DEPLOY / "gcloud.py", DEPLOY / "smoke.py", *sorted(DEPLOY.glob("release*.py")))
# By what the name of a resource's type begins with.
OF_RESOURCES = {
    "google_artifact_registry": "artifactregistry",
    "google_billing": "billingbudgets",
    "google_cloud_run": "run",
    "google_cloud_scheduler": "cloudscheduler",
    "google_cloud_tasks": "cloudtasks",
    "google_compute": "compute",
    "google_firestore": "firestore",
    "google_logging": "logging",
    "google_monitoring": "monitoring",
    "google_project": "cloudresourcemanager",
    "google_secret_manager": "secretmanager",
    "google_service_account": "iam",
}
# By what a role's name begins with: who has a right has what it is a right to.
OF_ROLES = {
    "roles/artifactregistry.": "artifactregistry",
    "roles/browser": "cloudresourcemanager",
    "roles/cloudtasks.": "cloudtasks",
    "roles/datastore.": "firestore",
    "roles/iam.": "iam",
    "roles/logging.": "logging",
    "roles/ondemandscanning.": "ondemandscanning",
    "roles/run.": "run",
    "roles/secretmanager.": "secretmanager",
    "roles/storage.": "storage",
}
# By what gcloud's command begins with. `services` is the interface that enables the others.
OF_COMMANDS = {
    "artifacts docker": "artifactregistry",
    "artifacts docker images list-vulnerabilities": "ondemandscanning",
    "artifacts docker images scan": "ondemandscanning",
    "auth print-identity-token": "iamcredentials",
    "builds submit": "cloudbuild",
    "firestore ": "firestore",
    "functions ": "cloudfunctions",
    "functions deploy": "cloudbuild",
    "iam ": "iam",
    "projects ": "cloudresourcemanager",
    "run ": "run",
    "scheduler ": "cloudscheduler",
    "secrets ": "secretmanager",
    "services ": "",
    "tasks ": "cloudtasks",
}
OF_IMPORTS = {"firestore_v1": "firestore", "tasks_v2": "cloudtasks"}


def needed(things: Iterable[str], by: dict[str, str]) -> set[str]:
    """Return the interfaces of all that fits. Raises KeyError for a thing that nothing fits."""
    found = set()
    for thing in things:
        fitting = [interface for start, interface in by.items() if thing.startswith(start)]
        if not fitting:
            raise KeyError(f"which interface {thing} needs: name it in {Path(__file__).name}")
        found.update(fitting)
    return found - {""}


def resources() -> set[str]:
    return {name for _, name in used()}


def roles(*texts: str) -> set[str]:
    return {role for text in texts for role in re.findall(r"\broles/[a-zA-Z.]+", text)}


def terraform() -> Iterator[str]:
    for path in sorted(TERRAFORM.rglob("*.tf")):
        if ".terraform" not in path.parts:
            yield path.read_text(encoding="utf-8")


def commands_of_the_pipeline() -> set[str]:
    """What gcloud is asked: by the steps, by the release's code, and by whoever submits it."""
    texts = [path.read_text(encoding="utf-8") for path in SUBMITTED]
    shown = r"^[^#\n]*\bgcloud ((?:[a-z][a-z-]+ )*[a-z][a-z-]+)"
    found = {command for text in texts for command in re.findall(shown, text, re.MULTILINE)}
    groups = {start.split()[0] for start in OF_COMMANDS}
    for path in PIPELINE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Tuple):
                words = [
                    each.value for each in node.elts if isinstance(each, ast.Constant) and isinstance(each.value, str)
                ]
                if len(words) > 1 and words[0] in groups:
                    found.add(" ".join(words))
    return found


def imports() -> set[str]:
    """The packages of Google Cloud's own clients that functions load."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "shared").rglob("*.py"))
    return {name for text in texts for name in re.findall(r"^from google\.cloud\.(\w+)", text, re.MULTILINE)}


def steps() -> list[tuple[str, ...]]:
    where = Target(
        project="my-project",
        region="europe-west1",
        source=ROOT,
        functions=select(),
        secrets={"ANTHROPIC_API_KEY": "anthropic-api-key"},
        invokers=("user:ann@example.com",),
    )
    return [argv for step in plan(where) for argv in (step.argv, step.look, step.update) if argv]


def of_terraform(resource_types: Iterable[str]) -> set[str]:
    return (
        needed(resource_types, OF_RESOURCES)
        | needed(roles(*terraform()), OF_ROLES)
        | needed(commands_of_the_pipeline(), OF_COMMANDS)
        | needed(imports(), OF_IMPORTS)
    )


def test_what_terraform_enables_is_what_resources_pipeline_and_code_use():
    (values,) = [each["services"] for each in read(TERRAFORM / "main.tf")["locals"] if "services" in each]
    enabled = {literal(each).removesuffix(".googleapis.com") for each in values}
    assert enabled == of_terraform(resources())


def test_what_the_command_enables_is_what_its_steps_and_the_code_use():
    commands = [" ".join(word for word in argv if not word.startswith("--")) for argv in steps()]
    granted = roles(*(" ".join(argv) for argv in steps()))
    used_there = needed(commands, OF_COMMANDS) | needed(granted, OF_ROLES) | needed(imports(), OF_IMPORTS)
    assert {service.removesuffix(".googleapis.com") for service in SERVICES} == used_there


def test_both_enable_the_same_but_for_what_one_of_them_does():
    (values,) = [each["services"] for each in read(TERRAFORM / "main.tf")["locals"] if "services" in each]
    one, other = {literal(each) for each in values}, set(SERVICES)
    assert {name.removesuffix(".googleapis.com") for name in other - one} == {"cloudfunctions"}
    own = needed(resources(), OF_RESOURCES) | needed(commands_of_the_pipeline(), OF_COMMANDS)
    assert {name.removesuffix(".googleapis.com") for name in one - other} <= own


def test_what_is_used_anew_is_noticed():
    assert of_terraform(resources() - {"google_billing_budget"}) != of_terraform(resources())
    for thing, by in (("google_pubsub_topic", OF_RESOURCES), ("roles/pubsub.admin", OF_ROLES), ("pubsub", OF_COMMANDS)):
        with pytest.raises(KeyError, match=thing):
            needed([thing], by)
    assert {"artifacts docker images scan", "builds submit", "auth print-identity-token"} <= {
        start for start in OF_COMMANDS for command in commands_of_the_pipeline() if command.startswith(start)
    }
