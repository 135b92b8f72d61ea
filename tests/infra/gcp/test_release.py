"""The pipeline's release, with the real gcloud against a project on loopback: traffic moves to what works, and back."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.benchmarks.servers import function
from tests.support.cli_process import environment
from tests.support.google_api import GoogleApi
from tests.support.google_api_routes import WHERE as LOCATION
from tests.support.google_api_routes import knative
from tests.support.google_api_state import NUMBER, PROJECT, REGION, Fault
from tests.support.google_project import ROOT, goagents, google_project, needs_gcloud
from tests.support.ports import free_port

from goagents.deploy.catalogue import select
from goagents.deploy.gcloud import Gcloud, GcloudFailed
from goagents.deploy.release import TAG, arguments, severe
from goagents.deploy.release_traffic import Release, Traffic
from goagents.deploy.target import Target

pytestmark = needs_gcloud
NAMES = ("health", "gateway")
SCAN = f"projects/{PROJECT}/locations/europe/scans/1"
# Without site-packages: in the pipeline it runs where nothing is installed.
RELEASE = [sys.executable, "-S", "-m", "goagents.deploy.release"]


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleApi]:
    folder = tmp_path_factory.mktemp("google")
    target = Target(project=PROJECT, region=REGION, functions=select(["gateway"]), number=NUMBER)
    variables = target.environment(target.functions[0]) | {
        "K_SERVICE": "goagents",
        "GOAGENTS_STORE": f"sqlite:///{folder}/state.db",
    }
    with (
        google_project(folder) as project,
        function("gateway", variables) as gateway,
        function("health", variables) as health,
    ):
        project.serving |= {"goagents-gateway": gateway.url, "goagents-health": health.url}
        yield project
        assert project.cloud.unknown == []


def release(google: GoogleApi, command: str, *more: str) -> Any:
    google.requests.clear()
    return goagents(google, *given(google, command, *more), command=RELEASE, PYTHONPATH=str(ROOT / "shared"))


def given(google: GoogleApi, command: str, *more: str) -> list[str]:
    where = [] if command == "severity" else ["--region", REGION, "--state", str(google.folder / "release.json")]
    return [command, "--project", PROJECT, *where, *more]


def service(google: GoogleApi, name: str) -> dict[str, Any]:
    return google.cloud.resources[f"run/{LOCATION}/services/goagents-{name}"]


def traffic(google: GoogleApi) -> dict[str, Traffic | None]:
    """What serves, by the service's name, as a release finds it."""
    return {f"goagents-{name}": Traffic.of(service(google, name)) for name in NAMES}


def shares(google: GoogleApi) -> dict[str, dict[str, int]]:
    return {name: dict(Traffic.of(service(google, name)).shares) for name in NAMES}


def newest(google: GoogleApi) -> dict[str, dict[str, int]]:
    return {name: {service(google, name)["status"]["latestReadyRevisionName"]: 100} for name in NAMES}


def image(google: GoogleApi, name: str) -> str:
    return service(google, name)["spec"]["template"]["spec"]["containers"][0]["image"]


def fixed_names(google: GoogleApi) -> list[str]:
    """The names of revisions that templates hold: with one, the next change of a service is refused (409)."""
    templates = [service(google, name)["spec"]["template"] for name in NAMES]
    return [name for each in templates if (name := each.get("metadata", {}).get("name"))]


def test_without_a_name_nothing_is_made(google: GoogleApi):
    result = release(google, "deploy", "--image", "registry/goagents:0")
    assert result.returncode == 1
    assert "There is no service goagents-… in europe-west1" in result.stderr
    assert "--functions=gateway" in result.stderr
    assert google.cloud.writes("run") == []


def test_a_first_release_makes_the_services_closed_and_with_all_they_need(google: GoogleApi):
    secrets = ("--secrets", "OPENAI_API_KEY=openai-api-key")
    result = release(google, "deploy", "--image", "registry/goagents:1", "--functions", ",".join(NAMES), *secrets)
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
    assert fixed_names(google) == []


def test_it_is_tried_at_its_tag_and_then_serves(google: GoogleApi):
    result = release(google, "smoke")
    assert result.returncode == 0, result.stderr
    hosts = {call[0] for call in google.cloud.calls}
    assert hosts == {f"{TAG}---goagents-{name}-{NUMBER}.{REGION}.run.app" for name in NAMES}
    tokens = [google.cloud.tokens[token]["aud"] for *_, token in google.cloud.calls]
    assert set(tokens) == {f"https://goagents-{name}-{NUMBER}.{REGION}.run.app" for name in NAMES}
    result = release(google, "promote")
    assert result.returncode == 0, result.stderr
    assert shares(google) == newest(google)


