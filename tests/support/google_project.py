"""A project of Google Cloud on loopback, and the real gcloud signed in to it."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.cli_process import GOAGENTS, environment
from tests.support.gcloud_zygote import zygote
from tests.support.google_api import OWNER, GoogleApi
from tests.support.google_api_state import PROJECT, REGION

ROOT = Path(__file__).parents[2]
TIMEOUT = 300.0
WHERE = ("--platform", "gcp", "--project", PROJECT, "--region", REGION)
needs_gcloud = pytest.mark.skipif(
    not shutil.which("gcloud"), reason="gcloud is not installed: https://cloud.google.com/sdk/docs/install"
)


@contextmanager
def google_project(folder: Path) -> Iterator[GoogleApi]:
    """Sign gcloud in as the project's owner, by a service account's key: with tokens of its own, as everywhere."""
    with GoogleApi(folder, programs=zygote().folder) as google:
        google.cloud.owners.add(OWNER)
        gcloud(google, "auth", "activate-service-account", f"--key-file={google.key}")
        google.requests.clear()
        yield google


def gcloud(google: GoogleApi, *arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        ["gcloud", *arguments, "--quiet"],
        cwd=cwd,
        env=os.environ | google.environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def goagents(
    google: GoogleApi, *arguments: str | Path, command: Sequence[str] = GOAGENTS, **changes: str
) -> "subprocess.CompletedProcess[str]":
    """Run our command line in the repository, with gcloud and the network leading to `google`."""
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env=environment(**google.environment | changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
