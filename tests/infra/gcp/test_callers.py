"""Who may call what was deployed before: options that are dropped close it, and a redeployment closes nothing.

The real gcloud against a project on loopback; of each plan the steps are carried out that deploy a function and say who
may call it.
"""

import shutil
from dataclasses import replace
from typing import Any

import pytest
from tests.support.google_api import GoogleApi
from tests.support.google_api_state import PROJECT, REGION, Request
from tests.support.google_project import ROOT, needs_gcloud

from goagents.deploy.carry_out import carry_out
from goagents.deploy.catalogue import select
from goagents.deploy.digest import PARTS
from goagents.deploy.gcloud import Gcloud
from goagents.deploy.plan import plan
from goagents.deploy.standing import other_callers, services
from goagents.deploy.target import Target

pytestmark = needs_gcloud
ANN, BOB, EVERYBODY = "user:ann@example.com", "user:bob@example.com", "allUsers"
INVOKER = f"serviceAccount:goagents-invoker@{PROJECT}.iam.gserviceaccount.com"
KEYS = f'auth: {{mode: api_key, api_keys: [{{name: shop, hash: "{"0" * 64}"}}]}}'


@pytest.fixture
def google(google_cloud: GoogleApi, monkeypatch: pytest.MonkeyPatch) -> GoogleApi:
    for name, value in google_cloud.environment.items():
        monkeypatch.setenv(name, value)
    google_cloud.cloud.resources.clear()
    google_cloud.cloud.policies.clear()
    for name in ("run", "cloudfunctions", "cloudbuild", "artifactregistry"):
        api = f"{name}.googleapis.com"
        google_cloud.cloud.put(f"serviceusage/services/{api}", {"name": api, "config": {"name": api}})
    return google_cloud


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """The gateway, open to everybody, from the least that is a source; its configuration asks for keys."""
    source = tmp_path_factory.mktemp("source")
    for part in (*PARTS, "main.py"):
        if (ROOT / part).is_dir():
            (source / part).mkdir()
        else:
            shutil.copy(ROOT / part, source / part)
    (source / "infra/gcp").mkdir(parents=True)
    (source / "infra/gcp/open.yaml").write_text(KEYS, encoding="utf-8")
    where: dict[str, Any] = {"project": PROJECT, "region": REGION, "source": source, "config": "infra/gcp/open.yaml"}
    return Target(functions=select(["gateway"]), allow_unauthenticated=True, **where)


def deploy(google: GoogleApi, target: Target) -> dict[str, str]:
    """Deploy the functions and return the outcome of each step."""
    google.requests.clear()
    gcloud = Gcloud(PROJECT)
    steps = plan(target, other_callers(target, services(gcloud), gcloud))
    chosen = [step for step in steps if step.id.startswith(("function-", "call-", "no-call-"))]
    return dict(carry_out(chosen, gcloud, lambda *_: None))


def may_call(google: GoogleApi, name: str = "gateway") -> set[str]:
    policy = google.cloud.policies.get(f"run/projects/{PROJECT}/locations/{REGION}/services/goagents-{name}", {})
    return {member for each in policy.get("bindings", ()) for member in each["members"]}


def allowed(google: GoogleApi, name: str, *members: str) -> None:
    path = f"run/projects/{PROJECT}/locations/{REGION}/services/goagents-{name}"
    google.cloud.policies[path] = {"etag": "BwX=", "bindings": [{"role": "roles/run.invoker", "members": [*members]}]}


def written(google: GoogleApi) -> list[tuple[str, bool]]:
    """What was changed, in order, and of each policy whether everybody may call by it."""

    def said(request: Request) -> tuple[str, bool]:
        name = "policy" if request.path.endswith(":setIamPolicy") else request.method
        return name, EVERYBODY in request.content.decode(errors="replace")

    return [said(each) for each in google.cloud.writes() if each.service in ("run", "cloudfunctions")]


def test_a_redeployment_keeps_open_what_is_open_and_a_dropped_flag_closes_it_first(google: GoogleApi, target: Target):
    deploy(google, target)
    assert may_call(google) == {EVERYBODY, INVOKER}
    deploy(google, replace(target, max_instances=7))
    assert [each for each in written(google) if each[0] == "policy" and not each[1]] == [], "open all the time"
    assert may_call(google) == {EVERYBODY, INVOKER}
    closed = replace(target, allow_unauthenticated=False, invokers=(ANN,))
    outcomes = deploy(google, closed)
    assert outcomes["no-call-gateway-allUsers"] == "done"
    assert outcomes["function-gateway"] == "updated"
    assert written(google)[:2] == [("policy", False), ("PATCH", False)], "the new configuration may trust who comes in"
    assert may_call(google) == {ANN, INVOKER}
    deploy(google, closed)
    assert written(google) == []


def test_who_is_named_no_longer_may_call_no_longer(google: GoogleApi, target: Target):
    closed = replace(target, allow_unauthenticated=False, functions=select(["gateway", "worker", "sweeper"]))
    for name in ("gateway", "worker"):
        google.cloud.put(
            f"run/projects/{PROJECT}/locations/{REGION}/services/goagents-{name}",
            {
                "metadata": {"name": f"goagents-{name}", "labels": {"cloud.googleapis.com/location": REGION}},
                "spec": {"template": {"spec": {"containers": []}}},
            },
        )
    allowed(google, "gateway", ANN, BOB, "allAuthenticatedUsers")
    allowed(google, "worker", EVERYBODY, INVOKER)
    gcloud = Gcloud(PROJECT)
    found = other_callers(replace(closed, invokers=(ANN,)), services(gcloud), gcloud)
    assert found == {"gateway": ["allAuthenticatedUsers", BOB], "worker": [EVERYBODY]}
    steps = [step for step in plan(closed, found) if step.id.startswith("no-call-")]
    assert [step.line for step in steps] == [
        "let everybody call worker no longer",
        "let allAuthenticatedUsers call gateway no longer",
        f"let {BOB} call gateway no longer",
    ]
    carry_out(steps, gcloud, lambda *_: None)
    assert (may_call(google), may_call(google, "worker")) == ({ANN}, {INVOKER})
    anybody = replace(closed, allow_unauthenticated=True)
    allowed(google, "worker", EVERYBODY, INVOKER)
    assert other_callers(anybody, services(gcloud), gcloud)["worker"] == [EVERYBODY], "never open, whatever is asked"
