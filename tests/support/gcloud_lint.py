"""gcloud's own linter over commands: it knows every command and option, and needs no credentials."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


def gcloud_faults(commands: Sequence[str], folder: Path) -> list[str]:
    """Return what is wrong with commands that begin with `gcloud `, each with its command. `folder` is for its files.

    Given as JSON: in a text file the linter sees fenced blocks only, and finds nothing wrong with what it does not see.
    """
    path = folder / "commands.json"
    path.write_text(json.dumps([{"command_string": command} for command in commands]), encoding="utf-8")
    done = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={path}"],
        env=os.environ | {"CLOUDSDK_CONFIG": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == len(set(commands)), "the linter has not seen all of them"
    return [f"{each['command_string']}\n  {each['error_message']}" for each in results if not each["success"]]
