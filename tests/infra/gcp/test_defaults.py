"""What is deployed where nothing is said, and what is kept warm: functions.json says it, plans and pages follow it."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.google_project import ROOT

from goagents.cli.main import main
from goagents.deploy.catalogue import GATEWAY, catalogue, select, standard
from goagents.deploy.plan import database_plan, plan
from goagents.deploy.plan_store import database_steps
from goagents.deploy.target import UNKNOWN_NUMBER, Target

WHERE = ("--platform", "gcp", "--project", "my-project", "--region", "europe-west1")
STANDARD = [function.name for function in standard()]
WARM = [name for name, function in catalogue().items() if function.warm]
# In gcloud's place: a project in which there is nothing, and that takes everything.
PROGRAM = """#!/bin/sh
echo "$*" >> "$0.calls"
case "$*" in
  "meta list-files-for-upload"*) echo '["infra/gcp/config.yaml"]' ;;
  "projects describe"*) echo '{"projectNumber": "123"}' ;;
  *get-iam-policy*) echo '{}' ;;
  *"queues describe"*) echo '{"state": "RUNNING"}' ;;
  *list*) echo '[]' ;;
esac
"""


@dataclass
class Ended:
    status: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture
def run(calls: Callable[[], list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in this process: what is asked here are plans."""
    monkeypatch.chdir(ROOT)

    def run(command: str, *arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main([command, *WHERE, *arguments])
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What gcloud is asked; a program in its place is the first on the path."""
    program = tmp_path / "gcloud"
    program.write_text(PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return lambda: (tmp_path / "gcloud.calls").read_text(encoding="utf-8").splitlines()


def dry_run(run: Run, *arguments: str, command: str = "deploy") -> str:
    result = run(command, *arguments, "--dry-run")
    assert result.status == 0, result.stderr
    return result.stdout


def deployed(printed: str) -> dict[str, str]:
    """The options of each function that a printed plan deploys."""
    return dict(re.findall(r"^gcloud functions deploy goagents-(\w+) (.*)$", printed, re.MULTILINE))


def test_by_default_there_is_one_function_for_each_group_of_paths(run: Run):
    assert [name for name in catalogue() if name != GATEWAY] == STANDARD
    paths = [path for function in standard() for path in function.paths]
    assert len(paths) == len(set(paths))
    assert list(deployed(dry_run(run))) == STANDARD
    assert list(deployed(dry_run(run, "--functions", GATEWAY))) == [GATEWAY]


def test_the_page_has_the_whole_command_of_a_function(run: Run):
    printed = dry_run(run, "--functions", GATEWAY, "--secret", "ANTHROPIC_API_KEY=anthropic-api-key")
    (command,) = re.findall(r"^gcloud functions deploy .*$", printed, re.MULTILINE)
    without_label, labels = re.subn(r" --update-labels=goagents-digest=\w+", "", command)
    assert labels == 1
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    shown = re.findall(r"^gcloud functions deploy .*$", page, re.MULTILINE)
    assert shown == [without_label.replace(UNKNOWN_NUMBER, "123456789")]


def test_a_plan_shows_that_who_else_may_call_may_no_longer(run: Run):
    printed = dry_run(run)
    command = r"gcloud run services remove-iam-policy-binding goagents-\1 "
    taken = rf"^# let MEMBER, whoever else may, call (\w+) no longer\n{command}"
    assert re.findall(taken, printed, re.MULTILINE) == STANDARD
    assert printed.index("remove-iam-policy-binding goagents-sweeper") < printed.index("functions deploy")


def test_the_page_names_the_functions_that_are_deployed_by_default():
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"By default there is\s+one function for each group of paths \(([^)]*)\)", page)
    assert re.findall(r"`(\w+)`", named) == STANDARD


def test_what_is_taken_away_is_all_there_may_be(run: Run):
    printed = dry_run(run, command="destroy")
    assert re.findall(r"^gcloud functions delete goagents-(\w+) ", printed, re.MULTILINE) == list(catalogue())


def test_what_stays_is_told(run: Run, calls: Callable[[], list[str]]):
    result = run("destroy", "--yes")
    assert result.status == 0, result.stderr
    assert "nothing of it is there" in result.stdout
    assert "kept: the Firestore database (default)" in result.stdout
    assert "the queue" not in result.stdout, "there is none"
    assert not [call for call in calls() if " list " not in call and " get-iam-policy " not in call]
    printed = dry_run(run, "--queue", command="destroy")
    assert "gcloud tasks queues delete goagents " in printed
    assert "queues remove-iam-policy-binding" not in printed


def test_the_command_line_speaks_to_the_gateway_where_there_is_one():
    def server(*functions: str) -> str:
        return Target(project="my-project", region="europe-west1", functions=select(functions)).server.name

    assert server() == GATEWAY, "which serves chats, too"
    assert server(*STANDARD) == "clusters"
    assert server("worker", "sweeper", "gateway") == GATEWAY


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((), {}),
        (("--min-instances", "1"), {"chat": 1, "stream": 1}),
        (("--min-instances", "chat=1,stream=2"), {"chat": 1, "stream": 2}),
        (("--min-instances", "worker=3", "--min-instances", "2"), {"chat": 2, "stream": 2, "worker": 3}),
        (("--min-instances", "stream=0", "--min-instances", "1"), {"chat": 1}),
        (("--min-instances", "1", "--functions", "gateway"), {"gateway": 1}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_instances_are_kept_warm_where_callers_wait(run: Run, given: tuple[str, ...], kept: dict[str, int]):
    printed = dry_run(run, *given)
    options = deployed(printed)
    found = {name: int(re.findall(r"--min-instances=(\d+)", line)[0]) for name, line in options.items()}
    assert found == dict.fromkeys(options, 0) | kept
    shown = re.findall(r"^# deploy the function (\w+) \(.* s, (\d+) instances? kept warm\)$", printed, re.MULTILINE)
    assert {name: int(count) for name, count in shown} == {name: count for name, count in kept.items() if count}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("many",), "write N, or NAME=N"),
        (("=1",), "write N, or NAME=N"),
        (("chat=-1",), "write N, or NAME=N"),
        (("chats=1",), "chats=1: no function of this name is deployed"),
        (("gateway=1",), "gateway=1: no function of this name is deployed"),
        (("chat=5", "--max-instances", "4"), "must be from 0 to --max-instances, which is 4"),
        (("1", "--functions", "worker,sweeper"), "write NAME=1 for one"),
    ],
)
def test_a_number_that_means_nothing_is_told(run: Run, given: tuple[str, ...], says: str):
    result = run("deploy", "--dry-run", "--min-instances", *given)
    assert result.status == 1
    assert says in result.stderr


def test_pages_and_help_say_who_is_kept_warm(run: Run):
    assert WARM == ["chat", "stream", "gateway"]
    operations = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"A bare\s+`--min-instances N` is for ([^:]*):", operations)
    assert re.findall(r"`(\w+)`", named) == WARM
    help_ = " ".join(run("deploy", "--help").stdout.split())
    assert f"({', '.join(WARM)})" in help_


def test_the_database_alone_is_made_from_anywhere_and_needs_no_source(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    printed = dry_run(run, "--database-only")
    target = Target(project="my-project", region="europe-west1", functions=standard(), source=ROOT)
    steps = list(database_steps(target))
    assert [step.id for step in database_plan(target)] == ["services", *(step.id for step in steps)]
    assert {step.id for step in steps} <= {step.id for step in plan(target)}, "what a deployment makes"
    lines = [line for line in printed.splitlines() if line.startswith("gcloud ")]
    assert lines[1:] == [f"{step.command} --project=my-project" for step in steps]
    cluster = ("--cluster", str(ROOT / "infra/compose/cluster.yaml"))
    refused = run("deploy", *cluster, "--database-only", "--dry-run")
    assert refused.status == 2
    assert "exclude each other" in refused.stderr


def test_the_database_alone_is_made(run: Run, calls: Callable[[], list[str]]):
    result = run("deploy", "--database-only", "--yes")
    assert result.status == 0, result.stderr
    assert "next: GOAGENTS_STORE=firestore://my-project/(default)" in result.stdout
    made = [call for call in calls() if " list " not in call]
    target = Target(project="my-project", region="europe-west1", functions=standard())
    assert [call.split(" --")[0] for call in made] == [
        " ".join(step.argv).split(" --")[0] for step in database_plan(target)
    ]


def test_a_deployment_tells_the_address_of_each_function_that_users_call(run: Run, calls: Callable[[], list[str]]):
    result = run("deploy", "--yes")
    assert result.status == 0, result.stderr
    users = [function.name for function in standard() if function.called_by == "users"]
    addresses = {name: f"https://goagents-{name}-123.europe-west1.run.app" for name in users}
    assert dict(re.findall(r"^function (\w+) (\S+)$", result.stdout, re.MULTILINE)) == addresses
    assert "one address for all by --functions gateway" in result.stderr
    said = json.loads(run("deploy", "--yes", "--output", "json").stdout)
    assert (said["addresses"], said["server"]) == (addresses, addresses["clusters"])
    alone = run("deploy", "--yes", "--functions", "gateway")
    assert "server https://goagents-gateway-123.europe-west1.run.app" in alone.stdout
    assert "\nfunction " not in alone.stdout
    assert [call for call in calls() if call.startswith("functions deploy goagents-gateway ")]
