"""Makes the keys that Compose starts with, once: none of them is the same on two machines, and none is committed.

    python infra/compose/prepare.py

`.env` has what the services get, `secrets/api_key` is yours, `secrets/metrics_key` is Prometheus'.
"""

import hashlib
import os
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).parent
PREFIX = "gak_"


def write(path: Path, text: str, mode: int) -> None:
    """Write a new file that has `mode` from the first byte on. Raises FileExistsError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
    path.chmod(mode)  # whatever the umask took away


def prepare(folder: Path) -> bool:
    """Return whether keys were made: where `.env` exists, all stays as it is."""
    if (folder / ".env").exists():
        return False
    own, metrics, internal, password = (PREFIX + secrets.token_urlsafe(32) for _ in range(4))
    kept = folder / "secrets"
    kept.mkdir(mode=0o700, exist_ok=True)
    for name in ("api_key", "metrics_key"):
        (kept / name).unlink(missing_ok=True)
    write(kept / "api_key", own, 0o600)
    write(kept / "metrics_key", metrics, 0o644)  # Prometheus' user reads it; others are kept out by the folder
    lines = {
        "GOAGENTS_KEY_HASH": digest(own),
        "GOAGENTS_METRICS_KEY_HASH": digest(metrics),
        "GOAGENTS_INTERNAL_KEY": internal,
        "GRAFANA_PASSWORD": password.removeprefix(PREFIX),
    }
    write(folder / ".env", "".join(f"{name}={value}\n" for name, value in lines.items()), 0o600)
    return True


def digest(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


if __name__ == "__main__":
    if prepare(HERE):
        sys.stderr.write(f"The keys are made: {HERE / '.env'}, and {HERE / 'secrets'}.\n")
