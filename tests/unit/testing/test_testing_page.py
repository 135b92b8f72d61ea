"""The examples of docs/testing.md are tests, and pass; its tables are complete."""

import ast
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from goagents.testing import faults, kill_points
from goagents.testing.kill_points import KillSwitch

PAGE = (Path(__file__).parents[3] / "docs" / "testing.md").read_text(encoding="utf-8")
(CLUSTER,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SOURCE = "\n".join(BLOCKS)
TESTS = [
    node.name
    for node in ast.parse(SOURCE).body
    if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_")
]


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the page's blocks define, taken together."""
    names: dict[str, Any] = {}
    exec(compile(SOURCE, "docs/testing.md", "exec"), names)  # noqa: S102 - the page of this repository
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The working directory of an example, with its cluster."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER, encoding="utf-8")
    before, path = Path.cwd(), list(sys.path)
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)
    sys.path[:] = path
    sys.modules.pop("prices", None)


def test_the_page_has_its_examples():
    assert len(TESTS) == 6
    assert [block.count("async def test_") for block in BLOCKS] == [1, 1, 1, 1, 2, 0]


@pytest.mark.parametrize("name", TESTS)
async def test_an_example_passes(page: dict[str, Any], folder: Path, name: str):
    test = page[name]
    await (test(folder) if inspect.signature(test).parameters else test())


def test_an_application_with_a_switch_can_be_made(page: dict[str, Any], folder: Path):
    assert isinstance(page["switch"], KillSwitch)
    assert callable(page["app"]())


def test_every_kill_point_is_in_the_table():
    assert set(re.findall(r"`((?:before|in|after)-[a-z-]+)`", PAGE)) == set(map(str, kill_points.KillPoint))


def test_every_fault_is_in_the_table():
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert set(get_args(faults.Kind)) <= named
