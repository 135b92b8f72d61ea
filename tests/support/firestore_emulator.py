"""Google's Firestore emulator, started by whoever needs it, on a free port of 127.0.0.1, and ended by process id.

    with firestore_emulator() as address:      # "127.0.0.1:PORT"
        os.environ["FIRESTORE_EMULATOR_HOST"] = address

One takes some 400 MB and 3 s to start: have one for many tests, and a fresh project id for each of them.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.support.ports import free_port

_JAR = Path("platform", "cloud-firestore-emulator", "cloud-firestore-emulator.jar")
_MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
_START_SECONDS = 60.0
REMEDY = (
    "the Firestore emulator is not installed: get Java 11 or newer and run `gcloud components install "
    "cloud-firestore-emulator` (Debian: apt-get install google-cloud-cli-firestore-emulator default-jre-headless), "
    "or set GOAGENTS_FIRESTORE_EMULATOR_JAR"
)


def emulator_jar() -> Path | None:
    """Where the emulator lies on this machine; None where it is not installed."""
    if named := os.environ.get("GOAGENTS_FIRESTORE_EMULATOR_JAR"):
        return Path(named) if Path(named).is_file() else None
    return next((root / _JAR for root in _sdk_roots() if (root / _JAR).is_file()), None)


def _sdk_roots() -> Iterator[Path]:
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return
    yield Path(gcloud).resolve().parents[1]
    asked = subprocess.run(  # slow, so only where the place beside the command is not it
        [gcloud, "info", "--format=value(installation.sdk_root)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if asked.returncode == 0 and asked.stdout.strip():
        yield Path(asked.stdout.strip())


def missing() -> str | None:
    """Why the emulator cannot run here and how to get it; None where it can."""
    return None if shutil.which("java") and emulator_jar() else REMEDY


@contextlib.contextmanager
def firestore_emulator() -> Iterator[str]:
    """Run an emulator; yields its `host:port`. Raises RuntimeError where it is missing or does not start."""
    java, jar = shutil.which("java"), emulator_jar()
    if java is None or jar is None:
        raise RuntimeError(REMEDY)
    port = free_port()
    command = [java, "-Duser.language=en", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", str(jar), _MAIN]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*command, "--host=127.0.0.1", f"--port={port}"], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait_until_ready(process, port, output)
            yield f"127.0.0.1:{port}"
        finally:
            _end(process)


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, output: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            output.seek(0)
            raise RuntimeError(
                f"The Firestore emulator ended at once: {output.read()[-2000:].decode(errors='replace')}"
            )
        if _answers(port):
            return
        time.sleep(0.1)
    raise RuntimeError(f"The Firestore emulator was not ready after {_START_SECONDS:g} s.")


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1) as answer:
            return bool(answer.read().strip() == b"Ok")
    except OSError:
        return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=60)
