"""The pages beside the files: links lead somewhere, what they tell to set is what is read."""

import base64
import json
import re
import shlex
from pathlib import Path

import pytest
from tests.benchmarks.servers import ROOT
from tests.infra.containers.kubernetes import KUBERNETES, kubectl
from tests.infra.containers.monitoring import COMPOSE, load

from goagents.deploy.catalogue import select
from goagents.deploy.grants import DATA_ROLE, ENQUEUER, on_project
from goagents.deploy.target import Target

PAGES = [ROOT / "infra" / name / "README.md" for name in ("docker", "kubernetes", "compose")]
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_and_targets_are_there(page: Path):
    text = page.read_text(encoding="utf-8")
    headings = [re.sub(r"[^\w\- ]", "", each.lower()) for each in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    for target in LINK.findall(text):
        path, _, anchor = target.partition("#")
        assert (page.parent / path).exists(), target
        if anchor and not path:
            assert anchor in [heading.replace(" ", "-") for heading in headings], target
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_secrets_that_are_told_of_are_those_that_are_asked_for():
    text = (ROOT / "infra/kubernetes/README.md").read_text(encoding="utf-8")
    deployment = load(ROOT / "infra/kubernetes/base/deployment.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    asked = {one["name"] for one in container["env"] if "valueFrom" in one}
    assert asked == set(re.findall(r"\b[A-Z]+_(?:API|INTERNAL|KEY|METRICS_KEY)_(?:KEY|HASH)\b", text))


def test_the_secret_is_made_of_the_file_as_it_is_shown(tmp_path: Path):
    """kubectl reads it: what follows a value in its line is part of it, so nothing may."""
    text = (KUBERNETES / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^ *```\n((?: *(?:#|[A-Z_]+=).*\n)+) *```$", text, re.MULTILINE)
    (command,) = re.findall(r"^ *kubectl (create secret generic goagents .*)$", text, re.MULTILINE)
    (tmp_path / "goagents.env").write_text(block, encoding="utf-8")
    words = command.replace("goagents.env", str(tmp_path / "goagents.env")).split()
    made = json.loads(kubectl(*words, "--dry-run=client", "--output=json"))
    values = {name: base64.b64decode(value).decode() for name, value in made["data"].items()}
    required = {"GOAGENTS_KEY_HASH", "GOAGENTS_METRICS_KEY_HASH", "GOAGENTS_INTERNAL_KEY"}
    assert values == dict.fromkeys([*required, "ANTHROPIC_API_KEY"], "…")


def test_the_ports_that_are_told_of_are_those_that_are_read():
    text = (COMPOSE / "README.md").read_text(encoding="utf-8")
    services = load(COMPOSE / "compose.yaml")["services"]
    published = {port for service in services.values() for port in service.get("ports", ())}
    told = re.findall(r"http://127\.0\.0\.1:(\d+) \| `([A-Z_]+)`", text)
    assert {f"{name}:-{port}" for port, name in told} == {
        re.search(r"\$\{([^}]*)\}", port).group(1)  # type: ignore[union-attr]
        for port in published
    }


def test_every_file_with_a_name_that_stands_for_yours_is_told_of():
    text = (KUBERNETES / "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^ *\| `(\S+\.yaml)` \|", text, re.MULTILINE))
    names = (r"my-project", r"goagents\.example\.com", r"newName: goagents\b", r"names: \[goagents\]")
    standing = re.compile(rf"^[^#\n]*({'|'.join(names)})", re.MULTILINE)
    files = {path for path in KUBERNETES.rglob("*.yaml") if standing.search(path.read_text(encoding="utf-8"))}
    assert {str(path.relative_to(KUBERNETES)) for path in files} == told
    for path in files:
        comments = " ".join(re.findall(r"#.*", path.read_text(encoding="utf-8")))
        assert re.search(r"[Rr]eplace|the overlay's", comments), f"{path} does not say so itself"


def test_what_prod_needs_of_google_cloud_is_made_by_these_commands():
    """Database, account and identity are those that the overlay names; test_readme.py has gcloud lint the commands."""
    text = (KUBERNETES / "README.md").read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in "\n".join(BLOCK.findall(text)).splitlines()]
    prod = KUBERNETES / "overlays/prod"
    account = load(prod / "serviceaccount.yaml")
    email = account["metadata"]["annotations"]["iam.gke.io/gcp-service-account"]
    namespace = load(prod / "kustomization.yaml")["namespace"]
    (container,) = load(prod / "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    project, database = variables["GOAGENTS_STORE"].removeprefix("firestore://").split("/")
    assert variables["GOOGLE_CLOUD_PROJECT"] == project

    def granting(role: str) -> list[str]:
        (found,) = [command for command in commands if f"--role={role}" in command]
        return found

    assert [command for command in commands if command[:3] == ["goagents", "deploy", "--platform"]] == [
        ["goagents", "deploy", "--platform", "gcp", "--project", project, "--region", "europe-west1", "--database-only"]
    ]
    created = next(command for command in commands if command[1:4] == ["iam", "service-accounts", "create"])
    assert email == f"{created[4]}@{project}.iam.gserviceaccount.com"
    target = Target(project=project, region="europe-west1", functions=select(["gateway"]), database=database)
    (data,) = [grant.give() for grant in on_project(target) if grant.role == DATA_ROLE]
    (condition,) = [part for part in data.argv if part.startswith("--condition=")]
    assert {condition, f"--member=serviceAccount:{email}"} <= set(granting(DATA_ROLE)), "this database alone"
    identity = granting("roles/iam.workloadIdentityUser")
    member = f"serviceAccount:{project}.svc.id.goog[{namespace}/{account['metadata']['name']}]"
    assert identity[4:6] == [email, f"--member={member}"]
    queue = load(KUBERNETES / "components/cloud-tasks/dispatch.yaml")["dispatch"]["queue"]
    assert granting(ENQUEUER)[4:7] == [
        queue.rpartition("/")[2],
        "--location=europe-west1",
        f"--member=serviceAccount:{email}",
    ]
    (image,) = load(prod / "kustomization.yaml")["images"]
    assert image["newName"].startswith(f"europe-west1-docker.pkg.dev/{project}/")
    assert f"docker push {image['newName']}:{image['newTag']}" in text
    repository = image["newName"].split("/")[2]
    (made,) = [command for command in commands if command[1:4] == ["artifacts", "repositories", "create"]]
    assert made[4] == repository
    assert granting("roles/artifactregistry.reader")[4:6] == [repository, "--location=europe-west1"], "or no node pulls"
