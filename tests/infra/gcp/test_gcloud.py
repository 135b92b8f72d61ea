"""How gcloud is run: what it says when it fails, what passes by itself, and steps that fail beside one another.

Programs of the tests' own stand in for gcloud here; the real one is in test_deploy.py.
"""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cli_process import goagents
from tests.support.google_project import ROOT
from tests.support.terminal import Terminal

from goagents.deploy.carry_out import Missing, carry_out, remaining
from goagents.deploy.gcloud import PAUSES, Gcloud, GcloudFailed
from goagents.deploy.steps import Step, batches, named, pairs

WHERE = ("--platform", "gcp", "--project", "my-project", "--region", "europe-west1")
# Notes each call with its arguments, and fails as often as `failures` says, with what `says` says.
PROGRAM = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
left=$(cat "$here/failures" 2>/dev/null || echo 0)
if [ "$left" -gt 0 ]; then
  echo $((left - 1)) > "$here/failures"
  echo "Deploying function (may take a while)..." >&2
  cat "$here/says" >&2
  exit 1
fi
case "$*" in
  *sleep*) exec sleep 30 ;;
  *get-iam-policy*) echo "{}"; exit 0 ;;
  *"fails "*) echo "ERROR: (gcloud.fails) $2 is wrong" >&2; exit 1 ;;
