"""bandit over the source. An exception is a line's own `noqa: SNNN - reason` (ruff's S rules are bandit's B rules).

So there is one comment for both scanners, it names the rule, and it says why. Where ruff has no such rule, bandit's own
`nosec BNNN - reason` does. B404 (`import subprocess`) is left to what is called. Anything else that bandit finds fails.

    python -m tests.ci.scan
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCANNED = ("shared", "functions", "examples", "scripts")


def explained(finding: Mapping[str, Any], lines: list[str]) -> bool:
    rule = finding["test_id"].replace("B", "S", 1)
    places = {finding["line_number"], *finding["line_range"]}
    return any(re.search(rf"# noqa: [A-Z0-9, ]*\b{rule}\b[A-Z0-9, ]* - \w", lines[place - 1]) for place in places)


def main() -> int:
    options = ["--quiet", "--format", "json", "--skip", "B404", "--exclude", "*/test_*.py", "--recursive"]
    command = [sys.executable, "-m", "bandit", *options, *SCANNED]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(result.stdout)
    if report["errors"]:
        sys.stdout.write(f"bandit could not read: {report['errors']}\n")
        return 1
    excused = 0
    for finding in report["results"]:
        path = ROOT / finding["filename"]
        if explained(finding, path.read_text(encoding="utf-8").splitlines()):
            excused += 1
            continue
        place = f"{finding['filename']}:{finding['line_number']}"
        sys.stdout.write(f"{place}: {finding['test_id']} {finding['issue_text']}\n")
    left = len(report["results"]) - excused
    scanned = report["metrics"]["_totals"]["loc"]
    sys.stdout.write(f"bandit: {scanned} lines, {left} findings, {excused} explained where they stand\n")
    return 1 if left or not scanned else 0


if __name__ == "__main__":
    sys.exit(main())
