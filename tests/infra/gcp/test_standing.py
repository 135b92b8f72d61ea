"""What stands in the project already: Terraform's services, other regions, other deployments on the same database.

The real gcloud against a project on loopback; what stands there is put there as Google would list it.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.google_api import GoogleApi
from tests.support.google_api_state import PROJECT, REGION
from tests.support.google_project import ROOT, WHERE, goagents, needs_gcloud
from tests.support.terminal import Terminal

pytestmark = needs_gcloud
STORE = f"firestore://{PROJECT}/(default)"
ELSEWHERE = "us-central1"
SOURCE = {"goog-managed-by": "cloudfunctions"}


@pytest.fixture
def google(google_cloud: GoogleApi) -> GoogleApi:
    google_cloud.cloud.resources.clear()
    enabled = {"name": f"projects/{PROJECT}/services/run.googleapis.com", "config": {"name": "run.googleapis.com"}}
    google_cloud.cloud.put("serviceusage/services/run.googleapis.com", enabled)
    put(google_cloud, "iam", f"projects/{PROJECT}/serviceAccounts/goagents-chat@{PROJECT}.iam.gserviceaccount.com")
    put(google_cloud, "cloudtasks", f"projects/{PROJECT}/locations/{REGION}/queues/goagents", state="RUNNING")
    put(google_cloud, "firestore", f"projects/{PROJECT}/databases/(default)")
    google_cloud.requests.clear()
    return google_cloud


def put(google: GoogleApi, service: str, name: str, **more: Any) -> None:
    google.cloud.put(f"{service}/{name}", {"name": name, **more})


def serves(google: GoogleApi, name: str, region: str = REGION, store: str = STORE, **labels: str) -> None:
    """Have a service of Cloud Run; without a label it is of an image, as Terraform makes them."""
    container = {"image": "an-image", "env": [{"name": "GOAGENTS_STORE", "value": store}, {"name": "KEY"}]}
    metadata = {"name": name, "namespace": "1", "labels": {"cloud.googleapis.com/location": region, **labels}}
    spec = {"template": {"spec": {"containers": [container]}}}
    made = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": metadata, "spec": spec}
    google.cloud.put(f"run/projects/{PROJECT}/locations/{region}/services/{name}", made)


@pytest.mark.parametrize("region", [REGION, ELSEWHERE])
@pytest.mark.parametrize(
    "command", [["destroy"], ["deploy", "--functions", "gateway", "--source", ROOT]], ids=lambda c: c[0]
)
def test_what_terraform_made_is_left_alone(google: GoogleApi, command: list[str | Path], region: str):
    """Also where other functions are deployed than it has, and in another region: the accounts are the same."""
    serves(google, "goagents-chat", region)
    before = dict(google.cloud.resources)
    result = goagents(google, *command, *WHERE, "--yes")
    assert result.returncode == 1
    assert f"goagents-chat in {region}: not deployed from source, so by Terraform or the pipeline" in result.stderr
    assert "Name another --prefix" in result.stderr
    assert google.cloud.writes() == []
    assert google.cloud.resources == before


def test_what_has_another_prefix_or_name_is_in_nobodys_way(google: GoogleApi):
    serves(google, "other-chat")
    serves(google, "goagents-shop")
    result = goagents(google, "destroy", *WHERE, "--yes", "--output", "json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["deleted"] == ["queue-purge", "queue-pause", "account-chat"]


def test_the_accounts_stay_for_the_same_functions_in_another_region(google: GoogleApi):
    serves(google, "goagents-chat", ELSEWHERE, **SOURCE)
    result = goagents(google, "destroy", *WHERE, "--yes")
    assert result.returncode == 0, result.stderr
    assert [name for name in google.cloud.resources if name.startswith("iam/")]
    assert f"kept: the service accounts, which are also those of goagents-chat in {ELSEWHERE}" in result.stdout
    assert (
        google.cloud.resources[f"cloudtasks/projects/{PROJECT}/locations/{REGION}/queues/goagents"]["state"] == "PAUSED"
    )


def test_whom_a_deployment_keeps_out_is_told_before_the_question(google: GoogleApi):
    serves(google, "goagents-gateway", **SOURCE)
    members = ["allUsers", "user:ann@example.com", "user:bob@example.com"]
    policy = {"etag": "BwX=", "bindings": [{"role": "roles/run.invoker", "members": members}]}
    google.cloud.policies[f"run/projects/{PROJECT}/locations/{REGION}/services/goagents-gateway"] = policy
    options = ("--functions", "gateway", "--source", ROOT, "--invoker", "user:ann@example.com")
    result = goagents(google, "deploy", *WHERE, *options)
    assert result.returncode == 2
    assert "there is no terminal to ask on" in result.stderr
    assert "let everybody call gateway no longer\nlet user:bob@example.com call gateway no longer\n" in result.stderr
    assert "ann@example.com" not in result.stderr
    assert google.cloud.writes() == []


@pytest.mark.parametrize(
    ("name", "region", "labels"),
    [("other-gateway", REGION, SOURCE), ("shop", ELSEWHERE, {}), ("goagents-chat", ELSEWHERE, SOURCE)],
)
def test_a_database_that_others_use_is_not_deleted(google: GoogleApi, name: str, region: str, labels: dict[str, str]):
    serves(google, name, region, **labels)
    result = goagents(google, "destroy", *WHERE, "--data", "--yes")
    assert result.returncode == 1
    assert f"{name} in {region}: has its state in the database (default), too. Nothing was deleted" in result.stderr
    assert google.cloud.writes() == []


def test_whose_database_goes_is_asked_by_its_name(google: GoogleApi, monkeypatch: pytest.MonkeyPatch):
    serves(google, "other-gateway", store=f"firestore://{PROJECT}/others", **SOURCE)
    for name, value in google.environment.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal("", "destroy", *WHERE, "--data")
    try:
        terminal.await_text(
            r"delete the database \(default\), for good: the clusters, sessions and runs of all who use it"
        )
        terminal.await_text(r"to delete all of this, and the database \(default\), which others may use, too")
        terminal.type(f"{PROJECT}\n")
        terminal.await_text("destroyed: 4 steps")
    finally:
        terminal.close()
    assert f"firestore/projects/{PROJECT}/databases/(default)" not in google.cloud.resources
