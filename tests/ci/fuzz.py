"""schemathesis against the running gateway: is what /openapi.json says true?

`schemathesis.toml` names what `fill` makes, so that it is not only answers of 404 that are checked.

    python -m tests.ci.fuzz [options of schemathesis]
"""

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.gateway import call, configured, manifest
from tests.benchmarks.servers import ROOT, Server, function

AGENT = {"name": "talker", "provider": "scripted", "model": "brief"}


def fill(server: Server) -> None:
    call(server, "POST", "/api/v1/clusters", manifest("demo", [AGENT]), expect=201)
    for number in range(2):
        call(server, "POST", "/api/v1/agents/demo.talker/chat", {"message": "Hello", "session_id": f"s{number}"})


def main() -> int:
    with configured() as environment, function("gateway", environment | {"GOAGENTS_OFFLINE": "1"}) as server:
        fill(server)
        command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{server.url}/openapi.json"]
        command += ["--url", server.url, "--max-examples", "30", "--no-color", *sys.argv[1:]]
        return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
