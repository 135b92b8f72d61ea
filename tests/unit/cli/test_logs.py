"""Following logs: a stream that the server ends is opened again, nothing is shown twice."""

import json
import subprocess
import sys

from starlette.responses import JSONResponse
from tests.support.asgi_server import AsgiServer
from tests.support.contract_server import Answer, ContractServer, event_stream, log_entry, problem

LOGS = "GET /api/v1/clusters/support/logs"


def entry(number: int) -> dict[str, str]:
    return log_entry(f"entry {number}", at=f"2026-01-02T03:04:0{number}Z")


def stream(*numbers: int) -> Answer:
    return event_stream(*(f"event: log\ndata: {json.dumps(entry(number))}\n\n".encode() for number in numbers))


def test_what_happened_between_two_streams_is_shown_once():
    server = ContractServer()
    missed = JSONResponse({"items": [entry(number) for number in (3, 2, 1)]})
    server.on(LOGS, stream(1, 2), missed, stream(3, 4), problem(404, "not_found", "There is no cluster."))
    with AsgiServer(server) as running:
        done = subprocess.run(
            [sys.executable, "-m", "goagents.cli", "logs", "--cluster", "support", "--follow", "--output", "json"],
            env={"GOAGENTS_SERVER": running.url},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == [f"entry {n}" for n in (1, 2, 3, 4)]
    assert done.returncode == 1
    assert "There is no cluster." in done.stderr
    assert [request["query"].get("follow") for request in server.requests] == ["true", None, "true", None]
