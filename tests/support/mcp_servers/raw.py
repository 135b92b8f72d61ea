"""An MCP server without any SDK, as it was in 2024, with one fault: `python raw.py FAULT`.

Its one tool is `say`. What it does wrong is told by the name of its fault; `none` does nothing wrong.
"""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

FAULT = sys.argv[1]
VERSION = {
    "protocolVersion": "2024-11-05",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "raw", "version": "1"},
}
SAY: dict[str, Any] = {"name": "say", "inputSchema": {"type": "object"}}


def write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def answer(request: Any, result: Any) -> None:
    write(json.dumps({"jsonrpc": "2.0", "id": request, "result": result}))


def called(request: Any) -> None:
    if FAULT == "late-id":
        write(json.dumps({"result": {"content": [{"type": "text", "text": "x" * (17 << 20)}]}, "id": request}))
    elif FAULT == "large":
        answer(request, {"content": [{"type": "text", "text": "x" * (40 << 20)}]})
    elif FAULT == "wrong-shape":
        answer(request, {"content": "hello"})
    elif FAULT == "error-code":
        error = {"code": -32000, "message": "the database is down"}
        write(json.dumps({"jsonrpc": "2.0", "id": request, "error": error}))
    elif FAULT == "unknown-part":
        answer(request, {"content": [{"type": "hologram", "data": "…"}]})
    elif FAULT == "flood":
        while True:
            write("flood " * 20)
    elif FAULT != "silent-call":
        answer(request, {"content": [{"type": "text", "text": f"said by {os.getpid()}"}]})


def begin() -> None:
    if FAULT == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if FAULT == "child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        sys.stderr.write(f"child {child.pid}\n")
        sys.stderr.flush()
    if FAULT == "slow-start":
        time.sleep(1.5)
    if FAULT == "crash":
        sys.stderr.write("cannot open the database at /srv/db\n")
        sys.exit(7)
    if FAULT == "never":
        time.sleep(600)


def listed() -> dict[str, Any]:
    if FAULT == "bad-list":
        return {"tools": [{"name": "say", "inputSchema": "none"}]}
    if FAULT == "endless-list":
        return {"tools": [SAY] * 200, "nextCursor": "again"}
    return {"tools": [SAY]}


def main() -> None:
    begin()
    for line in sys.stdin:
        message = json.loads(line)
        request = message.get("id")
        if FAULT == "garbage":
            write("Loading… {not json")
            write('{"jsonrpc": "1.0"}')
        match message.get("method"):
            case "initialize":
                answer(request, VERSION)
            case "tools/list":
                answer(request, listed())
            case "tools/call":
                called(request)
            case _ if request is not None:
                error = {"code": -32601, "message": "Method not found"}
                write(json.dumps({"jsonrpc": "2.0", "id": request, "error": error}))
    if FAULT in ("stubborn", "child"):
        time.sleep(600)


if __name__ == "__main__":
    main()
