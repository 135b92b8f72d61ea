"""What is deployed where nothing is said, and what is kept warm: functions.json says it, plans and pages follow it."""

import re
from pathlib import Path

import pytest
from tests.support.cli_process import goagents
from tests.support.google_project import ROOT

from goagents.deploy.catalogue import GATEWAY, catalogue, select, standard
from goagents.deploy.plan import database_plan, plan
from goagents.deploy.plan_store import database_steps
from goagents.deploy.target import Target

WHERE = ("--platform", "gcp", "--project", "my-project", "--region", "europe-west1")
STANDARD = [function.name for function in standard()]
WARM = [name for name, function in catalogue().items() if function.warm]


def dry_run(*arguments: str, command: str = "deploy", cwd: Path = ROOT) -> str:
    result = goagents(command, *WHERE, *arguments, "--dry-run", cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


def deployed(printed: str) -> dict[str, str]:
    """The options of each function that a printed plan deploys."""
    return dict(re.findall(r"^gcloud functions deploy goagents-(\w+) (.*)$", printed, re.MULTILINE))


def test_by_default_there_is_one_function_for_each_group_of_paths():
    assert [name for name in catalogue() if name != GATEWAY] == STANDARD
    paths = [path for function in standard() for path in function.paths]
    assert len(paths) == len(set(paths))
    assert list(deployed(dry_run())) == STANDARD
    assert list(deployed(dry_run("--functions", GATEWAY))) == [GATEWAY]


def test_the_page_names_the_functions_that_are_deployed_by_default():
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"By default there is\s+one function for each group of paths \(([^)]*)\)", page)
    assert re.findall(r"`(\w+)`", named) == STANDARD


def test_what_is_taken_away_is_all_there_may_be():
    printed = dry_run(command="destroy")
    assert re.findall(r"^gcloud functions delete goagents-(\w+) ", printed, re.MULTILINE) == list(catalogue())


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
def test_instances_are_kept_warm_where_callers_wait(given: tuple[str, ...], kept: dict[str, int]):
    printed = dry_run(*given)
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
def test_a_number_that_means_nothing_is_told(given: tuple[str, ...], says: str):
    result = goagents("deploy", *WHERE, "--dry-run", "--min-instances", *given, cwd=ROOT)
    assert result.returncode == 1
    assert says in result.stderr


def test_pages_and_help_say_who_is_kept_warm():
    assert WARM == ["chat", "stream", "gateway"]
    operations = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"A bare\s+`--min-instances N` is for ([^:]*):", operations)
    assert re.findall(r"`(\w+)`", named) == WARM
    help_ = " ".join(goagents("deploy", "--help", cwd=ROOT).stdout.split())
    assert f"({', '.join(WARM)})" in help_


def test_the_database_alone_is_made_from_anywhere_and_needs_no_source(tmp_path: Path):
    printed = dry_run("--database-only", cwd=tmp_path)
    target = Target(project="my-project", region="europe-west1", functions=standard(), source=ROOT)
    steps = list(database_steps(target))
    assert [step.id for step in database_plan(target)] == ["services", *(step.id for step in steps)]
    assert {step.id for step in steps} <= {step.id for step in plan(target)}, "what a deployment makes"
    lines = [line for line in printed.splitlines() if line.startswith("gcloud ")]
    assert lines[1:] == [f"{step.command} --project=my-project" for step in steps]
    cluster = ("--cluster", str(ROOT / "infra/compose/cluster.yaml"))
    refused = goagents("deploy", *WHERE, *cluster, "--database-only", "--dry-run", cwd=ROOT)
    assert refused.returncode == 2
    assert "exclude each other" in refused.stderr
