"""checkov over infra/terraform. An exception is `# checkov:skip=CHECK:why` where it stands; all else it finds fails."""

import json
import os
import re
import subprocess
from pathlib import Path

TIMEOUT = 300.0  # seconds
_SKIP = re.compile(r"checkov:skip=([A-Z0-9_]+)(?::(.*))?")
LEAST = 8  # checks that pass; fewer: it has not seen the resources


def scan(program: Path, folder: Path) -> tuple[list[str], int]:
    """Return what was found, and how many exceptions there are."""
    command = [str(program), "--directory", str(folder), "--framework", "terraform", "--output", "json"]
    result = subprocess.run(
        [*command, "--skip-download", "--quiet"],
        env=os.environ | {"CKV_IGNORE_HIDDEN_DIRECTORIES": "true"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    try:
        report = json.loads(result.stdout)
    except json.JSONDecodeError:
        return [f"it did not work, exit status {result.returncode}: {result.stdout}{result.stderr}"], 0
    summary, results = report["summary"], report["results"]
    found = [
        f"{each['file_path']}:{each['file_line_range'][0]}: {each['check_id']} {each['check_name']}"
        for each in results["failed_checks"]
    ]
    if summary["parsing_errors"] or summary["passed"] < LEAST:
        found.append(f"it could not read everything: {summary}, {results.get('parsing_errors')}")
    found += [f"{check}: an exception needs its reason" for check, why in exceptions(folder) if not why]
    return found, len(list(exceptions(folder)))


def exceptions(folder: Path) -> list[tuple[str, str]]:
    """Return the exceptions, each with its reason."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.tf")))
    return [(found[1], (found[2] or "").strip()) for text in texts for found in _SKIP.finditer(text)]