def test_without_a_name_those_that_are_there_are_released_and_none_is_made(google: GoogleApi):
    """What is there is health and gateway; what fails its test never gets traffic, and is not built on."""
    before, standing = shares(google), traffic(google)
    other = google.cloud.put(f"run/{LOCATION}/services/goagents-billing", {"metadata": {"name": "goagents-billing"}})
    result = release(google, "deploy", "--image", "registry/goagents:2")
    assert google.cloud.resources.pop(f"run/{LOCATION}/services/goagents-billing") is other
    assert result.returncode == 0, result.stderr
    assert "those that are there, health, gateway\n" in result.stdout
    there = {each["metadata"]["name"] for each in google.cloud.below("run", f"{LOCATION}/services")}
    assert there == set(traffic(google))
    assert set(json.loads((google.folder / "release.json").read_text())) == set(traffic(google))
    assert shares(google) == before, "deployed without traffic"
    for name in NAMES:
        assert image(google, name) == "registry/goagents:2"
        made = service(google, name)["status"]["latestCreatedRevisionName"]
        assert made not in before[name]
        assert Traffic.of(service(google, name)).tags[TAG] == made
    google.serving[f"{TAG}---goagents-gateway"] = f"http://127.0.0.1:{free_port()}"
    pauses: list[float] = []
    with pytest.raises(GcloudFailed, match="503 instead of 200: not an answer of GoAgents"):
        inside(google, standing, pauses).rehearse(TAG)
    del google.serving[f"{TAG}---goagents-gateway"]
    assert pauses == [5.0, 5.0, 5.0]
    assert shares(google) == before
    # What changes a service next, and what is served `--to-latest`, is made of what serves.
    assert {image(google, name) for name in NAMES} == {"registry/goagents:1"}
    assert fixed_names(google) == []


def test_what_cannot_be_deployed_leaves_no_service_with_the_image(google: GoogleApi):
    before = shares(google)
    google.cloud.faults.append(Fault("PUT run .*/goagents-gateway$", 400, "the container failed to start"))
    result = release(google, "deploy", "--image", "registry/goagents:broken")
    assert result.returncode == 1
    assert "the container failed to start" in result.stderr
    for name in NAMES:
        assert f"goagents-{name}: made of registry/goagents:1 again, without traffic\n" in result.stderr
        assert image(google, name) == "registry/goagents:1"
    assert shares(google) == before


def test_an_image_that_cannot_be_put_back_is_told(google: GoogleApi):
    class Full(Gcloud):
        def run(self, argv: Any, **options: Any) -> str:
            if "goagents-health" in argv:
                raise GcloudFailed("the quota is used up")
            return super().run(argv, **options)

    health, gateway = inside(google, traffic(google), [], Full(PROJECT)).put_back(traffic(google))
    assert gateway == "goagents-gateway: made of registry/goagents:1 again, without traffic"
    assert "NOT made of registry/goagents:1 again; until it is, neither apply Terraform nor" in health
    assert (
        "By hand: gcloud run services update goagents-health --image=registry/goagents:1 --no-traffic --reg" in health
    )
    assert health.endswith("\n  the quota is used up")


@pytest.fixture
def split(google: GoogleApi) -> dict[str, Any]:
    """The gateway serves from two revisions, both have a tag, and a newer one waits. Return what serves."""
    now = service(google, "gateway")
    found = Traffic.of(now).shares
    serving = max(found, key=lambda revision: found[revision])
    former = f"{serving.rpartition('-')[0]}-00000"
    now["spec"]["traffic"] = [
        {"revisionName": serving, "percent": 90},
        {"revisionName": former, "percent": 10},
        {"revisionName": former, "tag": "before"},
        {"revisionName": serving, "tag": TAG},
    ]
    knative(google.cloud, "goagents-gateway", now)
    return copy.deepcopy(traffic(google))


