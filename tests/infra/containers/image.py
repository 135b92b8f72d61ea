"""The image as the Dockerfile describes it, without Docker: what its last stage is, and what it has of ours.

    image = Image.read()
    image.lay_out(folder)                  # the files of its working directory
    with image.running(folder, {...}) as server:

The files are those that `.dockerignore` lets through; the command is the image's own.
"""

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from json import loads
from pathlib import Path
from typing import Self

import psutil
from tests.benchmarks.servers import ROOT, Server, await_port, stop
from tests.support.ports import free_port

DOCKERFILE = ROOT / "infra" / "docker" / "Dockerfile"
BIN = Path(sys.executable).parent  # where pip put functions-framework: in the image, /opt/goagents/bin


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions in order, as keyword and argument; a continued line is one."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    pairs = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(keyword.upper(), " ".join(rest.split())) for keyword, _, rest in pairs]


def ignored(path: str, patterns: list[str] | None = None) -> bool:
    """Whether Docker leaves `path` (relative, with `/`) out of the build: the last pattern that matches decides."""
    if patterns is None:
        lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    out = False
    parts = path.split("/")
    above = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    for pattern in patterns:
        if any(_matches(each, pattern.removeprefix("!")) for each in above):
            out = not pattern.startswith("!")
    return out


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return any(_matches("/".join(path.split("/")[skip:]), pattern[3:]) for skip in range(path.count("/") + 1))
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


@dataclass
class Image:
    """The last stage of the Dockerfile."""

    user: str = ""
    folder: str = "/"
    stop_signal: str = ""
    entrypoint: list[str] = field(default_factory=list)
    health_check: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    copied: list[tuple[list[str], str]] = field(default_factory=list)  # sources of the context, destination

    @classmethod
    def read(cls) -> Self:
        image = cls()
        for keyword, argument in instructions(DOCKERFILE.read_text(encoding="utf-8")):
            if keyword == "FROM":
                image = cls()
            image._take(keyword, argument)
        return image

    def _take(self, keyword: str, argument: str) -> None:
        match keyword:
            case "USER":
                self.user = argument
            case "WORKDIR":
                self.folder = argument
            case "STOPSIGNAL":
                self.stop_signal = argument
            case "ENTRYPOINT":
                self.entrypoint = loads(argument)  # the exec form is JSON
            case "HEALTHCHECK":
                self.health_check = loads(argument.partition("CMD ")[2])
            case "ENV" | "LABEL":
                pairs = dict(part.split("=", 1) for part in shlex.split(argument))
                (self.environment if keyword == "ENV" else self.labels).update(pairs)
            case "COPY" if not argument.startswith("--from"):
                *sources, destination = argument.split()
                self.copied.append((sources, destination))
            case _:
                pass

    def lay_out(self, folder: Path) -> None:
        """Copy into `folder` what the image has in its working directory."""
        for sources, destination in self.copied:
            for source in sources:
                at = folder / destination / Path(source).name if destination.endswith("/") else folder / destination
                if (ROOT / source).is_file():
                    at.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / source, at)
                else:
                    shutil.copytree(ROOT / source, at, ignore=_left_out)

    def here(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return the container's environment, its HOME unset, with this machine's places for the image's."""
        places = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "XDG_RUNTIME_DIR": tempfile.gettempdir()}
        return self.environment | places | {"GOAGENTS_OFFLINE": "1", "HOST": "127.0.0.1"} | dict(more)

    @contextmanager
    def running(self, folder: Path, more: Mapping[str, str], log: Path) -> Iterator[Server]:
        """Start the entrypoint in `folder` on a free port; yield once it listens."""
        port = free_port()
        command = [str(BIN / self.entrypoint[0]), *self.entrypoint[1:]]
        with log.open("w", encoding="utf-8") as output:
            process = psutil.Popen(
                command,
                env=self.here({**more, "PORT": str(port)}),
                cwd=folder,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                server = Server(process, port)
                await_port(server)
                yield server
            finally:
                stop(process)


def _left_out(folder: str, names: list[str]) -> set[str]:
    inside = Path(folder).relative_to(ROOT).as_posix()
    return {name for name in names if ignored(f"{inside}/{name}")}
