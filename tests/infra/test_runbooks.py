"""docs/operations.md: every alert has its section, and the commands, queries and names of the page are real ones.

Its gcloud commands are read by tests/e2e/test_readme.py, as those of all pages are.
"""

import asyncio
import json
import re
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
import yaml

from goagents.cli.main import cli
from goagents.codes import by_code
from goagents.errors import GoAgentsError
from goagents.records import Paths, RunRecord
from goagents.store.base import ABSENT, Put
from goagents.store.sqlite import SQLiteStore
from goagents.telemetry.prometheus import Metrics

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
RULES = ROOT / "infra" / "compose" / "prometheus" / "rules.yaml"
TERRAFORM = ROOT / "infra" / "terraform"
PARTS = ("**Means**: ", "**Look**: ", "**Do**: ", "**Over**: ")
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SERVED = {"up", "process_resident_memory_bytes"}  # by Prometheus, and by its client library


def anchor_of(alert: str) -> str:
    """`GoAgentsRunsStuck` is goagents-runs-stuck."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", alert.replace("GoAgents", "Goagents")).lower()


def of_prometheus() -> set[str]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {anchor_of(rule["alert"]) for group in groups for rule in group["rules"] if "alert" in rule}


def of_google_cloud() -> set[str]:
    """The keys of the alerts in Terraform's files, and the budget's if there is one."""
    texts = [path.read_text(encoding="utf-8") for path in TERRAFORM.rglob("*.tf") if ".terraform" not in path.parts]
    named = {name for text in texts for name in re.findall(r"^\s*(GoAgents[A-Za-z]+) = \{$", text, re.MULTILINE)}
    has_budget = any('resource "google_billing_budget"' in text for text in texts)
    return {anchor_of(name) for name in named} | ({"goagents-budget"} if has_budget else set())


def sections() -> dict[str, str]:
    """The runbooks, by their anchors."""
    runbooks = TEXT.partition("\n## Runbooks\n")[2]
    found = re.split(r"^### (.+)\n", runbooks, flags=re.MULTILINE)
    return {title.lower().replace(" ", "-"): text for title, text in zip(found[1::2], found[2::2], strict=True)}


def lines(language: str, program: str) -> list[str]:
    """The lines of the page's blocks in `language` that begin with `program`."""
    shown = [line.strip() for found, text in BLOCK.findall(TEXT) if found == language for line in text.splitlines()]
    return [line for line in shown if line.startswith(f"{program} ")]


def test_every_alert_has_its_runbook_and_every_runbook_its_alert():
    prometheus, google_cloud = of_prometheus(), of_google_cloud()
    assert len(prometheus) > 5
    assert len(google_cloud) > 5
    assert sections().keys() == prometheus | google_cloud


@pytest.mark.parametrize("name", sections())
def test_a_runbook_says_it_all(name: str):
    text = sections()[name]
    places = [text.find(f"\n{part}") for part in PARTS]
    assert places == sorted(places)
    assert min(places) >= 0, f"{name} lacks one of {PARTS}"
    about_look = text[places[1] : places[2]]
    assert "```" in about_look or "`" in about_look or "Billing" in about_look, "says where to look, and no command"


@pytest.mark.parametrize("line", lines("sh", "goagents"))
def test_our_own_commands_are_there(line: str):
    command: click.Command = cli
    words, context = shlex.split(line)[1:], click.Context(command)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None, name
        command, context = found, click.Context(found, parent=context)
    command.parse_args(context, words)


def test_sizes_are_those_that_are_deployed():
    functions = json.loads((ROOT / "shared/goagents/deploy/functions.json").read_text(encoding="utf-8"))["functions"]
    shown = {}
    for names, size in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (\d+, \d+ MiB, \d+) \|", TEXT, re.MULTILINE):
        shown |= dict.fromkeys(re.findall(r"\w+", names), size)
    assert shown == {
        name: f"{one['cpu']}, {one['memory'].removesuffix('Mi')} MiB, {one['concurrency']}"
        for name, one in functions.items()
    }


def test_queries_name_metrics_and_labels_that_are_served():
    registry = Metrics().registry
    known = {
        name: set(getattr(collector, "_labelnames", ()))
        for collector, names in registry._collector_to_names.items()
        for name in names
    }
    assert set(re.findall(r"\bgoagents_[a-z_]+\b", TEXT)) <= known.keys()
    queries = [text for language, text in BLOCK.findall(TEXT) if language == "promql"]
    assert len(queries) > 5
    for line in (line for text in queries for line in text.splitlines()):
        metrics = set(re.findall(r"\b(?:goagents|process)_[a-z_]+\b", line))
        assert metrics <= known.keys() | SERVED, line
        labels = {label for metric in metrics for label in known.get(metric, ())} | {"job", "le"}
        grouped = {label.strip() for found in re.findall(r"\bby \(([^)]*)\)", line) for label in found.split(",")}
        assert grouped | set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", line)) <= labels, line


def test_the_codes_of_errors_are_real():
    named = set(re.findall(r"`((?:provider|store|run|tool)_\w+|document_too_large)`", TEXT))
    assert len(named) > 5
    assert named <= by_code(GoAgentsError).keys()


def test_files_that_are_named_are_there():
    named = set(re.findall(r"`((?:tests|infra|docs|shared)/[\w./-]+)`", TEXT))
    of_package = set(re.findall(r"`((?:engine|store|api|dispatch)/[\w./-]+\.py)`", TEXT))
    assert len(of_package) > 8
    paths = [ROOT / name for name in named] + [ROOT / "shared" / "goagents" / name for name in of_package]
    assert [str(path) for path in paths if not path.exists()] == []


async def test_the_script_lists_what_is_not_over_and_cancels(tmp_path: Path):
    (source,) = [text for language, text in BLOCK.findall(TEXT) if language == "python"]
    paths, now, file = Paths("default"), datetime.now(UTC), tmp_path / "state.db"
    store = SQLiteStore(str(file))
    for number, status in enumerate(("running", "succeeded", "waiting")):
        run = RunRecord(
            id=f"run_{number}",
            kind="chat",
            status=status,
            session="talk",
            namespace="default",
            cluster="support",
            cluster_uid="cluster_1",
            generation=1,
            agent="helper",
            principal="bob",
            input={},
            created_at=now,
            expire_at=now + timedelta(days=1),
        )
        await store.commit([Put(paths.run(run.id), run.data(), ABSENT)])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, f"sqlite:///{file}", "run_0", stdout=asyncio.subprocess.PIPE
    )
    shown = (await asyncio.wait_for(process.communicate(), 60))[0].decode()
    assert process.returncode == 0
    assert [line.split()[:4] for line in shown.splitlines()] == [
        ["running", "run_0", "bob", "default.support.helper"],
        ["waiting", "run_2", "bob", "default.support.helper"],
    ]
    signal = (await store.get_many([paths.signal("run_0", "cancel")])).get(paths.signal("run_0", "cancel"))
    assert signal is not None
    assert (signal.data["kind"], signal.data["principal"]) == ("cancel", "operator")
    await store.aclose()
