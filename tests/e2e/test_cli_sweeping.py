"""`goagents run` goes on with what an earlier one left behind: it is its own scheduler."""

import signal
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.cli_process import goagents, gone, running

AGENT = "/api/v1/agents/hello.assistant"
RUNS = "runs: {lease_ttl: 500ms, dispatch_grace: 200ms, sweep_interval: 200ms}\n"
TLS = "  tls: {cert: cert.pem, key: key.pem}\n"


@pytest.fixture(params=["http", "https"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    assert goagents("init", cwd=tmp_path).returncode == 0
    config = (tmp_path / "config.yaml").read_text().replace("        - text: ", "        - delay: 1s\n          text: ")
    if request.param == "https":
        new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        files = ["-keyout", "key.pem", "-out", "cert.pem", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run([*new, *files], cwd=tmp_path, check=True, capture_output=True)
        config = config.replace("server:\n", f"server:\n{TLS}")
    (tmp_path / "config.yaml").write_text(config + RUNS)
    return tmp_path


def ask(folder: Path, method: str, url: str, **options: Any) -> httpx2.Response:
    certificate = folder / "cert.pem"
    trust: ssl.SSLContext | bool = False
    if certificate.exists():
        trust = ssl.create_default_context(cafile=str(certificate))
    return httpx2.request(method, url, verify=trust, trust_env=False, timeout=60, **options)


def ended(folder: Path, url: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while (run := ask(folder, "GET", url).json())["finished_at"] is None and time.monotonic() < until:
        time.sleep(0.05)
    found: dict[str, Any] = run
    return found


def test_a_run_left_behind_is_gone_on_with(folder: Path):
    with running(cwd=folder) as server:
        answer = ask(folder, "POST", f"{server.url}{AGENT}/runs", json={"message": "hi"})
        assert answer.status_code == 202, answer.text
        run = answer.json()["id"]
        time.sleep(0.3)
        started = server.descendants()
        for process in started:
            process.send_signal(signal.SIGKILL)
        assert gone(started)
    with running(cwd=folder) as server:
        found = ended(folder, f"{server.url}/api/v1/runs/{run}")
        assert (found["status"], found["attempt"]) == ("succeeded", 2)
        time.sleep(0.3)  # what is said of it is written
        said = server.printed
        time.sleep(0.6)
        assert server.printed == said  # sweeps that find nothing say nothing
        assert server.end() == 0
        assert "left behind are not looked for" not in server.printed


def test_the_key_that_is_set_is_the_key(folder: Path):
    with running(cwd=folder, env={"GOAGENTS_INTERNAL_KEY": "the-internal-key"}) as server:
        for key, status in (("the-internal-key", 200), ("guessed", 401)):
            answer = ask(folder, "POST", f"{server.url}/sweep", headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == status
        assert "the-internal-key" not in server.printed
    with running(cwd=folder) as server:
        assert ask(folder, "POST", f"{server.url}/sweep").status_code == 401
