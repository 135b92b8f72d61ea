"""What a deployment from source does, done here: what gcloud would upload is installed as Google's buildpack installs
it, in a clean environment, and each function is started as its launcher starts it.

    python -m tests.ci.source_deploy                     everything: minutes, and the network
    python -m tests.ci.source_deploy --requirements      print requirements.txt, made of pyproject.toml

What Cloud Build gets has its tests collected; tests/infra/gcp/test_uploads.py has gcloud submit it.

The steps are those of the Python buildpacks (github.com/GoogleCloudPlatform/buildpacks, cmd/python):
functions_framework looks for the source file and compiles everything, pip installs requirements.txt and runs `pip
check`, and the process is `functions-framework` without arguments, told by FUNCTION_TARGET and FUNCTION_SOURCE.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from tests.benchmarks.servers import ROOT, Server, await_port, stop
from tests.support.google_api_state import identity_token
from tests.support.ports import free_port

from goagents.deploy.catalogue import Function, catalogue, select
from goagents.deploy.smoke import fault_of
from goagents.deploy.target import Target

WORK = ROOT / "build" / "source-deploy"
INSTALL_TIMEOUT = 900.0
HEAD = """\
# What a deployment from source installs; made by: python -m tests.ci.source_deploy --requirements > requirements.txt
#
# Google's buildpack keeps what it installed for as long as this file is the same. So the dependencies are written out,
# and the package itself is installed by reference: its code is always that of the upload. functions-framework has to
# stand here, or the buildpack installs an older Flask, click and uvicorn with its own.
--editable .
"""


def requirements() -> str:
    """Return requirements.txt: what the extra `all` of pyproject.toml comes to."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    names = extras["all"][0].partition("[")[2].rstrip("]").split(",")
    found = {*project["dependencies"], *(each for name in names for each in extras[name])}
    return HEAD + "".join(f"{each}\n" for each in sorted(found))


def uploaded_files(tree: Path = ROOT) -> list[str]:
    """Return what gcloud would upload of a tree with its `.gcloudignore`, by its own word."""
    with tempfile.TemporaryDirectory() as folder:
        said = run(["gcloud", "meta", "list-files-for-upload", "."], tree, CLOUDSDK_CONFIG=folder)
    return sorted(filter(None, said.splitlines()))


def tracked_files(*more: str) -> list[str]:
    """Return what git holds, as far as it is there; `more` are options of `git ls-files`."""
    said = run(["git", "ls-files", "-z", "--cached", *more], ROOT)
    return sorted(name for name in said.split("\0") if name and (ROOT / name).is_file())


def tree_of(names: Iterable[str], folder: Path) -> Path:
    """Make a tree of links to files of the repository."""
    for name in names:
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(ROOT / name)
    return folder


def copy_upload(files: Iterable[str], workspace: Path) -> None:
    for name in files:
        target = workspace / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)


def run(command: list[str], cwd: Path, **changes: str) -> str:
    """Run a command to its end. Raises RuntimeError with what it said where it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment | changes,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def build(workspace: Path, venv: Path) -> None:
    """Do what the buildpacks do, after they have found the source file of each function."""
    for function in catalogue().values():
        if not (workspace / function.source).is_file():
            raise RuntimeError(f"{function.source} is not uploaded")
    if not (workspace / "main.py").is_file():
        raise RuntimeError("main.py is not uploaded: gcloud refuses a source without it")
    run([sys.executable, "-m", "venv", str(venv)], ROOT)
    python = str(venv / "bin" / "python3")
    run([python, "-m", "compileall", "-f", "-q", "."], workspace)
    arguments = ["--requirement", "requirements.txt", "--upgrade", "--upgrade-strategy", "only-if-needed"]
    arguments += ["--no-warn-script-location", "--no-warn-conflicts", "--force-reinstall", "--no-compile"]
    run([python, "-m", "pip", "install", *arguments, "--disable-pip-version-check", "--quiet"], workspace)
    run([python, "-m", "compileall", "--invalidation-mode", "unchecked-hash", "-qq", str(venv / "lib")], workspace)
    run([python, "-m", "pip", "check"], workspace)
    where = run([python, "-c", "import goagents; print(goagents.__file__)"], WORK).strip()
    if not Path(where).is_relative_to(workspace):
        raise RuntimeError(f"the package is at {where}: the next deployment would run this one's code")


@contextmanager
def launched(function: Function, workspace: Path, venv: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """A function, started as the launcher of its container starts it; HOST keeps it on this machine."""
    port = free_port()
    own = {"PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOST": "127.0.0.1", "PORT": str(port)}
    own |= {"FUNCTION_TARGET": function.name, "FUNCTION_SOURCE": function.source, "K_SERVICE": function.name}
    log = WORK / f"{function.name}.log"
    with log.open("w", encoding="utf-8") as output:
        process = psutil.Popen(
            ["functions-framework"],
            cwd=workspace,
            env={"HOME": str(workspace.parent), **environment, **own},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            server = Server(process, port)
            await_port(server)
            yield server
        except RuntimeError as error:
            raise RuntimeError(f"{function.name}: {error}:\n{log.read_text(encoding='utf-8')[-3000:]}") from error
        finally:
            stop(process)


def check(function: Function, workspace: Path, venv: Path) -> None:
    """Start a function with the variables of its deployment and ask it what a release asks. Raises RuntimeError."""
    target = Target(project="my-project", region="europe-west1", functions=select(), number="123456789")
    environment = target.environment(function) | {
        "GOAGENTS_STORE": f"sqlite:///{WORK}/state.db",
        "GOAGENTS_OFFLINE": "1",
    }
    begun = time.monotonic()
    with launched(function, workspace, venv, environment) as server:
        fault = fault_of(server.url, function, identity_token("ann@example.com", server.url))
    if fault:
        raise RuntimeError(f"{function.name}: {fault}\n{(WORK / f'{function.name}.log').read_text()[-3000:]}")
    smoke = function.smoke
    took = time.monotonic() - begun
    sys.stdout.write(f"  {function.name}: {smoke.method} {smoke.path} {smoke.status} ({took:.1f} s)\n")


def check_build() -> None:
    """Collect, from what Cloud Build gets, the tests that its first step runs. Raises RuntimeError."""
    workspace = WORK / "build"
    copy_upload(tracked_files("--others", "--exclude-standard"), workspace)
    run(["make", "--dry-run", "test", "lint", "security", "build"], workspace)
    collect = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider"]
    said = run(collect, workspace, PYTHONPATH=str(workspace / "shared"))
    sys.stdout.write(f"  Cloud Build: {said.strip().splitlines()[-1]}\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requirements", action="store_true")
    if parser.parse_args().requirements:
        sys.stdout.write(requirements())
        return
    shutil.rmtree(WORK, ignore_errors=True)
    workspace, venv = WORK / "workspace", WORK / "venv"
    workspace.mkdir(parents=True)
    files = uploaded_files()
    copy_upload(files, workspace)
    size = sum((workspace / name).stat().st_size for name in files)
    sys.stdout.write(f"  gcloud would upload {len(files)} files, {size / 1024:.0f} KiB\n")
    begun = time.monotonic()
    build(workspace, venv)
    sys.stdout.write(f"  installed as the buildpack does in {time.monotonic() - begun:.0f} s\n")
    for function in catalogue().values():
        check(function, workspace, venv)
    check_build()
    shutil.rmtree(WORK)


if __name__ == "__main__":
    main()
