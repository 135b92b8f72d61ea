"""Runs gcloud: one command at a time, its arguments as they are, without a shell. Standard library only."""

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from goagents.errors import GoAgentsError

READ_TIMEOUT = 60.0  # seconds
WRITE_TIMEOUT = 300.0
PAUSES = (2.0, 5.0, 10.0, 20.0)  # seconds before gcloud is asked again
_SAID = 600  # characters of what gcloud said
# What takes its time: Firestore changes a field once at a time, and takes no second change while the first goes on.
_UNDER_WAY = re.compile(
    r"\boperations?\b.*\b(in progress|pending|ongoing)\b|underlying data changed|is being (creat|updat|delet)ed",
    re.IGNORECASE,
)
WAITS = (5.0, 10.0, *[20.0] * 28)  # seconds between attempts, ten minutes in all
# What passes by itself: accounts and interfaces that were made a moment ago are not known everywhere yet.
_PASSING = re.compile(
    r"does not exist\.?$|you just created the queue|has not been used in project|is disabled\. Enable it"
    r"|SERVICE_DISABLED|concurrent policy changes|\bABORTED\b|\bUNAVAILABLE\b|RESOURCE_EXHAUSTED"
    r"|HttpError accessing .*response: <\{.*'status': '(429|5\d\d)'"
    r"|[Ii]nternal error|Deadline expired",
    re.MULTILINE,
)
_REMEDIES = {
    r"do not currently have an active account|Reauthentication|invalid_grant|refreshing your current auth": (
        "sign in by `gcloud auth login`"
    ),
    r"existed too recently": (
        "the queue was deleted a few days ago, and Google bars its name until they are over: deploy under another "
        "--prefix, or wait (destroy keeps the queue unless it is told --queue)"
    ),
    r"PERMISSION_DENIED|does not have permission|\b403\b": (
        "the account of `gcloud auth list` lacks a right: an owner of the project has all that is needed"
    ),
    r"AllocPerProjectRegion|Max instances must be set|maxScale may not exceed": (
        "a function's most instances x its CPU and memory are more than the project's quota in this region: fewer by "
        "--max-instances, or ask for a larger quota: https://cloud.google.com/run/quotas"
    ),
    r"[Bb]illing": "link a billing account: gcloud billing projects link PROJECT --billing-account=ACCOUNT",
    r"not found or deleted|CONSUMER_INVALID|Project .*not found": "see which projects there are: gcloud projects list",
}


class GcloudFailed(GoAgentsError):
    """gcloud did not do what it was asked."""

    code: ClassVar[str] = "gcloud_failed"


class Gcloud:
    """gcloud, for one project. `sleep` pauses between attempts of what passes by itself."""

    def __init__(
        self,
        project: str,
        *,
        directory: Path | None = None,
        binary: str = "gcloud",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._project = project
        self._directory = directory
        self._binary = binary
        self._sleep = sleep

    def read(self, argv: Sequence[str], *, timeout: float = READ_TIMEOUT) -> Any:
        """Return what a command says as JSON, None where it says nothing. Raises GcloudFailed."""
        said = self.run([*argv, "--format=json"], timeout=timeout)
        try:
            return json.loads(said) if said.strip() else None
        except ValueError as fault:
            raise GcloudFailed(f"{_shown(argv)}: what it said is no JSON: {said[:100]!r}") from fault

    def run(self, argv: Sequence[str], *, timeout: float = WRITE_TIMEOUT) -> str:
        """Run a command and return its output. `timeout` is that of each attempt, in seconds.

        What passes by itself is tried again for a while, and longer what waits for an operation that is under way.

        Raises GcloudFailed with what gcloud said, and what helps.
        """
        pauses = {pattern: iter(each) for pattern, each in ((_UNDER_WAY, WAITS), (_PASSING, PAUSES))}
        while True:
            done = self._once(argv, timeout)
            if done.returncode == 0:
                return done.stdout
            said = _errors(done.stderr)
            pause = next((next(left, None) for pattern, left in pauses.items() if pattern.search(said)), None)
            if pause is None:
                break
            self._sleep(pause)
        raise GcloudFailed(f"{_shown(argv)}: {said or f'exit status {done.returncode}'}{_remedy(said)}")

    def _once(self, argv: Sequence[str], timeout: float) -> "subprocess.CompletedProcess[str]":
        found = shutil.which(self._binary)
        if found is None:
            raise GcloudFailed("gcloud is not installed: see https://cloud.google.com/sdk/docs/install")
        try:
            return subprocess.run(  # noqa: S603 - no shell, and arguments that were checked
                [found, *argv, f"--project={self._project}", "--quiet"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                cwd=self._directory,
                check=False,
            )
        except subprocess.TimeoutExpired as fault:
            raise GcloudFailed(
                f"{_shown(argv)}: no answer within {timeout:g} s; run the command again, it goes on where it was"
            ) from fault
        except OSError as fault:
            raise GcloudFailed(f"{_shown(argv)}: {fault.strerror}") from fault


def _shown(argv: Sequence[str]) -> str:
    """The command, without options that would hide what went wrong with it."""
    return shlex.join(["gcloud", *(part for part in argv if not part.startswith("--"))])


def _errors(stderr: str) -> str:
    """What gcloud says from its first error on: before it stand progress and warnings."""
    begin = stderr.find("ERROR:")
    text = stderr[begin:].strip() if begin >= 0 else stderr.strip()
    text = re.sub(r"^ERROR: (\(gcloud[^)]*\) )?", "", text)
    return text if len(text) <= _SAID else f"{text[:_SAID]} …"


def _remedy(said: str) -> str:
    return next((f"\n  {remedy}" for pattern, remedy in _REMEDIES.items() if re.search(pattern, said)), "")
