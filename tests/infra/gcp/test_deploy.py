"""`goagents deploy --platform gcp`, with the real gcloud against a project on loopback, and the gateway it deploys.

What gcloud asks of Google is asserted, not what we ask of gcloud. One deployment goes through all of it: it fails in
the middle, goes on, finds nothing left to do, serves a cluster, and is taken away.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.servers import function
from tests.ci.source_deploy import copy_upload, uploaded_files
from tests.support.google_api import OWNER, GoogleApi
from tests.support.google_api_routes import uploaded
from tests.support.google_api_state import NUMBER, PROJECT, REGION, Fault, Request
from tests.support.google_project import ROOT, WHERE, goagents, google_project, needs_gcloud

from goagents.deploy.plan_store import exempt_fields, expiring_collections
from goagents.deploy.target import MAX_INSTANCES
from goagents.store.indexes import INDEXES

pytestmark = needs_gcloud
CLUSTER = """
apiVersion: goagents.dev/v1
kind: AgentCluster
metadata: {name: shop}
spec:
  agents: [{name: clerk, provider: openai, model: gpt-5.4-mini}]
"""
DATABASE = f"projects/{PROJECT}/databases/(default)"
SERVICE = f"projects/{PROJECT}/locations/{REGION}/services/goagents-gateway"
URL = f"https://goagents-gateway-{NUMBER}.{REGION}.run.app"
INVOKER = f"goagents-invoker@{PROJECT}.iam.gserviceaccount.com"
KEY = "a-key-that-is-nowhere"


def most_of_the_database(google: GoogleApi) -> None:
    """Have all indexes but one, exemptions but one and policies but one: each takes gcloud a second."""
    for number, index in enumerate([index for index in INDEXES if len(index.fields) > 1][1:]):
        order = ["ASCENDING"] * (len(index.fields) - 1) + ["DESCENDING" if index.descending else "ASCENDING"]
        fields = [{"fieldPath": name, "order": each} for name, each in zip(index.fields, order, strict=True)]
        fields.append({"fieldPath": "__name__", "order": order[-1]})
        name = f"{DATABASE}/collectionGroups/{index.collection}/indexes/made-{number}"
        google.cloud.put(f"firestore/{name}", {"name": name, "queryScope": "COLLECTION", "fields": fields})
    for group, field in list(exempt_fields())[1:]:
        name = f"{DATABASE}/collectionGroups/{group}/fields/{field}"
        google.cloud.put(f"firestore/{name}", {"name": name, "indexConfig": {}})
    for group in expiring_collections()[1:]:
        google.cloud.resources[f"firestore/{DATABASE}/collectionGroups/{group}/fields/expire_at"]["ttlConfig"] = {}


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleApi]:
    folder = tmp_path_factory.mktemp("google")
    (folder / "cluster.yaml").write_text(CLUSTER, encoding="utf-8")
    environment = {
        "K_SERVICE": "goagents-gateway",
        "GOAGENTS_CONFIG": "infra/gcp/config.yaml",
        "GOAGENTS_STORE": f"sqlite:///{folder}/state.db",
        "GOAGENTS_QUEUE": f"projects/{PROJECT}/locations/{REGION}/queues/goagents",
        "GOAGENTS_WORKER_URL": f"{URL}/worker",
        "GOAGENTS_INVOKER": INVOKER,
        "OPENAI_API_KEY": KEY,
    }
    # A copy: the source may change while this goes on, where people work on it.
    copy_upload(uploaded_files(), folder / "source")
    with google_project(folder) as project, function("gateway", environment) as server:
        most_of_the_database(project)
        project.serving["goagents-gateway"] = server.url
        yield project
        assert project.cloud.unknown == [], "gcloud asked for what the project on loopback does not know"


def deploy(google: GoogleApi, *more: str | Path) -> Any:
    cluster = ("--cluster", google.folder / "cluster.yaml")
    invoker = ("--invoker", "user:ann@example.com", "--source", google.folder / "source")
    google.requests.clear()
    return goagents(google, "deploy", *WHERE, "--functions", "gateway", *cluster, *invoker, "--yes", *more)


def one(google: GoogleApi, method: str, ending: str) -> Request:
    (found,) = [each for each in google.requests if each.method == method and each.path.endswith(ending)]
    return found


def members(google: GoogleApi, resource: str, role: str) -> set[str]:
    bindings = google.cloud.policies[resource]["bindings"]
    return {member for binding in bindings if binding["role"] == role for member in binding["members"]}


def test_a_dry_run_asks_nobody(google: GoogleApi):
    result = deploy(google, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert google.requests == []
    commands = [line for line in result.stdout.splitlines() if line.startswith("gcloud ")]
    assert len(commands) > 70
    assert all(line.endswith(f"--project={PROJECT}") for line in commands)


def test_without_its_secret_nothing_is_made(google: GoogleApi):
    result = deploy(google)
    assert result.returncode == 1
    assert 'printf %s "$OPENAI_API_KEY" | gcloud secrets create openai-api-key' in result.stderr
    assert {each.service for each in google.cloud.writes()} <= {"serviceusage"}
    name = f"projects/{PROJECT}/secrets/openai-api-key"
    google.cloud.put(f"secretmanager/{name}", {"name": name})


def test_a_deployment_that_failed_says_why(google: GoogleApi):
    google.cloud.faults.append(Fault(r"^POST cloudfunctions .*/functions$", 400, "Quota of builds is used up"))
    result = deploy(google)
    assert result.returncode == 1
    assert "gcloud functions deploy goagents-gateway: " in result.stderr
    assert "Quota of builds is used up" in result.stderr
    assert google.cloud.below("cloudfunctions", f"projects/{PROJECT}/locations/{REGION}/functions") == []


def test_the_same_command_goes_on_and_applies_the_cluster(google: GoogleApi):
    google.cloud.refusals = 1
    result = deploy(google)
    assert result.returncode == 0, result.stderr
    assert "make the service account goagents-gateway: done already" in result.stderr
    changed = {each.service for each in google.cloud.writes()}
    assert changed == {"cloudfunctions", "storage", "run", "cloudscheduler"}, "the rest was there"
    assert f"server {URL}" in result.stdout
    assert "cluster default/shop created" in result.stdout
    with_tokens = [call for call in google.cloud.calls if call[2].startswith("/api/v1/clusters")]
    assert with_tokens, "the cluster was sent through Cloud Run"
    assert all(google.cloud.tokens[token]["email"] == OWNER for *_, token in with_tokens)


def test_what_was_deployed(google: GoogleApi):
    made = google.cloud.resources[f"cloudfunctions/projects/{PROJECT}/locations/{REGION}/functions/goagents-gateway"]
    config, build = made["serviceConfig"], made["buildConfig"]
    assert config["availableMemory"] == "512Mi"
    assert config["availableCpu"] == "1"
    assert config["maxInstanceRequestConcurrency"] == 500
    assert config["timeoutSeconds"] == 930
    assert config["maxInstanceCount"] == MAX_INSTANCES
    assert config["serviceAccountEmail"] == f"goagents-gateway@{PROJECT}.iam.gserviceaccount.com"
    assert config["environmentVariables"] | {"LOG_EXECUTION_ID": "true"} == {
        "GOAGENTS_CONFIG": "infra/gcp/config.yaml",
        "GOAGENTS_STORE": f"firestore://{PROJECT}/(default)",
        "GOAGENTS_QUEUE": f"projects/{PROJECT}/locations/{REGION}/queues/goagents",
        "GOAGENTS_WORKER_URL": f"{URL}/worker",
        "GOAGENTS_INVOKER": INVOKER,
        "GOAGENTS_TIMEOUT": "300s",
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "LOG_EXECUTION_ID": "true",
    }
    (secret,) = config["secretEnvironmentVariables"]
    assert (secret["key"], secret["secret"], secret["version"]) == ("OPENAI_API_KEY", "openai-api-key", "latest")
    assert build["entryPoint"] == "gateway"
    assert build["runtime"] == "python311"
    assert build["environmentVariables"] == {"GOOGLE_FUNCTION_SOURCE": "functions/gateway/main.py"}
    assert build["serviceAccount"].endswith(f"goagents-build@{PROJECT}.iam.gserviceaccount.com")


def test_who_may_do_what(google: GoogleApi):
    gateway = f"serviceAccount:goagents-gateway@{PROJECT}.iam.gserviceaccount.com"
    assert members(google, f"run/{SERVICE}", "roles/run.invoker") == {
        f"serviceAccount:{INVOKER}",
        "user:ann@example.com",
    }
    assert members(google, f"cloudresourcemanager/projects/{PROJECT}", "roles/datastore.user") == {gateway}
    (data,) = [
        each
        for each in google.cloud.policies[f"cloudresourcemanager/projects/{PROJECT}"]["bindings"]
        if each["role"] == "roles/datastore.user"
    ]
    assert data["condition"]["expression"] == f'resource.name=="{DATABASE}"', "this database, and no other"
    queue = f"cloudtasks/projects/{PROJECT}/locations/{REGION}/queues/goagents"
    assert members(google, queue, "roles/cloudtasks.enqueuer") == {gateway}
    secret = f"secretmanager/projects/{PROJECT}/secrets/openai-api-key"
    assert members(google, secret, "roles/secretmanager.secretAccessor") == {gateway}
    account = f"iam/projects/{PROJECT}/serviceAccounts/{INVOKER}"
    assert members(google, account, "roles/iam.serviceAccountUser") == {gateway}
    everything = json.dumps([google.cloud.policies, google.cloud.resources])
    assert "allUsers" not in everything
    assert KEY not in everything


def test_what_calls_it_and_where_it_keeps_its_state(google: GoogleApi):
    job = google.cloud.resources[f"cloudscheduler/projects/{PROJECT}/locations/{REGION}/jobs/goagents-sweep"]
    assert job["schedule"] == "* * * * *"
    assert job["httpTarget"]["uri"] == f"{URL}/sweep"
    assert job["httpTarget"]["oidcToken"] == {"serviceAccountEmail": INVOKER, "audience": URL}
    database = google.cloud.resources[f"firestore/{DATABASE}"]
    assert (database["type"], database["locationId"]) == ("FIRESTORE_NATIVE", REGION)
    assert database["deleteProtectionState"] == "DELETE_PROTECTION_ENABLED"
    indexes = [name for name in google.cloud.resources if "/indexes/" in name]
    assert len(indexes) == len([index for index in INDEXES if len(index.fields) > 1])
    expiring = [value for value in google.cloud.resources.values() if "ttlConfig" in value]
    assert len(expiring) == len(expiring_collections())


def test_what_is_uploaded(google: GoogleApi):
    names = uploaded(google.cloud)
    assert {"main.py", "requirements.txt", "pyproject.toml", "infra/gcp/config.yaml"} <= set(names)
    assert {f"functions/{path.parent.name}/main.py" for path in (ROOT / "functions").glob("*/main.py")} <= set(names)
    unwanted = ("tests/", "docs/", "scripts/", ".git/", ".venv/", "infra/terraform", "infra/kubernetes", ".github/")
    assert [name for name in names if name.startswith(unwanted) or "__pycache__" in name] == []


def test_a_second_deployment_changes_nothing(google: GoogleApi):
    result = deploy(google, "--output", "json")
    assert result.returncode == 0, result.stderr
    assert google.cloud.writes() == []
    said = json.loads(result.stdout)
    assert set(said["steps"].values()) == {"done already"}
    assert said["items"][0]["outcome"] == "unchanged"


def test_the_deployment_is_a_server_for_the_other_commands(google: GoogleApi):
    changed = google.folder / "changed.yaml"
    changed.write_text(CLUSTER.replace("gpt-5.4-mini", "gpt-5.4"), encoding="utf-8")
    result = goagents(google, "deploy", "--cluster", changed, "--server", URL)
    assert result.returncode == 0, result.stderr
    assert "cluster default/shop updated (generation 2)" in result.stdout


def test_who_has_no_token_is_kept_out(google: GoogleApi):
    result = goagents(google, "status", "--server", URL, GOAGENTS_API_KEY="not-a-token")
    assert result.returncode == 1
    assert "403" in result.stderr
    assert "gcloud auth login" in result.stderr


def test_destroying_wants_to_be_sure(google: GoogleApi):
    google.requests.clear()
    result = goagents(google, "destroy", *WHERE)
    assert result.returncode == 2
    assert "delete the function goagents-gateway" in result.stderr
    assert "add --yes" in result.stderr
    assert google.cloud.writes() == []


def test_destroying_takes_all_away_but_data_secrets_and_the_queue(google: GoogleApi):
    result = goagents(google, "destroy", *WHERE, "--yes")
    assert result.returncode == 0, result.stderr
    left = {name.split("/")[0] for name in google.cloud.resources}
    assert left == {"serviceusage", "firestore", "secretmanager", "cloudtasks"}
    assert "kept: the Firestore database (default)" in result.stdout
    assert "kept: the queue goagents, empty and paused" in result.stdout
    queue = f"cloudtasks/projects/{PROJECT}/locations/{REGION}/queues/goagents"
    assert google.cloud.resources[queue]["state"] == "PAUSED"
    assert google.cloud.resources[queue]["purgeTime"]
    secret = f"secretmanager/projects/{PROJECT}/secrets/openai-api-key"
    for kept in (f"cloudresourcemanager/projects/{PROJECT}", secret, queue):
        assert google.cloud.policies[kept].get("bindings", []) == [], "no policy names an account that is gone"
    with_data = goagents(google, "destroy", *WHERE, "--yes", "--data", "--output", "json")
    assert with_data.returncode == 0, with_data.stderr
    assert json.loads(with_data.stdout)["deleted"] == ["protection", "database"]
    assert f"firestore/{DATABASE}" not in google.cloud.resources
