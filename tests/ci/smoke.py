"""`make run` as on a fresh machine: an empty HOME, a virtual environment made from nothing, no key, no account.

Runs the curl line that it prints, then ends it and looks that nothing is left.

    python -m tests.ci.smoke
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from tests.benchmarks.servers import ROOT
from tests.support.ports import free_port

START_TIMEOUT = 600.0  # seconds; it installs everything
DROPPED = (
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "GOOGLE_API_KEY",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "MAKEFLAGS",
    "MAKELEVEL",
)


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """The output up to the line with `text`. Raises RuntimeError with the output if it ends before."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        sys.stdout.write(f"  | {line}")
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise RuntimeError(f"make run ended with status {process.wait()} before it printed {text!r}")


def curl_line(output: str) -> str:
    begin = output.rindex("curl -s")
    return output[begin : output.index("\n\n", begin)]


def check_answer(command: str) -> None:
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True).stdout
    sys.stdout.write(f"  $ {command}\n  {answer}\n")
    body = json.loads(answer)
    text = "".join(part.get("text", "") for part in body["message"]["parts"])
    if "Order 1001" not in text:
        raise RuntimeError(f"the agent did not look the order up: {answer}")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="goagents-smoke-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        environment = {name: value for name, value in os.environ.items() if name not in DROPPED} | {"HOME": str(home)}
        command = ["make", "--no-print-directory", f"VENV={folder}/venv", f"PORT={free_port()}", "run"]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        watchdog = threading.Timer(START_TIMEOUT, process.terminate)
        watchdog.start()
        begun = time.monotonic()
        try:
            output = read_until(process, "Ctrl-C ends it.")
            sys.stdout.write(f"  serving after {time.monotonic() - begun:.0f} s, installation included\n")
            if "SCRIPTED" not in output:
                raise RuntimeError("make run did not say that it uses the scripted model")
            check_answer(curl_line(output))
        finally:
            watchdog.cancel()
            started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
        left = psutil.wait_procs(started, timeout=10)[1]
        if left:
            raise RuntimeError(f"make run left processes: {left}")
        sys.stdout.write(f"  ended; {len(started)} processes, none left\n")


if __name__ == "__main__":
    main()
