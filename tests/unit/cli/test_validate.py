"""`goagents validate`: what is wrong is the answer; what is probably not meant is a warning beside it."""

import json
from pathlib import Path

from click.testing import CliRunner

from goagents.cli.main import cli

CONFIG = "python:\n  path: [gone]\n"


def test_a_warning_does_not_make_files_invalid(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    done = CliRunner().invoke(cli, ["validate", str(path)])
    assert (done.exit_code, done.stdout) == (0, "valid (1 file, 0 clusters)\n")
    assert done.stderr == f"Warning: {path}:2:10: python.path.0: there is no folder {tmp_path / 'gone'}\n"
    strict = CliRunner().invoke(cli, ["validate", "--strict", str(path)])
    assert (strict.exit_code, strict.stdout, strict.stderr) == (1, done.stdout, done.stderr)
    path.write_text("server: {}\n")
    assert CliRunner().invoke(cli, ["validate", "--strict", str(path)]).exit_code == 0


def test_warnings_are_in_the_json(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    done = CliRunner().invoke(cli, ["validate", str(path), "--output", "json"])
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["valid"], answer["errors"]) == (0, True, [])
    (warning,) = answer["warnings"]
    assert (warning["path"], warning["line"], warning["column"]) == ("python.path.0", 2, 10)
    path.write_text("servr: {}\n")
    done = CliRunner().invoke(cli, ["validate", str(path), "--output", "json"])
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["valid"], answer["warnings"]) == (1, False, [])