def test_what_fails_once_it_serves_is_moved_back(google: GoogleApi, split: dict[str, Any]):
    assert release(google, "deploy", "--image", "registry/goagents:3").returncode == 0
    works = google.serving["goagents-gateway"]
    google.serving["goagents-gateway"] = f"http://127.0.0.1:{free_port()}"
    google.requests.clear()
    with pytest.raises(GcloudFailed, match="The smoke test failed") as caught:
        inside(google, split, []).promote()
    google.serving["goagents-gateway"] = works
    assert re.search(r"goagents-gateway: serves \S+ \(90 %\), \S+-00000 \(10 %\) again", str(caught.value))
    assert "goagents-health: serves" in str(caught.value)
    assert traffic(google) == split, "shares, tags, and the image that is built on"
    puts = [each.path.rpartition("/goagents-")[2] for each in google.requests if each.method == "PUT"]
    assert puts == ["health", "gateway", "gateway", "health", "health", "gateway"], "the traffic first"


def test_what_cannot_be_moved_back_is_told_and_keeps_nobody_else(google: GoogleApi, split: dict[str, Any]):
    class Refusing(Gcloud):
        """Moves to the newest, and back only what is not the gateway; what it raises is nobody's own."""

        def run(self, argv: Any, **options: Any) -> str:
            if "goagents-gateway" in argv:
                raise GcloudFailed("the quota is used up") if "--to-latest" in argv else OSError("the disk is full")
            return super().run(argv, **options)

    with pytest.raises(GcloudFailed) as caught:
        inside(google, split, [], Refusing(PROJECT)).promote()
    told = str(caught.value)
    assert told.startswith("the quota is used up\n")
    assert "goagents-gateway: NOT moved back, do it by hand: gcloud run services update-traffic goagents-g" in told
    assert "=90," in told
    assert "  the disk is full\ngoagents-health: serves" in told
    assert "goagents-gateway: NOT made of " in told
    assert traffic(google) == split


def interrupted(google: GoogleApi, when: Callable[[], bool], **changes: str) -> tuple[int, str]:
    """Promote as the pipeline does, and end it by SIGTERM. Return its status and what it said."""
    google.requests.clear()
    google.cloud.calls.clear()
    own = environment(**google.environment | {"PYTHONPATH": str(ROOT / "shared")} | changes)
    command = [*RELEASE, *given(google, "promote")]
    with subprocess.Popen(command, cwd=ROOT, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + 60
        while not when():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    return process.returncode, said.decode()


def test_a_build_that_is_cancelled_moves_back_what_it_moved(google: GoogleApi, split: dict[str, Any]):
    assert release(google, "deploy", "--image", "registry/goagents:4").returncode == 0
    noted = json.loads((google.folder / "release.json").read_text())
    assert {name: Traffic(**each) for name, each in noted.items()} == split
    served = shares(google)
    # In the middle of the moves: gcloud is about to be told that one service is moved; the other is as it was deployed.
    # It is gcloud itself that dies in it, not one that forked.
    itself = os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if each != str(google.programs))
    status, said = interrupted(google, lambda: any(each.method == "PUT" for each in google.requests), PATH=itself)
    assert status == 1
    assert "The release was ended early.\ngoagents-health: serves" in said
    assert said.endswith("stopped\n")
    assert "goagents-gateway: serves" not in said
    assert shares(google) == served
    assert traffic(google)["goagents-health"] == split["goagents-health"]
    # While what users get is tried: both are moved.
    status, said = interrupted(google, lambda: bool(google.cloud.calls))
    assert (status, said.count(" again\n"), said.count(" again, without traffic\n")) == (1, 2, 2)
    assert traffic(google) == split


def test_what_works_serves(google: GoogleApi):
    before = shares(google)
    # As releases left it that named each revision after its tag.
    service(google, "gateway")["spec"]["template"].setdefault("metadata", {})["name"] = next(iter(before["gateway"]))
    for command in (("deploy", "--image", "registry/goagents:5"), ("smoke",), ("promote",)):
        result = release(google, *command)
        assert result.returncode == 0, result.stderr
    after = shares(google)
    assert all(after[name] != before[name] for name in NAMES)
    assert after == newest(google)
    assert fixed_names(google) == []
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
    result = release(google, "deploy", "--image", "registry/goagents:6")
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


def inside(google: GoogleApi, before: Any, pauses: list[float], gcloud: Gcloud | None = None) -> Release:
    """A release in this process, whose pauses take no time."""
    target = Target(project=PROJECT, region=REGION, functions=select(NAMES), number=NUMBER)
    return Release(target, gcloud or Gcloud(PROJECT), before, say=lambda _: None, sleep=pauses.append)


@pytest.fixture(autouse=True)
def _network(google: GoogleApi, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in google.environment.items():
        monkeypatch.setenv(name, value)
