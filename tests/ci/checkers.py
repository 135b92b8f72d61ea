"""What the runners of others' checkers share: how a program is installed and run, and that it finds what is wrong."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT = 300.0  # seconds of one command
Check = Callable[[Path], None]  # is given a folder of its own


class Wrong(Exception):
    """A check found something; the message is what it printed."""


def run(*command: str | Path, cwd: Path = ROOT, more: Mapping[str, str] | None = None) -> str:
    """Return what a command prints. Raises Wrong with it, if it fails. GitHub's variables are not passed on."""
    words = [str(word) for word in command]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "GH_"))}
    made = subprocess.run(
        words, cwd=cwd, env={**own, **(more or {})}, capture_output=True, text=True, timeout=TIMEOUT, check=False
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


def installed(requirements: Path, folder: Path) -> Path:
    """Return the folder of the programs that `requirements` bring, in an environment made anew when those change."""
    stamp, digest = folder / "requirements", sha256(requirements.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != digest:
        run(sys.executable, "-m", "venv", "--clear", folder)
        pip = (folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
        run(*pip, "install", "--requirement", requirements)
        stamp.write_text(digest, encoding="utf-8")
    return folder / "bin"


def carry_out(checks: Mapping[str, Check]) -> int:
    """Make each check and print what it came to; return the exit status."""
    failed = 0
    for name, check in checks.items():
        with tempfile.TemporaryDirectory(prefix="goagents-check-") as folder:
            try:
                check(Path(folder))
            except Wrong as wrong:
                failed += 1
                sys.stdout.write(f"{name}: FAILED\n{wrong}\n")
            else:
                sys.stdout.write(f"{name}: ok\n")
    return 1 if failed else 0
