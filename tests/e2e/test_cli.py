"""The whole way on the command line: init, validate, run, deploy, status, chat, logs, scale, delete."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import yaml
from tests.support.cli_process import Running, goagents, running

from goagents.client import Client

Call = Callable[..., "subprocess.CompletedProcess[str]"]
CLUSTER = """\
apiVersion: goagents.dev/v1
kind: AgentCluster
metadata: {name: shop, namespace: sales}
spec:
  agents:
    - {name: clerk, provider: scripted, model: greeter}
    - {name: broken, provider: scripted, model: broken}
"""
BROKEN = """\
      broken:
        - text: "I begin, but I do not en"
          cut_off: 12
      greeter:
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    done = goagents("init", cwd=path)
    assert done.returncode == 0, done.stderr
    config = (path / "config.yaml").read_text()
    assert "      greeter:\n" in config
    (path / "config.yaml").write_text(config.replace("      greeter:\n", BROKEN))
    (path / "shop.yaml").write_text(CLUSTER)
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with running(cwd=folder) as started:
        assert started.url.startswith("http://127.0.0.1:")
        yield started


@pytest.fixture
def call(folder: Path, server: Running) -> Call:
    def run(*arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        return goagents(*arguments, cwd=folder, env={"GOAGENTS_SERVER": server.url}, stdin=stdin)

    return run


@pytest.fixture
def shop(folder: Path, server: Running) -> None:
    """The cluster of shop.yaml is there, whatever other tests did."""
    with Client(server.url) as client:
        client.apply(folder / "shop.yaml")


def test_init_writes_what_validates(tmp_path: Path):
    made = goagents("init", "new", cwd=tmp_path)
    assert (made.returncode, made.stdout) == (0, "wrote new/config.yaml\nwrote new/cluster.yaml\n")
    assert "goagents run --config new/config.yaml --cluster new/cluster.yaml" in made.stderr
    checked = goagents("validate", "new/config.yaml", "new/cluster.yaml", cwd=tmp_path)
    assert (checked.returncode, checked.stdout) == (0, "valid (2 files, 1 cluster: default/hello)\n")


def test_init_overwrites_only_when_told(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("mine")
    refused = goagents("init", cwd=tmp_path)
    assert refused.returncode == 1
    assert "config.yaml exists already: --force overwrites" in refused.stderr
    assert (tmp_path / "config.yaml").read_text() == "mine"
    assert not (tmp_path / "cluster.yaml").exists()
    assert goagents("init", "--force", cwd=tmp_path).returncode == 0
    assert "server:" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("provider", "variable"),
    [("anthropic", "ANTHROPIC_API_KEY"), ("openai", "OPENAI_API_KEY"), ("gemini", "GOOGLE_API_KEY")],
)
def test_init_takes_the_provider_whose_key_is_set(tmp_path: Path, provider: str, variable: str):
    key = {variable: "made-up"}
    assert goagents("init", cwd=tmp_path, env=key).returncode == 0
    assert yaml.safe_load((tmp_path / "cluster.yaml").read_text())["spec"]["agents"][0]["provider"] == provider
    assert goagents("validate", "config.yaml", "cluster.yaml", cwd=tmp_path, env=key).returncode == 0
    without = goagents("validate", "config.yaml", "cluster.yaml", cwd=tmp_path)
    assert without.returncode == 1
    assert variable in without.stdout


def test_validate_names_every_place(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("server:\n  prt: 1\n  timeout: soon\n")
    (tmp_path / "b.yaml").write_text("kind: AgentCluster\napiVersion: goagents.dev/v1\nmetadata: {name: B_}\n")
    wrong = goagents("validate", "a.yaml", "b.yaml", cwd=tmp_path)
    assert wrong.returncode == 1
    places = [line.split(": ")[0] for line in wrong.stdout.splitlines()]
    assert all(re.fullmatch(r"[ab]\.yaml:\d+:\d+", place) for place in places), wrong.stdout
    assert {"a.yaml:2:3", "a.yaml:3:12", "b.yaml:3:18"} <= set(places), wrong.stdout
    as_json = goagents("validate", "a.yaml", "b.yaml", "--output", "json", cwd=tmp_path)
    assert as_json.returncode == 1
    assert {e["path"] for e in json.loads(as_json.stdout)["errors"]} >= {"server.prt", "server.timeout"}


def test_run_says_where_it_serves_and_what_to_paste(server: Running):
    server.await_text("cluster default/hello created")
    line = server.await_text(r"curl -s (\S+)/chat -H '([^']+)' -d '([^']+)'")
    header, _, value = line[2].partition(": ")
    answer = httpx2.post(f"{line[1]}/chat", headers={header: value}, content=line[3], trust_env=False, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["message"]["parts"][0]["text"].startswith("Hello!")


def test_deploy_prints_what_changed(call: Call, folder: Path):
    planned = call("deploy", "--cluster", "shop.yaml", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "cluster sales/shop would be created (generation 1)\n" in planned.stdout
    created = call("deploy", "--cluster", "shop.yaml")
    assert created.stdout == (
        "cluster sales/shop created (generation 1)\n"
        "  agent sales.shop.clerk (scripted greeter)\n"
        "  agent sales.shop.broken (scripted broken)\n"
    )
    assert call("deploy", "--cluster", "shop.yaml").stdout == "cluster sales/shop unchanged (generation 1)\n"
    (folder / "changed.yaml").write_text(CLUSTER.replace("name: clerk,", "name: clerk, max_turns: 3,"))
    updated = call("deploy", "--cluster", "changed.yaml", "--output", "json")
    (item,) = json.loads(updated.stdout)["items"]
    assert (item["outcome"], item["changes"]) == ("updated", ["spec.agents.0.max_turns"])
    assert item["cluster"]["generation"] == 2


def test_deploy_refuses_before_it_sends(call: Call, folder: Path):
    (folder / "wrong.yaml").write_text(CLUSTER.replace("model: greeter", "modle: greeter"))
    wrong = call("deploy", "--cluster", "wrong.yaml")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "wrong.yaml:6:41: spec.agents.0.modle: unknown field; did you mean 'model'?" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_deploy_shows_what_the_server_refuses(call: Call, folder: Path):
    (folder / "denied.yaml").write_text(CLUSTER.replace("name: clerk,", "name: clerk, system_prompt: '${HOME}',"))
    denied = call("deploy", "--cluster", "denied.yaml")
    assert denied.returncode == 1
    assert "spec.agents.0.system_prompt" in denied.stderr
    assert "HOME" in denied.stderr


def test_chat_streams_the_answer_to_stdout(call: Call):
    said = call("chat", "--cluster", "hello", "my name is Ann")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("Hello Ann! ")
    assert said.stdout.count("\n") == 1
    session = re.search(r"session (\S+) \(\d+ tokens in, \d+ out\)", said.stderr)
    assert session
    again = call("chat", "--cluster", "hello", "--session", session[1], "--output", "json", "and now?")
    answer = json.loads(again.stdout)
    assert answer["session_id"] == session[1]
    assert answer["message"]["parts"][0]["text"].endswith("repeat: and now?")


def test_a_conversation_keeps_its_session(call: Call):
    talked = call("chat", "--cluster", "hello", "--agent", "assistant", stdin="one\n\ntwo\n")
    assert talked.returncode == 0, talked.stderr
    assert [line.rpartition(": ")[2] for line in talked.stdout.splitlines()] == ["one", "two"]
    assert talked.stderr.count("session ") == 1


@pytest.mark.usefixtures("shop")
def test_a_failed_run_fails_the_command(call: Call):
    failed = call("chat", "--namespace", "sales", "--cluster", "shop", "--agent", "broken", "hi")
    assert failed.returncode == 1
    assert failed.stdout.startswith("I begin, but")
    assert "Error: " in failed.stderr
    assert re.search(r"run run_\w+", failed.stderr)
    assert "Traceback" not in failed.stderr


@pytest.mark.usefixtures("shop")
def test_several_agents_want_a_name(call: Call):
    refused = call("chat", "--namespace", "sales", "--cluster", "shop", "hi")
    assert refused.returncode == 1
    assert "name one by --agent (clerk, broken)" in refused.stderr


def test_status_in_tables_and_json(call: Call):
    call("chat", "--cluster", "hello", "hi")
    listed = call("status")
    assert listed.returncode == 0
    assert re.search(r"^CLUSTER +GENERATION +AGENTS +RUNS +UPDATED$", listed.stdout, re.MULTILINE)
    assert re.search(r"^hello +1 +1 +0/5 +\d+s$", listed.stdout, re.MULTILINE)
    assert re.search(r"^hello\.assistant +scripted +greeter ", listed.stdout, re.MULTILINE)
    shown = call("status", "--cluster", "hello")
    assert re.search(r"^assistant/0 +idle +\d+s +-$", shown.stdout, re.MULTILINE), shown.stdout
    as_json = json.loads(call("status", "--cluster", "hello", "-o", "json").stdout)
    assert (as_json["name"], as_json["agents"][0]["instances"][0]["status"]) == ("hello", "idle")
    items = json.loads(call("status", "-o", "json").stdout)["items"]
    assert [item["name"] for item in items] == ["hello"]


def test_logs_say_what_happened(call: Call):
    call("chat", "--cluster", "hello", "remember the milk")
    shown = call("logs", "--cluster", "hello", "--agent", "assistant")
    assert shown.returncode == 0
    assert re.search(r"INFO  assistant run_\w+ run: remember the milk$", shown.stdout, re.MULTILINE)
    assert shown.stdout.splitlines()[-1].endswith("finished: succeeded")
    entries = json.loads(call("logs", "--cluster", "hello", "-o", "json", "--limit", "2").stdout)["items"]
    assert len(entries) == 2
    assert "\x1b" not in shown.stdout


def test_scale(call: Call):
    scaled = call("scale", "--cluster", "hello", "--agent", "assistant", "--instances", "2")
    assert scaled.returncode == 0
    assert scaled.stdout.startswith("agent hello.assistant keeps 2 of at most 5 instances")
    too_many = call("scale", "--cluster", "hello", "--agent", "assistant", "--instances", "6")
    assert (too_many.returncode, too_many.stdout) == (1, "")
    assert "Error: " in too_many.stderr


@pytest.mark.usefixtures("shop")
def test_delete_asks_or_is_told(call: Call):
    refused = call("delete", "--namespace", "sales", "--cluster", "shop")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    deleted = call("delete", "--namespace", "sales", "--cluster", "shop", "--yes")
    assert (deleted.returncode, deleted.stdout) == (0, "cluster sales/shop deleted\n")


def test_a_server_that_is_not_there(folder: Path):
    missing = goagents("status", "--server", "http://127.0.0.1:9", cwd=folder)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "cannot connect to http://127.0.0.1:9" in missing.stderr
    assert "goagents run" in missing.stderr
    assert "Traceback" not in missing.stderr
