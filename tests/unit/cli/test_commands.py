"""What holds for all commands: help, documentation, exit statuses, what goes where."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from goagents import __version__
from goagents.cli.main import COMMANDS, cli, explained, status_of
from goagents.cli.options import agent_id
from goagents.cli.reference import markdown
from goagents.cli.tables import print_table
from goagents.cli.terminal import printable
from goagents.errors import ConfigurationError, FieldError, GoAgentsError, LimitExceeded, NotFound

ROOT = Path(__file__).parents[3]


def invoke(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "goagents.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str):
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(limit=200) == COMMANDS[name][1]


def test_the_page_is_made_from_the_commands():
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert page == markdown(), "write it anew: python -m goagents.cli.reference > docs/cli.md"


def test_help_lists_all_commands_without_loading_them():
    script = (
        "import sys, goagents.cli.main as m\n"
        "status = m.status_of(lambda: m._invoke(['--help']))\n"
        "heavy = ('pydantic', 'rich', 'httpx2', 'yaml', 'watchfiles', 'goagents.client')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_version_says_the_version():
    assert invoke("version").stdout.startswith(f"goagents {__version__} (Python 3.")
    assert invoke("--version").stdout == f"goagents {__version__}\n"
    assert json.loads(invoke("version", "-o", "json").stdout)["version"] == __version__


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["scale", "--cluster", "a"], "Missing option '--agent'"),
        (["status", "--output", "xml"], "'xml' is not one of"),
        (["keys", "new", "Not_A_Name"], "lower-case letters"),
        (["run", "--port", "99999"], "0<=x<=65535"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], says: str):
    done = invoke(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_wrong_address_is_one_sentence():
    done = invoke("status", "--server", "localhost:8080")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: the server's address 'localhost:8080' is no URL; write it like http://127.0.0.1:8080\n"
    )


def test_a_key_is_shown_once_and_its_hash_is_yaml():
    done = invoke("keys", "new", "ann")
    (entry,) = yaml.safe_load(done.stdout)["auth"]["api_keys"]
    assert entry["name"] == "ann"
    assert len(entry["hash"]) == 64
    assert "gak_" in done.stderr
    assert "gak_" not in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: str):
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert f"_GOAGENTS_COMPLETE={shell}_complete" in done.stdout


def test_completion_knows_commands_and_options():
    commands = invoke(_GOAGENTS_COMPLETE="bash_complete", COMP_WORDS="goagents s", COMP_CWORD="1").stdout.split()
    assert commands == ["plain,status", "plain,scale", "plain,schema"]
    options = invoke(_GOAGENTS_COMPLETE="bash_complete", COMP_WORDS="goagents logs --f", COMP_CWORD="2").stdout.split()
    assert options == ["plain,--follow"]


def test_the_schema_is_json():
    done = invoke("schema")
    assert done.returncode == 0
    assert "$schema" in json.loads(done.stdout)


def failing(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (NotFound("There is no cluster."), 1, "Error: There is no cluster.\n"),
        (KeyboardInterrupt(), 130, "Error: interrupted\n"),
        (FileNotFoundError(2, "No such file or directory", "a.yaml"), 1, "Error: a.yaml: No such file or directory\n"),
        (RuntimeError("boom"), 1, "Error: internal error: RuntimeError: boom; --debug shows where\n"),
    ],
)
def test_errors_become_one_message(error: BaseException, status: int, says: str, capsys: pytest.CaptureFixture[str]):
    assert status_of(lambda: failing(error)) == status
    assert capsys.readouterr() == ("", says)


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]):
    assert status_of(lambda: failing(NotFound("gone")), debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


def test_errors_name_their_places():
    place = FieldError("spec.name", "is required", "a.yaml", 3, 5)
    assert explained(ConfigurationError("wrong", errors=[place])) == "a.yaml:3:5: spec.name: is required"
    assert explained(GoAgentsError("no", errors=[FieldError("a.b", "is wrong")])) == "no\n  a.b: is wrong"
    late = LimitExceeded("full", retry_after=4.6)
    late.run_id = "run_1"
    assert explained(late) == "full\n  try again in 5 s\n  run run_1"


def test_what_others_wrote_cannot_steer_the_terminal():
    assert printable("a\x1b]0;title\x07b\x9b31m\u202ec\r\nd\te") == "a]0;titleb31mc\nd\te"


def test_tables_are_plain_and_whole_where_nobody_looks(capsys: pytest.CaptureFixture[str]):
    print_table(("NAME", "DETAIL"), [("a", "x" * 200), ("b", None), ("[red]c", "two\nlines")])
    assert capsys.readouterr().out.splitlines() == [
        "NAME     DETAIL",
        f"a        {'x' * 200}",
        "b        -",
        "[red]c   two lines",
    ]


def test_ids_name_the_namespace_where_it_is_not_the_default():
    assert agent_id("default", "shop", "clerk") == "shop.clerk"
    assert agent_id("sales", "shop", "clerk") == "sales.shop.clerk"
