"""The plugin that lets a machine insist on the tests that need more than Python."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPPED = """
import pytest

@pytest.mark.emulator
def test_skipped():
    pytest.skip("there is no emulator: install it")

@pytest.mark.peers
def test_run():
    pass
"""


def run(folder: Path, source: str, required: str) -> subprocess.CompletedProcess[str]:
    path = folder / "test_sample.py"
    path.write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "tests.support.required"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "--rootdir", str(folder), str(path)],
        cwd=ROOT,
        env=os.environ | {"GOAGENTS_REQUIRED": required, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_required_test_that_is_skipped_fails_with_its_reason(tmp_path: Path):
    result = run(tmp_path, SKIPPED, "emulator,peers")
    assert result.returncode == 1
    assert "must not be skipped here (emulator)" in result.stdout
    assert "install it" in result.stdout


@pytest.mark.parametrize("required", ["", "peers"])
def test_others_may_be_skipped(tmp_path: Path, required: str):
    assert run(tmp_path, SKIPPED, required).returncode == 0


def test_required_tests_must_exist(tmp_path: Path):
    result = run(tmp_path, "def test_nothing_special():\n    pass\n", "emulator")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no test is marked emulator" in result.stdout + result.stderr
