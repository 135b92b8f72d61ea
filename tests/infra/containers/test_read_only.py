"""A root file system that is read-only is enough: whatever the process does, it writes below /tmp and the volume alone.

The interpreter itself tells of every file that is opened to be written, made, renamed or removed (an audit hook), and
the files of the image are the same afterwards.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
from tests.infra.containers.image import Image
from tests.support.ports import free_port

KEY = "the-key-of-internal-calls"
PROVIDERS = ("anthropic", "openai", "gemini")
HOOK = """
import os, sys
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ONE = ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "sqlite3.connect")
_PATHS = {"os.rename": 2, "os.link": 2, **dict.fromkeys(_ONE, 1)}
_log = os.open(os.environ["WRITES"], os.O_WRONLY | os.O_APPEND)

def _note(event, args):
    found = args[: _PATHS.get(event, 0)]
    if event == "open" and isinstance(args[2], int) and args[2] & _WRITING:
        found = args[:1]
    elif event == "socket.bind" and isinstance(args[1], (str, bytes)):
        found = args[1:2]
    for path in found:
        if isinstance(path, (str, bytes, os.PathLike)):
            os.write(_log, os.path.abspath(os.fsdecode(path)).encode() + b"\\n")

sys.addaudithook(_note)
"""


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


def config(unreachable: str) -> dict[str, Any]:
    real = {name: {"api_key": "not-a-key", "base_url": unreachable, "max_retries": 0} for name in PROVIDERS}
    return {
        "server": {"log_format": "json"},
        "providers": {"scripted": {"models": {"brief": [{"text": "Hello."}]}}, **real},
    }


def manifest() -> dict[str, Any]:
    agents = [{"name": name, "provider": name, "model": "any"} for name in PROVIDERS]
    return {
        "apiVersion": "goagents.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": "demo"},
        "spec": {"agents": [{"name": "brief", "provider": "scripted", "model": "brief"}, *agents]},
    }


def work(http: httpx2.Client) -> None:
    """Have the gateway do all it does, with every provider's SDK."""
    assert http.get("/ready").status_code == 200
    assert http.post("/api/v1/clusters", json=manifest()).status_code == 201
    agents, hello = "/api/v1/agents/demo", {"message": "hi"}
    assert "Hello." in http.post(f"{agents}.brief/chat", json=hello).text
    assert "run.completed" in http.post(f"{agents}.brief/stream", json=hello).text
    assert http.post(f"{agents}.brief/runs", json=hello).status_code == 202
    for name in PROVIDERS:
        failed = http.post(f"{agents}.{name}/chat", json=hello).json()
        assert failed["code"] == "provider_connection_failed", failed
    assert http.post("/sweep", headers={"authorization": f"Bearer {KEY}"}).status_code == 200
    assert "goagents_runs_total" in http.get("/metrics").text


def test_nothing_is_written_outside_tmp_and_the_volume(tmp_path: Path):
    image = Image.read()
    app, hooks, writes, log = (tmp_path / name for name in ("app", "hooks", "writes", "log"))
    allowed = [tmp_path / "tmp", tmp_path / "volume"]
    for folder in (hooks, *allowed):
        folder.mkdir()
    image.lay_out(app)
    (hooks / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    writes.touch()
    (tmp_path / "config.json").write_text(json.dumps(config(f"http://127.0.0.1:{free_port()}")), encoding="utf-8")
    before = digests(app)
    environment = {
        "GOAGENTS_CONFIG": str(tmp_path / "config.json"),
        "GOAGENTS_STORE": f"sqlite:///{tmp_path}/volume/goagents.db",
        "GOAGENTS_INTERNAL_KEY": KEY,
        "PYTHONPATH": str(hooks),
        "TMPDIR": str(tmp_path / "tmp"),
        "XDG_RUNTIME_DIR": str(tmp_path / "tmp"),  # /tmp in the image
        "WRITES": str(writes),
    }
    with image.running(app, environment, log) as server:
        with httpx2.Client(base_url=server.url, timeout=30, trust_env=False) as http:
            work(http)
        server.process.terminate()
        assert server.process.wait(60) == 0
    written = {Path(line) for line in writes.read_text(encoding="utf-8").splitlines()}
    assert tmp_path / "volume" / "goagents.db" in written  # the hook sees
    stray = [path for path in written if path != Path("/dev/null") and not any(map(path.is_relative_to, allowed))]
    assert stray == []
    assert digests(app) == before
    assert "HOME" not in image.here({})