esac
cat "$here/answer" 2>/dev/null || true
"""


class Program:
    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self.pauses = folder, folder / "gcloud", list[float]()
        self.path.write_text(PROGRAM, encoding="utf-8")
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)
        self.gcloud = Gcloud("my-project", binary=str(self.path), sleep=self.pauses.append)

    def fails(self, says: str, times: int = 99) -> None:
        (self.folder / "says").write_text(says, encoding="utf-8")
        (self.folder / "failures").write_text(str(times), encoding="utf-8")

    def answers(self, text: str) -> None:
        (self.folder / "answer").write_text(text, encoding="utf-8")

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    return Program(tmp_path)


def test_it_is_run_for_the_project_and_asks_nothing(program: Program):
    program.answers('[{"name": "a; rm -rf"}]')
    assert program.gcloud.read(["tasks", "list", "a; b $(c)"]) == [{"name": "a; rm -rf"}]
    assert program.calls == ["tasks list a; b $(c) --format=json --project=my-project --quiet"]
    program.answers("")
    assert program.gcloud.read(["tasks", "list"]) is None
    program.answers("Listed 0 items.")
    with pytest.raises(GcloudFailed, match="what it said is no JSON"):
        program.gcloud.read(["tasks", "list"])


@pytest.mark.parametrize(
    "says",
    [
        "ERROR: (gcloud.projects.add-iam-policy-binding) INVALID_ARGUMENT: Service account a@b does not exist.",
        "ERROR: (gcloud.tasks) PERMISSION_DENIED: Cloud Tasks API has not been used in project 1 before",
        "ERROR: (gcloud.projects) ABORTED: There were concurrent policy changes",
        "ERROR: (gcloud.run) UNAVAILABLE: try again",
    ],
)
def test_what_passes_by_itself_is_tried_again(program: Program, says: str):
    program.answers("done")
    program.fails(says, times=2)
    assert program.gcloud.run(["tasks", "create"]).strip() == "done"
    assert program.pauses == list(PAUSES[:2])
    program.fails(says)
    with pytest.raises(GcloudFailed):
        program.gcloud.run(["tasks", "create"])
    assert len(program.pauses) == 2 + len(PAUSES), "it is bounded"


@pytest.mark.parametrize(
    ("says", "helps"),
    [
        ("ERROR: (gcloud.run) You do not currently have an active account selected.", "sign in by `gcloud auth login`"),
        ("ERROR: (gcloud.run) PERMISSION_DENIED: Permission denied on resource", "an owner of the project"),
        ("ERROR: (gcloud.services.enable) FAILED_PRECONDITION: Billing account not found", "link a billing account"),
        ("ERROR: (gcloud.run) Project 'a' not found or deleted", "gcloud projects list"),
        ("ERROR: (gcloud.run.deploy) CpuAllocPerProjectRegion requested: 100000 allowed: 20000", "fewer by --max-inst"),
        ("ERROR: (gcloud.functions.deploy) maxScale may not exceed 10. By adding billing …", "/run/quotas"),
    ],
)
def test_a_failure_says_what_gcloud_said_and_what_helps(program: Program, says: str, helps: str):
    program.fails(says)
    with pytest.raises(GcloudFailed) as caught:
        program.gcloud.run(["functions", "deploy", "goagents-chat", "--set-env-vars=A=B"])
    message = str(caught.value)
    assert message.startswith("gcloud functions deploy goagents-chat: ")
    assert says.partition(") ")[2] in message
    assert helps in message
    assert "may take a while" not in message
    assert "A=B" not in message
    assert program.pauses == []


def test_no_gcloud_and_no_answer(program: Program):
    with pytest.raises(GcloudFailed, match="gcloud is not installed"):
        Gcloud("my-project", binary="gcloud-that-is-not-there").run(["version"])
    with pytest.raises(GcloudFailed, match=r"no answer within 0\.2 s; run the command again"):
        program.gcloud.run(["sleep"], timeout=0.2)


def step(name: str, *argv: str, together: bool = False, look: tuple[str, ...] = ()) -> Step:
    return Step(id=name, line=f"do {name}", argv=argv, look=look, state=named("things", name), together=together)


def test_steps_that_overlap_all_end_before_a_failure_is_told(program: Program):
    steps = [
        step("a", "make", "a"),
        *(step(name, "make" if name == "c" else "fails", name, together=True) for name in "bcd"),
        step("e", "make", "e"),
    ]
    assert [[each.id for each in batch] for batch in batches(steps)] == [["a"], ["b", "c", "d"], ["e"]]
    told: list[str] = []
    with pytest.raises(GcloudFailed) as caught:
        carry_out(steps, program.gcloud, lambda each, what: told.append(f"{each.id} {what}"))
    assert "b is wrong" in str(caught.value)
    assert "d is wrong" in str(caught.value)
    assert "c done" in told
    assert not [text for text in told if text.startswith("e ")]


def test_what_is_done_is_looked_for_once_and_left(program: Program):
    program.answers(json.dumps([{"name": "projects/p/things/a"}]))
    look = ("things", "list")
    steps = [step("a", "make", "a", look=look), step("b", "make", "b", look=look)]
    assert [each.id for each in remaining(steps, program.gcloud)] == ["b"]
    outcomes = carry_out(steps, program.gcloud, lambda *_: None)
    assert outcomes == {"a": "done already", "b": "done"}
    assert [call.split(" --")[0] for call in program.calls] == ["things list", "things list", "make b"]
    needed = Step(id="s", line="find s", look=look, state=named("things", "s"), remedy="make it")
    with pytest.raises(Missing, match="find s: it is not there"):
        carry_out([needed], program.gcloud, lambda *_: None)


def test_a_value_that_would_need_quoting_is_refused():
    assert pairs("set-env-vars", {"A": "b", "C": "d=e"}) == "--set-env-vars=A=b,C=d=e"
    with pytest.raises(ValueError, match="comma"):
        pairs("set-env-vars", {"A": "b,c"})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("deploy",), "Missing option '--cluster'"),
        (("deploy", "--region", "europe-west1"), "--region goes with --platform gcp"),
        (("deploy", *WHERE, "--server", "http://127.0.0.1:1"), "exclude each other"),
        (("deploy", "--platform", "gcp", "--dry-run"), "Missing option --project and --region."),
        (("destroy", "--platform", "gcp"), "Missing option --project and --region."),
        (("deploy", *WHERE[:4], "--region", "europe", "--dry-run"), "'europe' is not a region"),
        (("deploy", *WHERE, "--functions", "chat", "--dry-run"), "add worker, or gateway"),
        (("deploy", *WHERE, "--secret", "sk-ant-something", "--dry-run"), "write VARIABLE=SECRET"),
        (("deploy", *WHERE, "--allow-unauthenticated", "--dry-run"), "lets in everybody"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], says: str):
    result = goagents(*arguments, cwd=ROOT, env={"GOOGLE_CLOUD_PROJECT": "", "GOOGLE_CLOUD_REGION": ""})
    assert result.returncode in (1, 2)
    assert says in result.stderr


def test_outside_the_repository_it_says_what_it_needs(tmp_path: Path):
    result = goagents("deploy", *WHERE, "--dry-run", cwd=tmp_path)
    assert result.returncode == 1
    assert "this is not the source of GoAgents" in result.stderr


@pytest.mark.parametrize(("typed", "deleted"), [("my-projekt", False), ("my-project", True)])
def test_destroying_wants_the_projects_name_typed(
    program: Program, monkeypatch: pytest.MonkeyPatch, typed: str, deleted: bool
):
    name = "projects/my-project/locations/europe-west1/queues/goagents"
    program.answers(json.dumps([{"name": name}]))
    monkeypatch.setenv("PATH", f"{program.folder}{os.pathsep}{os.environ['PATH']}")
    terminal = Terminal("", "destroy", *WHERE)
    try:
        terminal.await_text("pause the queue goagents")
        terminal.await_text("Type the project's name")
        terminal.type(f"{typed}\n")
        terminal.await_text("destroyed: 2 steps" if deleted else "nothing was deleted")
    finally:
        terminal.close()
    assert any("queues pause goagents" in call for call in program.calls) == deleted
