"""The pipeline's release, with the real gcloud against a project on loopback: traffic moves to what works, and back."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.benchmarks.servers import function
from tests.support.google_api import GoogleApi
from tests.support.google_api_routes import WHERE as LOCATION
from tests.support.google_api_state import NUMBER, PROJECT, REGION
from tests.support.google_project import ROOT, goagents, google_project, needs_gcloud
from tests.support.ports import free_port

from goagents.deploy.catalogue import select
from goagents.deploy.gcloud import Gcloud, GcloudFailed
from goagents.deploy.release import TAG, arguments, severe
from goagents.deploy.release_traffic import Release, serving_now
from goagents.deploy.target import Target

pytestmark = needs_gcloud
NAMES = ("health", "gateway")
FUNCTIONS = ",".join(NAMES)
SCAN = f"projects/{PROJECT}/locations/europe/scans/1"
# Without site-packages: in the pipeline it runs where nothing is installed.
RELEASE = [sys.executable, "-S", "-m", "goagents.deploy.release"]


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleApi]:
    folder = tmp_path_factory.mktemp("google")
    target = Target(project=PROJECT, region=REGION, functions=select(["gateway"]), number=NUMBER)
    environment = target.environment(target.functions[0]) | {
        "K_SERVICE": "goagents",
        "GOAGENTS_STORE": f"sqlite:///{folder}/state.db",
    }
    with (
        google_project(folder) as project,
        function("gateway", environment) as gateway,
        function("health", environment) as health,
    ):
        project.serving |= {"goagents-gateway": gateway.url, "goagents-health": health.url}
        yield project
        assert project.cloud.unknown == []


def release(google: GoogleApi, command: str, *more: str) -> Any:
    where = [] if command == "severity" else ["--region", REGION, "--functions", FUNCTIONS]
    where += [] if command == "severity" else ["--state", str(google.folder / "release.json")]
    google.requests.clear()
    arguments_given = [command, "--project", PROJECT, *where, *more]
    return goagents(google, *arguments_given, command=RELEASE, PYTHONPATH=str(ROOT / "shared"))


def service(google: GoogleApi, name: str) -> dict[str, Any]:
    return google.cloud.resources[f"run/{LOCATION}/services/goagents-{name}"]


def serves(google: GoogleApi) -> dict[str, str | None]:
    return {name: serving_now(service(google, name)) for name in NAMES}


def image(google: GoogleApi, name: str) -> str:
    return service(google, name)["spec"]["template"]["spec"]["containers"][0]["image"]


def test_a_first_release_makes_the_services_closed_and_with_all_they_need(google: GoogleApi):
    result = release(google, "deploy", "--image", "registry/goagents:1", "--secrets", "OPENAI_API_KEY=openai-api-key")
    assert result.returncode == 0, result.stderr
    assert json.loads((google.folder / "release.json").read_text()) == {
        "goagents-health": None,
        "goagents-gateway": None,
    }
    spec = service(google, "gateway")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    values = {each["name"]: each.get("value") for each in container["env"]}
    assert values["FUNCTION_SOURCE"] == "functions/gateway/main.py"
    assert values["FUNCTION_TARGET"] == "gateway"
    assert values["GOAGENTS_STORE"] == f"firestore://{PROJECT}/(default)"
    (secret,) = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each]
    assert secret == {"name": "openai-api-key", "key": "latest"}
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}
    assert (spec["containerConcurrency"], spec["timeoutSeconds"]) == (500, 930)
    assert spec["serviceAccountName"] == f"goagents-gateway@{PROJECT}.iam.gserviceaccount.com"
    assert "allUsers" not in json.dumps(google.cloud.policies)
    health = service(google, "health")["spec"]["template"]["spec"]["containers"][0]
    assert not [each for each in health["env"] if "valueFrom" in each]


def test_it_is_tried_at_its_tag_and_then_serves(google: GoogleApi):
    result = release(google, "smoke")
    assert result.returncode == 0, result.stderr
    hosts = {call[0] for call in google.cloud.calls}
    assert hosts == {f"{TAG}---goagents-{name}-{NUMBER}.{REGION}.run.app" for name in NAMES}
    tokens = [google.cloud.tokens[token]["aud"] for *_, token in google.cloud.calls]
    assert set(tokens) == {f"https://goagents-{name}-{NUMBER}.{REGION}.run.app" for name in NAMES}
    result = release(google, "promote")
    assert result.returncode == 0, result.stderr
    assert serves(google) == {name: service(google, name)["status"]["latestReadyRevisionName"] for name in NAMES}


def test_a_release_that_fails_its_test_never_gets_traffic(google: GoogleApi):
    before = serves(google)
    result = release(google, "deploy", "--image", "registry/goagents:2")
    assert result.returncode == 0, result.stderr
    assert serves(google) == before, "deployed without traffic"
    for name in NAMES:
        assert image(google, name) == "registry/goagents:2"
        tagged = [each for each in service(google, name)["status"]["traffic"] if each.get("tag") == TAG]
        assert [each["revisionName"] == before[name] for each in tagged] == [False]
    google.serving[f"{TAG}---goagents-gateway"] = f"http://127.0.0.1:{free_port()}"
    pauses: list[float] = []
    with pytest.raises(GcloudFailed, match="503 instead of 200: not an answer of GoAgents"):
        inside(google, before, pauses).smoke(TAG)
    del google.serving[f"{TAG}---goagents-gateway"]
    assert pauses == [5.0, 5.0, 5.0]
    assert serves(google) == before


def test_what_fails_once_it_serves_is_moved_back(google: GoogleApi):
    before = serves(google)
    release(google, "deploy", "--image", "registry/goagents:3")
    works = google.serving["goagents-gateway"]
    google.serving["goagents-gateway"] = f"http://127.0.0.1:{free_port()}"
    google.requests.clear()
    with pytest.raises(GcloudFailed) as caught:
        inside(google, {f"goagents-{name}": revision for name, revision in before.items()}, []).promote()
    google.serving["goagents-gateway"] = works
    assert f"goagents-gateway: serves {before['gateway']} again" in str(caught.value)
    assert f"goagents-health: serves {before['health']} again" in str(caught.value)
    assert serves(google) == before
    puts = [each.path.rpartition("/")[2] for each in google.requests if each.method == "PUT"]
    assert puts == ["goagents-health", "goagents-gateway", "goagents-gateway", "goagents-health"]


def test_what_works_serves(google: GoogleApi):
    before = serves(google)
    for command in (("deploy", "--image", "registry/goagents:4"), ("smoke",), ("promote",)):
        result = release(google, *command)
        assert result.returncode == 0, result.stderr
    after = serves(google)
    assert all(after[name] != before[name] for name in NAMES)
    assert all(after[name] == service(google, name)["status"]["latestReadyRevisionName"] for name in NAMES)
    variables = service(google, "gateway")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"GOAGENTS_STORE", "OPENAI_API_KEY", "FUNCTION_TARGET"} <= {each["name"] for each in variables}, "kept"


def test_the_token_of_another_account_is_shown_where_it_is_named(google: GoogleApi):
    smoke = f"smoke@{PROJECT}.iam.gserviceaccount.com"
    google.cloud.calls.clear()
    google.cloud.owners.add(smoke)
    result = release(google, "smoke", "--as", smoke)
    assert result.returncode == 0, result.stderr
    assert {google.cloud.tokens[token]["email"] for *_, token in google.cloud.calls} == {smoke}


def test_a_function_from_source_is_left_alone(google: GoogleApi):
    service(google, "health")["metadata"]["labels"]["goog-managed-by"] = "cloudfunctions"
    result = release(google, "deploy", "--image", "registry/goagents:5")
    del service(google, "health")["metadata"]["labels"]["goog-managed-by"]
    assert result.returncode == 1
    assert "goagents-health was deployed from source" in result.stderr
    assert google.cloud.writes("run") == []


@pytest.mark.parametrize(("severity", "fix", "status"), [("HIGH", True, 1), ("HIGH", False, 0), ("LOW", True, 0)])
def test_a_vulnerable_image_stops_the_release(google: GoogleApi, severity: str, fix: bool, status: int):
    about = {"effectiveSeverity": severity, "fixAvailable": fix, "shortDescription": "CVE-1"}
    about["packageIssue"] = [{"affectedPackage": "openssl"}]
    name = f"{SCAN}/vulnerabilities/1"
    google.cloud.put(f"ondemandscanning/{name}", {"name": name, "kind": "VULNERABILITY", "vulnerability": about})
    result = release(google, "severity", "--scan", SCAN)
    assert result.returncode == status, result.stderr
    assert ("HIGH CVE-1 openssl" in result.stderr) == bool(status)


def test_what_a_release_asks_for_follows_the_catalogue():
    target = Target(project=PROJECT, region=REGION, functions=select(), number=NUMBER)
    for each in target.functions:
        again = arguments(target, each, "an-image", new=False)
        assert "--no-traffic" in again
        assert not [part for part in again if part.startswith(("--set-env-vars", "--service-account", "--set-secrets"))]
        first = arguments(target, each, "an-image", new=True)
        assert "--no-allow-unauthenticated" in first
        assert f"--memory={each.memory}" in first
    assert severe(None) == []


def inside(google: GoogleApi, before: dict[str, str | None], pauses: list[float]) -> Release:
    """A release in this process, whose pauses take no time."""
    target = Target(project=PROJECT, region=REGION, functions=select(NAMES), number=NUMBER)
    return Release(target, Gcloud(PROJECT), before, say=lambda _: None, sleep=pauses.append)


@pytest.fixture(autouse=True)
def _network(google: GoogleApi, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in google.environment.items():
        monkeypatch.setenv(name, value)
