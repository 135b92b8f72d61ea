"""What is there already, or still goes on: queues paused or barred, bindings of before, a field that changes.

Single steps of the plans, carried out by the real gcloud against a project on loopback.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.google_api import GoogleApi
from tests.support.google_api_state import PROJECT, REGION, Fault
from tests.support.google_project import ROOT, needs_gcloud

from goagents.deploy.carry_out import carry_out, remaining
from goagents.deploy.catalogue import select
from goagents.deploy.gcloud import PAUSES, WAITS, Gcloud, GcloudFailed
from goagents.deploy.plan import plan
from goagents.deploy.removal import find_kept, removal
from goagents.deploy.steps import Step
from goagents.deploy.target import Target

pytestmark = needs_gcloud
TARGET = Target(project=PROJECT, region=REGION, functions=select(), source=ROOT)
QUEUE = f"projects/{PROJECT}/locations/{REGION}/queues/goagents"
FIELD = f"firestore/projects/{PROJECT}/databases/(default)/collectionGroups/runs/fields/expire_at"
CHAT = f"serviceAccount:goagents-chat@{PROJECT}.iam.gserviceaccount.com"
ACCESSOR = "roles/secretmanager.secretAccessor"


@dataclass
class Project:
    google: GoogleApi
    pauses: list[float] = field(default_factory=list)

    @property
    def gcloud(self) -> Gcloud:
        return Gcloud(PROJECT, sleep=self.pauses.append)

    @property
    def queue(self) -> dict[str, Any] | None:
        return self.google.cloud.resources.get(f"cloudtasks/{QUEUE}")

    def carry_out(self, steps: Iterable[Step], *names: str) -> dict[str, str]:
        chosen = [step for step in steps if step.id in names]
        assert [step.id for step in chosen] == list(names)
        return dict(carry_out(chosen, self.gcloud, lambda *_: None))


@pytest.fixture
def project(google_cloud: GoogleApi, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name, value in google_cloud.environment.items():
        monkeypatch.setenv(name, value)
    for kept in (google_cloud.cloud.resources, google_cloud.cloud.policies, google_cloud.cloud.barred):
        kept.clear()
    return Project(google_cloud)


def test_a_queue_that_destroy_left_runs_again_and_a_new_one_is_looked_at(project: Project):
    cloud = project.google.cloud
    cloud.put(f"cloudtasks/{QUEUE}", {"name": QUEUE, "state": "PAUSED"})
    outcomes = project.carry_out(plan(TARGET), "queue", "queue-runs")
    assert outcomes == {"queue": "done already", "queue-runs": "done"}
    assert cloud.resources[f"cloudtasks/{QUEUE}"]["state"] == "RUNNING"
    cloud.resources.clear()
    missing = "Queue does not exist. If you just created the queue, wait at least a minute for it to initialize."
    cloud.faults.append(Fault(r"^GET cloudtasks .*/queues/goagents$", 404, missing))
    assert project.carry_out(plan(TARGET), "queue", "queue-runs") == {"queue": "done", "queue-runs": "done already"}
    assert len(project.pauses) == 1, "it is not known everywhere at once"


def test_a_queue_that_was_deleted_is_told_of_with_what_helps(project: Project):
    cloud = project.google.cloud
    cloud.put(f"cloudtasks/{QUEUE}", {"name": QUEUE, "state": "RUNNING"})
    kept = find_kept(TARGET, project.gcloud, queue=True)
    steps = removal(TARGET, kept, data=False, queue=True)
    assert not [step.id for step in steps if "enqueuer" in step.id], "its policy goes with it"
    project.carry_out(steps, "queue")
    assert project.queue is None
    with pytest.raises(GcloudFailed, match=r"existed too recently(.|\n)*under another --prefix"):
        project.carry_out(plan(TARGET), "queue")
    assert project.pauses == [], "a wait of days is not for a program"


def test_the_queue_is_emptied_and_paused_after_the_functions_and_once(project: Project):
    project.google.cloud.put(f"cloudtasks/{QUEUE}", {"name": QUEUE, "state": "RUNNING"})
    kept = find_kept(TARGET, project.gcloud, queue=False)
    assert kept.queue
    steps = removal(TARGET, kept, data=False, queue=False)
    order = [step.id for step in steps]
    emptied = [order.index(name) for name in ("queue-purge", "queue-pause")]
    assert max(at for at, name in enumerate(order) if name.startswith("function-")) < emptied[0] < emptied[1]
    project.carry_out(steps, "queue-purge", "queue-pause")
    assert project.queue
    assert project.queue["state"] == "PAUSED"
    assert project.queue["purgeTime"]
    again = [step for step in steps if step.id.startswith("queue-")]
    assert remaining(again, project.gcloud) == []


def test_bindings_on_what_stays_go_before_their_accounts(project: Project):
    """Also of a secret that only an earlier deployment used; other members keep theirs."""
    cloud = project.google.cloud
    for name in ("old-key", "others"):
        path = f"secretmanager/projects/{PROJECT}/secrets/{name}"
        cloud.put(path, {"name": path.removeprefix("secretmanager/")})
        members = [CHAT, "user:ann@example.com"] if name == "old-key" else ["user:ann@example.com"]
        cloud.policies[path] = {"version": 1, "etag": "BwX=", "bindings": [{"role": ACCESSOR, "members": members}]}
    steps = removal(TARGET, find_kept(TARGET, project.gcloud, queue=False), data=False, queue=False)
    order = [step.id for step in steps]
    assert order.index("chat-reads-old-key") < order.index("account-build"), "the first of the accounts"
    left = remaining([step for step in steps if "-reads-" in step.id], project.gcloud)
    assert [step.id for step in left] == ["chat-reads-old-key"]
    carry_out(left, project.gcloud, lambda *_: None)
    for name in ("old-key", "others"):
        (binding,) = cloud.policies[f"secretmanager/projects/{PROJECT}/secrets/{name}"]["bindings"]
        assert binding["members"] == ["user:ann@example.com"]


def test_a_field_that_still_changes_is_waited_for(project: Project):
    says = "There is an operation in progress for this field."
    assert project.carry_out(plan(TARGET), "exempt-runs-expire_at") == {"exempt-runs-expire_at": "done"}
    project.google.cloud.faults.append(Fault(r"^PATCH firestore .*/runs/fields/expire_at$", 409, says))
    assert project.carry_out(plan(TARGET), "ttl-runs") == {"ttl-runs": "done"}
    assert project.pauses == [WAITS[0]]
    changed = project.google.cloud.resources[FIELD]
    assert {"indexConfig", "ttlConfig"} <= changed.keys(), "neither change has undone the other"


@pytest.mark.parametrize(
    ("says", "waits"),
    [
        ("ABORTED: Please retry, underlying data changed", WAITS),
        ("FAILED_PRECONDITION: an operation on this index is already in progress", WAITS),
        ("FAILED_PRECONDITION: the database is being created", WAITS),
        ("ABORTED: Aborted due to cross-transaction contention", PAUSES),
        ("INVALID_ARGUMENT: the field in the operation is unknown", ()),
    ],
)
def test_how_long_a_refusal_is_waited_out(tmp_path: Path, says: str, waits: tuple[float, ...]):
    program = tmp_path / "gcloud"
    program.write_text(f"#!/bin/sh\necho 'ERROR: (gcloud.firestore) {says}' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    pauses: list[float] = []
    with pytest.raises(GcloudFailed):
        Gcloud(PROJECT, binary=str(program), sleep=pauses.append).run(["firestore"])
    assert tuple(pauses) == waits, "and it is bounded"
    assert sum(WAITS) > 300, "Firestore takes minutes where there are documents"


def test_the_two_changes_of_a_field_have_the_rest_of_the_database_between_them():
    order = [step.id for step in plan(TARGET)]
    for group in ("runs", "events", "lease"):
        first, second = order.index(f"exempt-{group}-expire_at"), order.index(f"ttl-{group}")
        between = [name for name in order[first:second] if name.startswith("index-")]
        assert len(between) > 10, "and the order is: out of the indexes, then deleted by it"
