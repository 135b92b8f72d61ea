"""schemathesis against the running gateway: is what /openapi.json says true?

python -m tests.ci.fuzz [options of schemathesis]
"""

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.gateway import call, configured, manifest
from tests.benchmarks.servers import function

AGENT = {"name": "talker", "provider": "scripted", "model": "brief"}


def main() -> int:
    with configured() as environment, function("gateway", environment | {"GOAGENTS_OFFLINE": "1"}) as server:
        call(server, "POST", "/api/v1/clusters", manifest("demo", [AGENT]), expect=201)
        command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{server.url}/openapi.json"]
        command += ["--url", server.url, "--max-examples", "30", "--no-color", *sys.argv[1:]]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
