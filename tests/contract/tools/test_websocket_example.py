"""The websocket example: its own test passes, run as its README says, and its script and cluster fit together."""

import subprocess
import sys
from pathlib import Path

from goagents.spec.load import load_files
from goagents.spec.tools import WebsocketToolSpec

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "websocket"


def test_its_own_test_passes():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/websocket"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_it_runs_on_the_script_without_a_key():
    loaded = load_files([EXAMPLE / "config.yaml", EXAMPLE / "cluster.yaml"], environ={})
    (agent,) = loaded.clusters[0].spec.agents
    scripted = loaded.config.providers.scripted
    assert scripted is not None
    assert agent.model in scripted.models
    assert [tool.name for tool in agent.tools if isinstance(tool, WebsocketToolSpec)] == ["price", "watch_price"]
    assert loaded.warnings == ()
