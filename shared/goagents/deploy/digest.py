"""A digest of what a function is made of: the same digest in the cloud means there is nothing to deploy."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

# What ends up in a function. Documents, tests and examples do not change it.
PARTS = ("pyproject.toml", "requirements.txt", ".gcloudignore", "functions", "shared")
_SUFFIXES = {".py", ".json", ".yaml", ".yml", ".toml", ".txt"}
_LENGTH = 24


def digest(source: Path, config: str, settings: Iterable[str]) -> str:
    """Return a digest of the source, the configuration and the settings of a deployment, fit for a label."""
    made = hashlib.sha256(_source_digest(source.resolve(), config).encode())
    for setting in settings:
        made.update(b"\0" + setting.encode())
    return made.hexdigest()[:_LENGTH]


@cache
def _source_digest(source: Path, config: str) -> str:
    made = hashlib.sha256()
    for path in sorted({*_files(source), source / config}):
        made.update(f"{path.relative_to(source).as_posix()}\0".encode())
        made.update(hashlib.sha256(path.read_bytes()).digest())
    return made.hexdigest()


def _files(source: Path) -> Iterator[Path]:
    for part in PARTS:
        path = source / part
        if path.is_file():
            yield path
        else:
            yield from (each for each in path.rglob("*") if each.suffix in _SUFFIXES and each.is_file())
