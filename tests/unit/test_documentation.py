"""The documents hold together: links lead somewhere, generated pages are those of the code, versions agree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import goagents

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("infra/*.md")]
)
GENERATED = {"configuration.md": "goagents.spec.reference", "cli.md": "goagents.cli.reference"}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target in LINK.findall(prose(page)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name}: {target}"


def test_every_page_of_the_documentation_is_in_its_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "index.md" and page.name not in index]
    assert missing == []


@pytest.mark.parametrize("page", GENERATED)
def test_a_generated_page_is_current(page: str):
    command = [sys.executable, "-m", GENERATED[page]]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == printed, f"docs/{page} is stale: make docs"


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == goagents.__version__


def test_what_make_offers_is_documented_by_its_help():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout
    offered = re.findall(r"^([a-z-]+):.* ## ", makefile, re.MULTILINE)
    assert {"run", "test", "lint", "security", "build", "bench", "clean", "help"} <= set(offered)
    assert all(f"make {name} " in shown for name in offered)
