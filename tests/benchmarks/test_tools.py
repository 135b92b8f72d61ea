"""The benchmark of tools runs, in its smallest size, and prints what its page has; its numbers are not looked at."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
KINDS = [
    *("http", "http, answered by the cache (SQLite)", "http, an OpenAPI page", "tool function", "websocket"),
    *("mcp, streamable HTTP", "mcp, a program", "python, async", "python, in a thread", "a package's type"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the numbers, and a copy of the page that the tables are written into."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "page.md").write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.benchmarks.tools",
        "--small",
        "--json",
        folder / "found.json",
    ]
    done = subprocess.run(
        [*command, "--page", folder / "page.md"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def tables(page: str) -> list[list[str]]:
    """The heads and the first cells of the tables between the marks, without the numbers that a size sets."""
    text = page.partition("<!-- written by tests.benchmarks.tools -->")[2].partition("<!-- end -->")[0]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    found: list[list[str]] = []
    for number, cells in enumerate(lines):
        is_head = number + 1 < len(lines) and set(lines[number + 1]) == {"---"}
        found.append([re.sub(r"\d[\d,]*", "N", cell) for cell in (cells if is_head else cells[:1])])
    return found


def test_each_kind_is_measured_by_a_bare_client_by_the_tool_and_with_what_is_around_it(made: Path):
    results = json.loads((made / "found.json").read_text(encoding="utf-8"))["results"]
    assert len(results) == 4
    (calls,) = [found for title, found in results.items() if title.endswith("one call")]
    names = [measure["name"] for measure in calls]
    for kind in KINDS:
        assert len([name for name in names if name.startswith(f"{kind}: ")]) == 4, kind
    assert len(names) == 4 * len(KINDS)
    assert all(
        measure["value"] > 0 for found in results.values() for measure in found if "memory" not in measure["name"]
    )


def test_the_page_has_the_tables_that_the_benchmark_writes(made: Path):
    written = (made / "page.md").read_text(encoding="utf-8")
    assert tables(written) == tables(PAGE.read_text(encoding="utf-8"))
    assert len(tables(written)) > len(KINDS)
